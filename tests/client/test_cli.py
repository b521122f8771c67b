"""The `ingle` command as a process, against a stand-in for the daemon."""

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from ingle.cli import VERBS, main
from ingle.cli.grammar import Given, Option, Usage, Verb, parse
from ingle.cli.output import duration, size

TEXT = "Once upon a tïme there was a fire." * 6
CHAT = {"t": "request", "op": "chat", "body": {"messages": [{"role": "user", "content": "hi"}]}}


def until(fd: int, wanted: bytes) -> bytes:
    """Read until the text has come."""
    seen, end = b"", monotonic() + 10
    while wanted not in seen:
        assert select.select([fd], [], [], max(0.0, end - monotonic()))[0], seen
        data = os.read(fd, 4096)
        assert data, seen
        seen += data
    return seen


# ---------------------------------------------------------------- ask and attach


def test_ask_prints_the_answer(ingle: Any, daemon: Any) -> None:
    ran = ingle("ask", "-m", "tiny", "-s", "brief", "--max-tokens=9", "--temperature", "0.5", "--seed", "1", "a", "b")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, TEXT + "\n", "")
    request = daemon.wait_for("request")
    assert request["body"] == {
        "messages": [{"role": "system", "content": "brief"}, {"role": "user", "content": "a b"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "seed": 1,
    }
    assert request["model"] == "tiny"
    daemon.wait_for("bye")


def test_ask_joins_words_files_and_what_is_piped(ingle: Any, daemon: Any, folder: Path) -> None:
    (folder / "f").write_text("file")
    assert ingle("ask", "-f", str(folder / "f"), "--", "-v", input="piped").returncode == 0
    assert daemon.wait_for("request")["body"]["messages"][0]["content"] == "-v\n\nfile\n\npiped"
    assert ingle("ask", "-f", str(folder / "none"), "x").returncode == 2
    assert ingle("ask").returncode == 2


def test_ask_in_json(ingle: Any) -> None:
    lines = [json.loads(line) for line in ingle("ask", "--json", "hi").stdout.splitlines()]
    assert [line["t"] for line in lines[:3]] == ["accepted", "progress", "chunk"]
    assert "".join(line.get("x", "") for line in lines) == TEXT
    assert lines[-1]["t"] == "done"
    whole = json.loads(ingle("ask", "--json", "--no-stream", "hi").stdout)
    assert (whole["text"], whole["usage"]["prompt"], "t" in whole) == (TEXT, 3, False)
    failed = ingle("ask", "--json", "fail:bad_value")
    assert json.loads(failed.stdout)["code"] == "bad_value"
    assert failed.returncode == 4


def test_ask_whole_and_verbose(ingle: Any) -> None:
    ran = ingle("ask", "--no-stream", "-v", "say:yo\n")
    assert ran.stdout == "yo\n"
    assert "3 prompt (1 cached), 48 answer" in ran.stderr
    assert "redact at prompt: unchanged" in ran.stderr


def test_detach_then_attach(ingle: Any, daemon: Any) -> None:
    id = ingle("ask", "--detach", "hi").stdout.strip()
    assert daemon.wait_for("request")["detach"] is True
    assert ingle("attach", id).stdout == TEXT + "\n"
    assert ingle("attach", id, "--offset", "5").stdout == TEXT[5:] + "\n"
    assert json.loads(ingle("ask", "--detach", "--json", "hi").stdout)["t"] == "accepted"
    assert ingle("attach", "nothing").returncode == 4


def test_ctrl_c_cancels_in_the_daemon(ingle: Any, daemon: Any) -> None:
    process = ingle.start("ask", "forever")
    until(process.stdout.fileno(), b"Once")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, b"")
    daemon.wait_for("cancel", id="r1")


def test_a_reader_that_leaves_cancels_too(ingle: Any, daemon: Any) -> None:
    process = ingle.start("ask", "hi")
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
    daemon.wait_for("cancel", id="r1")


def test_a_paused_reader_loses_nothing(ingle: Any, daemon: Any) -> None:
    big = "x" * 300_000
    process = ingle.start("ask", "say:" + "y" * 100, stdin=subprocess.PIPE)
    process.stdin.write(big.encode())
    process.stdin.close()
    until(process.stdout.fileno(), b"y")  # the pipe is full now, and the command waits
    daemon.wait_for("request")
    rest = process.stdout.read()
    assert process.wait(10) == 0
    assert rest.count(b"x") >= len(big) - 65536
    process.stdout.close()
    process.stderr.close()


def test_on_a_terminal_progress_is_shown_and_control_characters_are_not(ingle: Any) -> None:
    parent, child = pty.openpty()
    process = ingle.start("ask", "say:a\x1b[31mb", stdout=child, stderr=child)
    os.close(child)
    seen = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(parent, 4096):
            seen += data
    os.close(parent)
    assert process.wait(10) == 0
    assert b"loading 40%" in seen
    assert b"a[31mb" in seen
    assert b"\x1b[31m" not in seen


@pytest.mark.parametrize(("variable", "bold"), [({}, True), ({"NO_COLOR": ""}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_for_terminals_that_want_them(ingle: Any, variable: dict[str, str], bold: bool) -> None:
    ingle.environment |= variable
    parent, child = pty.openpty()
    process = ingle.start("ps", stdout=child)
    os.close(child)
    seen = until(parent, b"1m15s")
    os.close(parent)
    process.communicate(timeout=10)
    assert (b"\x1b[1m" in seen) is bold


# ---------------------------------------------------------------- the other verbs


@pytest.mark.parametrize(
    ("argv", "text", "key"),
    [
        (["ps"], "tiny  ready  cpu     1.5 GiB  25%        1        0      12.3  1m15s", "models"),
        (["models"], "cold-one        cold", "models"),
        (["show", "tiny"], "  last words", "log"),
        (["status"], "up 1m1s, 50 MiB", "daemon"),
        (["requests"], "r1  tiny   running  chat", "requests"),
        (["cancel", "r1"], "r1: cancelled", "cancelled"),
        (["cancel", "r9"], "r9: nothing to cancel, it is done", "state"),
        (["load", "tiny"], "tiny: ready", "state"),
        (["load", "--no-wait", "tiny"], "tiny: ready", "state"),
        (["unload", "tiny"], "tiny: cold", "state"),
        (["unload", "--force", "tiny"], "tiny: cold", "state"),
        (["shutdown"], "draining: 2 requests", "running"),
        (["version"], "ingle 0.", "version"),
    ],
)
def test_verbs_print_for_people_and_for_programs(ingle: Any, daemon: Any, argv: list[str], text: str, key: str) -> None:
    ingle("ask", "say:x")
    ran = ingle(*argv)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert text in ran.stdout
    assert "\x1b" not in ran.stdout
    assert key in json.loads(ingle(*argv, "--json").stdout)


def test_names_for_completion(ingle: Any) -> None:
    ingle("ask", "say:x")
    assert ingle("models", "--names").stdout.split() == ["tiny", "t", "cold-one"]
    assert ingle("requests", "--names").stdout == "r1\n"


def test_events(ingle: Any, daemon: Any) -> None:
    for flag, wanted in (((), b"model model=tiny state=ready\n"), (("--json",), b'"topic": "model"')):
        process = ingle.start("events", "model", *flag)
        daemon.subscriptions.clear()
        daemon.received.clear()
        daemon.wait_for("subscribe", topics=["model"])
        daemon.emit("model", {"model": "tiny", "state": "ready", "why": None})
        until(process.stdout.fileno(), wanted)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        assert process.returncode == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb(ingle: Any, shell: str) -> None:
    ran = ingle("completion", shell)
    assert ran.returncode == 0
    assert all(verb in ran.stdout for verb in VERBS)
    assert ingle("completion", "csh").returncode == 2
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=ran.stdout, text=True, check=True)


# ---------------------------------------------------------------- help, mistakes, no daemon


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    page = capsys.readouterr().out
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS"):
        assert f"{title}\n    " in page
    assert main(["help", verb]) == 0
    assert capsys.readouterr().out == page
    assert max(map(len, page.splitlines())) <= 78 or verb in ("rpc", "completion")


def test_help_lists_verbs_and_topics(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["help"], ["--help"], ["-h"]):
        assert main(argv) == 0
        page = capsys.readouterr().out
        assert all(f"\n    {verb} " in page for verb in VERBS)
    assert main(["help", "exit-codes"]) == 0
    assert "130" in capsys.readouterr().out
    assert main(["help", "environment"]) == 0
    assert "INGLE_SOCKET" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ingle 0.")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["stauts"], "did you mean `ingle status`?"),
        (["xyzzy"], "`ingle help` lists the verbs"),
        (["--frob"], "unknown option --frob"),
        (["ask", "--frob", "x"], "behind `--`"),
        (["ps", "extra"], "too many arguments: 'extra'"),
        (["show"], "MODEL is missing"),
        (["ask", "--seed", "x", "hi"], "not a number"),
        (["ask", "-m"], "-m needs a value"),
        (["ps", "--json=1"], "takes no value"),
        (["help", "xyzzy"], "no page on 'xyzzy'"),
    ],
)
def test_mistakes_in_the_command_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("ingle: ")
    assert "\nhint: " in error
    assert said in error


def test_no_daemon(ingle: Any, folder: Path) -> None:
    for argv in (["status"], ["ask", "hi"], ["rpc"]):
        ran = ingle("--socket", str(folder / "none"), *argv)
        assert ran.returncode == 3
        assert ran.stderr.startswith(f"ingle: no daemon: nothing is there at {folder}/none\nhint: start one with")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "dead"))
    ran = ingle("status", f"--socket={folder}/dead")
    assert (ran.returncode, "nobody listens" in ran.stderr) == (3, True)


