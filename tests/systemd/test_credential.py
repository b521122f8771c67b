"""A secret comes from systemd: the signing key of `provenance`, which the service's account itself may not read."""

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
[models.slow]
source = "builtin:ember"
[plugins.provenance]
order = 950
on_error = "refuse"
[plugins.provenance.options]
key = "/run/credentials/ingled-hooks.service/provenance.key"
"""


def test_a_plugin_gets_its_key_as_a_credential(box: Any) -> None:
    box.run("sh", "-c", "rm -rf /etc/ingle/secret; mkdir -m 700 /etc/ingle/secret")
    keygen = ["/usr/local/lib/ingle/bin/python", "-P", "-m", "ingle_plugins.provenance", "keygen"]
    box.run(*keygen, "/etc/ingle/secret/provenance.key")
    for user in ("ingle", "ingle-hooks"):
        read = box.run("cat", "/etc/ingle/secret/provenance.key", user=user, check=False)
        assert "Permission denied" in read.stderr
    box.write("/etc/ingle/ingled.toml", CONFIG)
    box.drop_in("ingled-hooks.service", "[Service]\nLoadCredential=provenance.key:/etc/ingle/secret/provenance.key\n")
    box.run("systemctl", "start", "ingled")
    answer = json.loads(box.ingle("ask", "--json", "--no-stream", "sign this").stdout)
    print(box.out("sh", "-c", "ls -l /run/credentials/ingled-hooks.service/"))
    record = next(hook for hook in answer["hooks"] if "provenance" in hook.get("note", {}))
    box.write("/tmp/answer.json", json.dumps(answer))
    box.run("cp", "/etc/ingle/secret/provenance.key.pub", "/tmp/provenance.pub")
    said = box.ingle("verify", "/tmp/answer.json", "--key", "/tmp/provenance.pub").stdout
    assert "good" in said, record
    box.run("rm", "-rf", "/etc/ingle/secret")
