"""What the journal has of the service: fields to ask for, priorities; and never a prompt or an answer."""

import contextlib
import json
import os
import re
import time
from typing import Any

import pytest
from ingled.testing import DaemonFixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CANARY = "xylophone-quartz-7319"
PLUGIN = """
from ingled.hooks import Hook, changed, hookimpl

HOOK = Hook(deadline_ms=30_000, on_error="skip")

@hookimpl
def ingled_prompt(messages):
    text = messages[-1]["content"]
    if "raise" in text:
        raise ValueError(text)
    return changed([*messages[:-1], {"role": "user", "content": text + " xylophone-quartz-7319"}])

@hookimpl
def ingled_answer(answer):
    raise RuntimeError(answer["text"])
"""

RUN = """
import sys
from ingle import Client, IngleError
canary = sys.argv[1]
with Client("/run/ingle/ingle.sock", timeout=60) as client:
    print(client.chat(f"say {canary}", model="slow").text)
    for delta in client.chat(f"stream {canary} " * 20, model="slow", stream=True):
        pass
    client.chat(f"raise {canary}", model="slow")
    odd = ((f"{canary} " * 10_000, {}), (canary, {"temperature": -5}), (canary, {"model": f"no-{canary[:3]}"}))
    for text, options in odd:
        try:
            client.chat(text, **({"model": "slow"} | options))
        except IngleError as error:
            print("refused:", type(error).__name__)
    for _ in range(6):
        client.chat(f"raise {canary}", model="slow")
with Client("/run/ingle/ingle.sock", timeout=60) as client:
    try:
        client.chat(f"to one that dies {canary}", model="dying")
    except IngleError as error:
        print("refused:", type(error).__name__)
"""

CONFIG = """
[daemon]
log_level = "debug"
[models.slow]
source = "builtin:ember"
preload = true
[models.dying]
source = "builtin:ember"
echo = {fail = "exit", fail_at = 1}
[models.broken]
source = "builtin:ember"
echo = {fail = "load"}
"""


def entries(box: Any, *words: str) -> list[dict[str, Any]]:
    """Return the journal's entries that match."""
    lines = box.out("journalctl", "--no-pager", "-o", "json", "--all", *words).splitlines()
    return [json.loads(line) for line in lines]


def now(box: Any) -> str:
    """Return a place in the journal, to ask for what comes behind it."""
    box.run("journalctl", "--sync")
    return f"--since=@{time.time():.6f}"


@pytest.fixture
def talk(box: Any) -> Any:
    """A daemon at debug level that was asked all sorts of things with the canary in it, and a plugin that fails."""
    box.write("/etc/ingle/ingled.toml", CONFIG)
    box.write("/etc/ingle/plugins/leaky.py", PLUGIN)
    since = now(box)
    box.run("systemctl", "start", "ingled")
    said = box.python(RUN, CANARY)
    assert said.splitlines()[0] == f"say {CANARY} {CANARY}", "the plugin takes part"
    assert said.count("refused") == 4
    box.ingle("load", "broken", check=False)
    box.run("systemctl", "restart", "ingled")
    box.run("systemctl", "stop", "ingled")
    box.run("journalctl", "--sync")
    yield since
    box.run("rm", "/etc/ingle/plugins/leaky.py")


def test_no_field_of_the_journal_has_a_prompt_or_an_answer_even_at_debug_level(box: Any, talk: str) -> None:
    found = entries(box, talk)
    assert len(found) > 40
    mine = [entry for entry in found if "ingle" in str(entry.get("SYSLOG_IDENTIFIER"))]
    assert len(mine) > 40
    assert [entry for entry in found if CANARY in json.dumps(entry)] == []
    logs = box.out("sh", "-c", "cat /run/ingle/ingle.sock.d/logs/* /run/ingle-hooks/logs/*")
    assert len(logs) > 100
    assert CANARY not in logs


def test_what_an_entry_is_about_can_be_asked_for(box: Any, talk: str) -> None:
    of_model = entries(box, talk, "MODEL=slow")
    assert {"model 'slow': cold -> loading (wanted)", "model 'slow': loading -> ready (worker ready)"} <= {
        entry["MESSAGE"] for entry in of_model
    }
    everybody = {"ingled", "ingle-nursery", "ingle-worker"}
    box.until(lambda: {entry["SYSLOG_IDENTIFIER"] for entry in entries(box, talk, "MODEL=slow")} == everybody)
    of_account = entries(box, talk, "ACCOUNT=uid:0")
    request = next(entry["REQUEST_ID"] for entry in of_account if "REQUEST_ID" in entry)
    of_request = entries(box, talk, f"REQUEST_ID={request}")
    assert {"filtering", "running"} <= {entry["MESSAGE"].rpartition(": ")[2] for entry in of_request}
    assert {entry["PRIORITY"] for entry in of_request} == {"7"}
    warned = entries(box, talk, "HOOK=leaky", "PRIORITY=4")
    assert any("tripped" in entry["MESSAGE"] for entry in warned)
    failed = entries(box, talk, "MODEL=broken", "PRIORITY=3")
    assert any("loading -> failed" in entry["MESSAGE"] for entry in failed)


def test_ingle_logs_prints_what_there_is_and_follows(box: Any, talk: str) -> None:
    lines = box.ingle("logs", "-n", "all", "--model", "broken").stdout.splitlines()
    assert any("model 'broken': loading -> failed" in line for line in lines)
    assert not any("'slow'" in line for line in lines)
    following = box.spawn("/usr/local/bin/ingle", "logs", "-f", "-n", "1")
    assert following.stdout is not None
    pipe, read = following.stdout.fileno(), bytearray()
    os.set_blocking(pipe, False)

    def told(words: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            read.extend(os.read(pipe, 1 << 16))
        return words.encode() in read

    box.until(lambda: told(".service"))  # of whichever unit stopped last
    box.run("systemctl", "start", "ingled")
    box.until(lambda: told("listening at /run/ingle/ingle.sock"))


def test_ingle_logs_says_where_the_log_of_a_daemon_of_ones_own_is(box: Any) -> None:
    found = box.ingle("logs", "--socket", "/tmp/mine.sock", check=False)
    assert found.returncode == 2
    assert "standard error" in found.stderr


def test_outside_systemd_the_log_is_plain_standard_error() -> None:
    with DaemonFixture('[models.slow]\nsource = "builtin:ember"\n', environ={"JOURNAL_STREAM": "1:2"}) as daemon:
        daemon.json("load", "slow")
        text = daemon.log.read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO model 'slow': loading -> ready", text, re.MULTILINE)