@pytest.mark.parametrize(("code", "status"), [("internal", 1), ("no_such_model", 4), ("prompt_too_long", 4)])
def test_failures_have_an_exit_status(ingle: Any, code: str, status: int) -> None:
    ran = ingle("ask", f"fail:{code}")
    assert (ran.returncode, ran.stdout) == (status, "")
    assert ran.stderr == f"ingle: it is {code} (at body.messages)\nhint: do x\n" or status == 1


def test_short_options_may_be_bundled_and_glued() -> None:
    options = (Option(("-v", "--verbose"), ""), Option(("-n", "--number"), "", "N", int), Option(("-q",), ""))
    verb = Verb("v", "", lambda given: 0, "", options=options, most=None)
    given = parse(verb, ["-vqn3", "a", "-", "--", "-v"])
    assert given.switch("verbose") and given.switch("q")
    assert (given.value("number"), given.words) == (3, ["a", "-", "-v"])
    with pytest.raises(Usage):
        parse(verb, ["-vx"])
    assert Given([], {}).all("file") == []


def test_numbers_for_people() -> None:
    assert [size(n) for n in (None, 5, 2048, 3 << 20, 5 << 40)] == ["-", "5 B", "2 KiB", "3 MiB", "5120.0 GiB"]
    assert [duration(s) for s in (None, 1.25, 59, 61, 3700, 90000)] == ["-", "1.2s", "59s", "1m1s", "1h1m", "1d1h"]


# ---------------------------------------------------------------- rpc


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
    assert process.wait(10) == 0
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
    process.wait(10)
    process.stdout.close()
    process.stderr.close()


def test_the_command_is_a_module_too(ingle: Any) -> None:
    ran = subprocess.run([sys.executable, "-m", "ingle", "version"], env=ingle.environment, capture_output=True)
    assert ran.returncode == 0
