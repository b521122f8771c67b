"""`ingle rpc`: messages as lines of JSON, against a stand-in for the daemon."""

import json
import subprocess
from typing import Any

import pytest

from tests.client.answers import CHAT, TEXT, until


def test_rpc_carries_messages_and_stays_until_all_has_ended(ingle: Any, daemon: Any) -> None:
    lines = [
        json.dumps(CHAT | {"ref": 1, "credit": 2}),
        "nonsense",
        "[1]",
        json.dumps({"t": "call", "ref": 5, "x": "\ud800"}),
    ]
    lines.append(json.dumps({"t": "call", "ref": 2, "verb": "models", "args": {}}))
    lines.append(json.dumps({"t": "subscribe", "ref": 3, "topics": ["model"]} | {"credit": 1}))
    ran = ingle("rpc", input="\n".join(lines))  # the last line has no newline
    assert (ran.returncode, ran.stderr) == (0, "")
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    assert said[0]["t"] == "welcome"
    failed = [message for message in said if message["t"] == "failed"]
    assert [message["code"] for message in failed] == ["bad_message"] * 3
    assert failed[2]["ref"] == 5
    assert "".join(message.get("x", "") for message in said) == TEXT
    assert {"done", "result", "accepted"} <= {message["t"] for message in said}
    daemon.wait_for("bye")


def test_rpc_comes_back_after_a_restart(ingle: Any, daemon: Any) -> None:
    process = ingle.start("rpc", stdin=subprocess.PIPE)
    until(process.stdout.fileno(), b"welcome")
    daemon.restart()
    until(process.stdout.fileno(), b"welcome")
    process.stdin.write(json.dumps({"t": "call", "ref": 2, "verb": "models", "args": {}}).encode() + b"\n")
    process.stdin.flush()
    until(process.stdout.fileno(), b"cold-one")
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()
    process.stderr.close()


def test_rpc_may_linger(ingle: Any, daemon: Any) -> None:
    process = ingle.start("rpc", "--linger", stdin=subprocess.PIPE)
    process.stdin.write(json.dumps({"t": "subscribe", "ref": 3, "topics": ["model"], "credit": 1}).encode())
    process.stdin.close()
    until(process.stdout.fileno(), b"accepted")
    for _ in range(3):
        daemon.emit("model", {"model": "tiny"})
        until(process.stdout.fileno(), b"event")
    process.terminate()
    process.wait(60)
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"t":"call","verb":"status","ref":[1]}', "bad_value"),
        ('{"t":"call","verb":"status","ref":"\\ud800"}', "bad_value"),
        ('{"t":"call","verb":"status","ref":"a"}', "bad_value"),
        ('{"t":"call","verb":"status","ref":true}', "bad_value"),
        ('{"t":"call","verb":"status","ref":-1}', "bad_value"),
        ('{"t":"call","verb":"status","ref":9007199254740992}', "bad_value"),
        ('{"t":"call","verb":"status","ref":1.0}', "bad_value"),
        ('{"t":"cancel","id":"x"}', "bad_value"),
        ('{"t":"credit","id":"x","n":1,"ref":{}}', "bad_value"),
    ],
)
def test_rpc_refuses_a_wrong_ref_and_ends(ingle: Any, daemon: Any, line: str, code: str) -> None:
    ran = ingle("rpc", input=line + "\n" + '{"t":"call","verb":"status","args":{},"ref":7}')
    assert (ran.returncode, ran.stderr) == (0, "")
    _, failed, result = [json.loads(said) for said in ran.stdout.splitlines()]
    assert (failed["t"], failed["code"], failed["at"], "ref" in failed) == ("failed", code, "ref", False)
    assert (result["t"], result["ref"]) == ("result", 7)
    assert [m["ref"] for m in daemon.received if m["t"] in ("call", "cancel")] == [7]


def test_rpc_refuses_an_endless_line_and_goes_on(ingle: Any) -> None:
    call = '{"t":"call","verb":"status","args":{},"ref":7}'
    ran = ingle(
        "rpc", input="x" * (25 << 20) + "\n" + call + "\n" + '{"t":"call","ref":8,"x":"' + "x" * (5 << 20) + '"}'
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    _, *said = [json.loads(said) for said in ran.stdout.splitlines()]
    assert [(m["t"], m.get("code"), m.get("ref")) for m in said if m["t"] == "failed"] == [
        ("failed", "too_large", None),
        ("failed", "too_large", 8),
    ]
    assert [m["ref"] for m in said if m["t"] == "result"] == [7]


def test_rpc_gives_credit_also_to_what_had_none(ingle: Any) -> None:
    ran = ingle("rpc", input=json.dumps(CHAT | {"ref": 1, "credit": 0}))
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    assert "".join(message.get("x", "") for message in said) == TEXT
