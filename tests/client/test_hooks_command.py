"""`ingle hooks`, `ingle ask` with context and trace, and hooks through `ingle rpc`."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOOKS = [
    {"name": "redact", "version": "1", "provider": "plugin", "account": "uid:0", "points": ["prompt", "chunk"],
     "order": 100, "scope": "all", "state": "active", "calls": 12, "failures": 0, "p50_us": 210.0, "p99_us": 1900.0},
    {"name": "evil\x1b[31m", "version": "0", "provider": "client vim", "account": "uid:0", "points": ["prompt"],
     "order": 500, "scope": "account", "state": "tripped", "why": "3 timeouts", "calls": 3, "failures": 3,
     "p50_us": None, "p99_us": None, "pid": 7},
]  # fmt: skip


def test_the_list(ingle: Any, daemon: Any) -> None:
    daemon.hook_list = HOOKS
    said = ingle("hooks").stdout.splitlines()
    assert said[0].split() == [
        "NAME", "VERSION", "POINTS", "PROVIDER", "ORDER", "SCOPE", "STATE", "CALLS", "FAILED", "P50", "P99",
    ]  # fmt: skip
    assert said[1].split() == [
        "redact", "1", "prompt,chunk", "plugin", "100", "all", "active", "12", "0", "210us", "1.9ms",
    ]  # fmt: skip
    assert said[2].startswith("evil\\x1b[31m  0        prompt        client vim (7)")
    assert said[3] == "evil\\x1b[31m is tripped: 3 timeouts"
    assert said[4] == "problem: bad: bad.py:3: no hook"
    assert json.loads(ingle("hooks", "--json").stdout)["hooks"] == HOOKS
    assert ingle("hooks", "--names").stdout == "redact\nevil\\x1b[31m\n"


@pytest.mark.parametrize(
    ("example", "point", "value"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, "prompt", None),
        ({"t": "request", "op": "chat", "body": {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}]}},
         "prompt", {"messages": [{"role": "user", "content": "hi"}]}),
        ({"prompt": "hi"}, "prompt",
         {"messages": [{"role": "prompt", "content": "hi"}], "call": {"op": "complete"}}),
        ({"prompt": "hi", "call": {"model": "m"}}, "prompt",
         {"messages": [{"role": "prompt", "content": "hi"}], "call": {"op": "complete", "model": "m"}}),
        ({"answer": {"text": "x"}, "call": {"model": "m"}, "more": 1}, "answer",
         {"answer": {"text": "x"}, "call": {"model": "m"}}),
        ({"text": "x"}, "chunk", None),
    ],
)  # fmt: skip
def test_a_hook_is_tested(ingle: Any, daemon: Any, example: Any, point: str, value: Any) -> None:
    done = ingle("hooks", "test", "shout", input=json.dumps(example))
    assert done.returncode == 0, done.stderr
    args = daemon.wait_for("call", verb="hook_test")["args"]
    assert args == {"hook": "shout", "point": point, "value": value or example}
    if point == "prompt" and value is None:
        assert done.stdout.splitlines() == [
            "hook    shout at prompt: changed, 21 us (words 1)",
            "--- before", "+++ after", "@@ -1 +1 @@", "-user: hi", "+user: HI", "150 us in all",
        ]  # fmt: skip
    assert json.loads(ingle("hooks", "test", "shout", "--json", input=json.dumps(example)).stdout)["us"] == 150


@pytest.mark.parametrize(
    ("example", "point", "value"),
    [
        ({"text": "x", "answer": {"text": "y"}}, "answer", {"answer": {"text": "y"}}),
        ({"text": "x"}, "answer", {"answer": {"text": "x"}}),
        ({"text": "x", "messages": []}, "chunk", {"text": "x"}),
    ],
)
def test_the_point_chooses_what_of_an_example_is_shown(
    ingle: Any, daemon: Any, example: Any, point: str, value: Any
) -> None:
    assert ingle("hooks", "test", "shout", "--point", point, input=json.dumps(example)).returncode == 0
    assert daemon.wait_for("call", verb="hook_test")["args"] == {"hook": "shout", "point": point, "value": value}


@pytest.mark.parametrize(
    ("argv", "input", "said"),
    [
        (
            ["test", "x", "--point", "prompt"],
            '{"answer": {"text": "y"}}',
            "has nothing that a hook at 'prompt' is shown",
        ),
        (["test"], "", "NAME is missing"),
        (["test", "x"], "", "has nothing to show"),
        (["test", "x"], "hello", "standard input is not JSON"),
        (["trace"], "", "what is to be traced?"),
        (["trace", "ask", "--detach", "x"], "", "--help and --detach"),
        (["prune"], "", "there is no 'prune'"),
    ],
)
def test_mistakes(ingle: Any, argv: list[str], input: str, said: str) -> None:
    argv = ["hooks", *argv] if "--detach" not in argv else ["hooks", "trace", "--", *argv[1:]]
    done = ingle(*argv, input=input)
    assert done.returncode == 2
    assert said in done.stderr


TRACED = [
    "hook    shout at prompt: changed, 40 us (words 2)",
    "--- before", "+++ after", "@@ -1,3 +1,3 @@",
    " system: Be brief.", "-user: hi", "+user: HI", "     you \\x1b[31m",
    "hook    late at answer: error, 900 us: deadline",
]  # fmt: skip


def test_trace_shows_what_each_hook_changed(ingle: Any, daemon: Any) -> None:
    done = ingle("hooks", "trace", "--", "ask", "-m", "tiny", "say:hello")
    assert (done.returncode, done.stdout.splitlines()) == (0, ["hello", *TRACED])
    assert daemon.wait_for("request")["trace"] is True
    for argv in (["trace", "--", "ask", "--json"], ["--json", "trace", "--", "ask"]):
        done = ingle("hooks", *argv, "say:hello")
        assert "before" in json.loads(done.stdout.splitlines()[-1])["hooks"][0]


def test_trace_shows_them_after_a_refusal_too(ingle: Any) -> None:
    done = ingle("hooks", "trace", "--", "ask", "fail:refused_by_hook")
    assert (done.returncode, done.stdout.splitlines()) == (4, TRACED)
    assert "it is refused_by_hook" in done.stderr
    done = ingle("ask", "-v", "fail:refused_by_hook")
    assert done.stderr.startswith("hook    shout at prompt: changed, 40 us (words 2)\nhook    late")
    assert "hook  " not in ingle("ask", "fail:refused_by_hook").stderr


def test_trace_is_coloured_on_a_terminal(ingle: Any) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "ingle", "hooks", "trace", "--", "ask", "say:hello"]
    with subprocess.Popen(command, env=ingle.environment, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave):
        os.close(slave)
        seen = b""
        while b"deadline" not in seen:
            seen += os.read(master, 4096)
    os.close(master)
    assert b"\x1b[31m-user: hi\x1b[0m" in seen
    assert b"\x1b[32m+user: HI\x1b[0m" in seen


def test_context_is_offered_beside_the_prompt(ingle: Any, daemon: Any, folder: Path) -> None:
    (folder / "a.py").write_text("print()")
    assert ingle("ask", "--context", f"file={folder}/a.py", "--tag", "editor", "say:x", input="more").returncode == 0
    request = daemon.wait_for("request")
    assert request["context"] == [{"kind": "file", "text": "print()", "name": f"{folder}/a.py"}]
    assert request["body"]["messages"] == [{"role": "user", "content": "say:x\n\nmore"}]
    assert "trace" not in request
    assert daemon.wait_for("hello")["client"]["tags"] == ["editor"]
    ingle("ask", "--context", "diff=-", "say:x", input="+line")
    request = daemon.wait_for("request", 2)
    assert request["context"] == [{"kind": "diff", "text": "+line"}]
    assert request["body"]["messages"] == [{"role": "user", "content": "say:x"}]
    for wrong in (["--context", "diff"], ["--context", "a=-", "--context", "b=-"], ["--context", f"a={folder}/none"]):
        assert ingle("ask", *wrong, "x", input="y").returncode == 2


def test_hooks_through_rpc(ingle: Any, daemon: Any) -> None:
    bridge = ingle.start("rpc", "--tag", "editor", stdin=subprocess.PIPE)

    def say(message: Any) -> None:
        bridge.stdin.write(json.dumps(message).encode() + b"\n")
        bridge.stdin.flush()

    def hear() -> Any:
        return json.loads(bridge.stdout.readline())

    try:
        assert hear()["t"] == "welcome"
        say({"t": "hook_offer", "name": "x", "points": ["prompt"]})
        assert hear()["at"] == "ref"
        say({"t": "hook_offer", "ref": 4, "name": "mine", "points": ["prompt"]})
        assert hear() == {"t": "result", "ref": 4, "value": {
            "name": "mine", "order": 500, "scope": "account", "points": ["prompt"]}}  # fmt: skip
        daemon.hook_call("prompt", {"messages": []}, wait=False, states={"mine": b"\x00\xff"})
        call = hear()
        assert (call["call"], call["states"]) == (0, {"mine": "AP8="})
        bad = {"t": "hook_reply", "call": 1, "results": [{"hook": "mine", "state": "?"}]}
        say(bad)
        assert hear()["at"] == "results[0].state"
        say(bad | {"results": [{"hook": "mine", "state": "AP8="}]})
        assert daemon.wait_for("hook_reply")["results"] == [{"hook": "mine", "state": b"\x00\xff"}]
        bridge.stdin.close()
        assert bridge.wait(60) == 0
        assert daemon.wait_for("hook_withdraw")["name"] == "mine"
        assert bridge.stdout.read() == b""
    finally:
        bridge.kill()
        bridge.stdout.close()
        bridge.stderr.close()
