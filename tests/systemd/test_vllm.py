"""The real engine inside its sandbox: it loads, answers, survives a restart, and writes no prompt into the journal."""

import time
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(900)]

CANARY = "xylophone-quartz-7319"
CONFIG = """
[daemon]
log_level = "debug"
[models.ember]
source = "builtin:ember"
preload = true
"""
ASK = f"""
from ingle import Client
with Client("/run/ingle/ingle.sock", timeout=300) as client:
    for word in ("first", "second"):
        done = client.chat(f"{{word}} {CANARY}", model="ember", max_tokens=24)
        assert done.text and done.usage.completion > 0, done
    stream = client.chat("tell me of {CANARY}", model="ember", stream=True, max_tokens=64)
    text = "".join(delta.text for delta in stream)
    assert len(text) > 20
    print(repr(text))
"""


def test_vllm_works_in_the_sandbox_and_says_nothing_of_prompts(box: Any) -> None:
    box.write("/etc/ingle/ingled.toml", CONFIG)
    for unit, more in (("ingled", ""), ("ingle-nursery", "Environment=INGLE_LOG_LEVEL=debug\n")):
        lines = box.out("cat", f"/usr/local/lib/systemd/system/{unit}.service").splitlines()
        start = next(line for line in lines if line.startswith("ExecStart="))
        box.drop_in(f"{unit}.service", f"[Service]\nExecStart=\n{start}\n{more}")
    since = f"--since=@{time.time():.6f}"
    begin = time.monotonic()
    start_job = box.spawn("systemctl", "start", "ingled")
    assert start_job.communicate(timeout=600)[1] == "", box.journal()
    print(f"started, with the model warm, after {time.monotonic() - begin:.1f} s")
    before = box.json("models")["models"][0]["pid"]
    text = box.python(ASK)
    box.run("systemctl", "restart", "ingled")
    box.until(lambda: box.json("models")["models"][0]["pid"] == before)  # the model stayed warm
    box.python(ASK)
    box.run("systemctl", "stop", "ingled.socket", "ingled")
    box.run("journalctl", "--sync")
    journal = box.out("journalctl", "--no-pager", "-o", "export", since)
    logs = box.out("sh", "-c", "cat /run/ingle/ingle.sock.d/logs/*")
    assert "vllm" in logs.lower()
    assert len(journal) > 10_000
    for word in (CANARY, text[1:40]):
        assert word not in journal
        assert word not in logs
