"""The `ingle` command as a process, against a stand-in for the daemon."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from ingle import line
from ingle.cli import VERBS, main
from ingle.cli import verb as find_verb
from ingle.cli.follow import waiting_for
from ingle.cli.grammar import Given, Option, Usage, Verb, parse
from ingle.cli.outcome import report
from ingle.cli.output import StatusLine, duration
from ingle.errors import Refused

from tests.client.answers import TEXT, until

UNITS = {unit.name for unit in (Path(__file__).parents[2] / "systemd" / "user").iterdir()}

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
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")
    daemon.wait_for("cancel", id="r1")


def test_a_reader_that_leaves_cancels_too(ingle: Any, daemon: Any) -> None:
    process = ingle.start("ask", "hi")
    process.stdout.close()
    assert process.wait(60) == 141
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
    assert process.wait(60) == 0
    assert rest.count(b"x") >= len(big) - 65536
    process.stdout.close()
    process.stderr.close()


def seen_on_terminal(ingle: Any, *argv: str, columns: int = 0) -> bytes:
    parent, child = pty.openpty()
    if columns:
        termios.tcsetwinsize(child, (24, columns))
    process = ingle.start(*argv, stdout=child, stderr=child)
    os.close(child)
    seen = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(parent, 4096):
            seen += data
    os.close(parent)
    assert process.wait(60) == 0
    return seen


def test_load_draws_a_bar_on_a_terminal_and_no_line_is_longer_than_that(ingle: Any) -> None:
    seen = seen_on_terminal(ingle, "load", "tiny")
    assert b"loading w\\x1b [##############------] 70% ..." in seen
    assert b"tiny: ready" in seen
    narrow = seen_on_terminal(ingle, "load", "tiny", columns=20)
    assert b"loading w\\x1b [####\x1b[0m" in narrow, "what is cut off cannot run into the next line"


def test_on_a_terminal_progress_is_shown_and_control_characters_are_not(ingle: Any) -> None:
    seen = seen_on_terminal(ingle, "ask", "say:a\x1b[31mb")
    assert b"loading 40%" in seen
    assert b"a[31mb" in seen
    assert b"\x1b[31m" not in seen


@pytest.mark.parametrize(
    ("variable", "bold"), [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_for_terminals_that_want_them(ingle: Any, variable: dict[str, str], bold: bool) -> None:
    ingle.environment |= variable
    parent, child = pty.openpty()
    process = ingle.start("ps", stdout=child)
    os.close(child)
    seen = until(parent, b"1m15s")
    os.close(parent)
    process.communicate(timeout=60)
    assert (b"\x1b[1m" in seen) is bold


# ---------------------------------------------------------------- the other verbs


@pytest.mark.parametrize(
    ("argv", "text", "key"),
    [
        (["ps"], "tiny  ready  cpu     2.0 GiB  512 MiB  1.0 GiB   25%        1        0      12.3  1m15s", "models"),
        (["models"], "cold-one        cold", "models"),
        (["show", "tiny"], "  last words", "log"),
        (["status"], "up 1m1s, 50 MiB", "daemon"),
        (["requests"], "r1  tiny   running  chat", "requests"),
        (["requests", "--all"], "r1  uid:7    tiny   running  chat", "requests"),
        (["whoami"], "limits       4 waiting\ntokens left  99 of this minute", "account"),
        (["cancel", "r1"], "r1: cancelled", "cancelled"),
        (["cancel", "r9"], "r9: nothing to cancel, it is done", "state"),
        (["load", "tiny"], "tiny: ready", "state"),
        (["load", "--no-wait", "tiny"], "tiny: ready", "state"),
        (["unload", "tiny"], "tiny: cold", "state"),
        (["unload", "--force", "tiny"], "tiny: cold", "state"),
        (["plan", "tiny", "--context", "16"], "  KV cache     1.0 GiB  4 answers of 16 tokens", "need"),
        (["plan", "tiny", "--context", "16"], "would fit      without coder (3.0 GiB)", "would_fit"),
        (["pin", "tiny"], "tiny: pinned, ready", "pinned"),
        (["unpin", "tiny"], "tiny: not pinned, ready", "pinned"),
        (["want", "tiny", "--within", "1.5s"], "tiny: loading, ready in about 1.5s", "eta_ms"),
        (["doctor"], "gpu     warning  no driver\n                 -> install it", "findings"),
        (["yield"], "no model is idle", "models"),
        (["yield", "--bytes", "1.5GiB"], "tiny: gives its memory back\n1 model, about 1.5 GiB", "bytes"),
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


def test_ps_says_what_a_model_waits_for_on_a_line_of_its_own(ingle: Any, daemon: Any) -> None:
    daemon.models = [{**daemon.models[0], "state": "cold", "waits": "tiny: model 'x\x1b' is busy"}]
    assert ingle("ps").stdout.splitlines()[-2:] == ["", "tiny: model 'x\\x1b' is busy"]


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (
            {"phase": "queued", "what": "c: it runs as many as it can", "position": 2},
            "c: it runs as many as it can (2 before you) ...",
        ),
        ({"phase": "evicting", "what": "c: a and b make room"}, "c: a and b make room ..."),
        ({"phase": "queued", "position": 0}, "queued ..."),
        (
            {"phase": "loading", "percent": 5, "what": "c: weights", "eta_ms": 4200},
            "loading c: weights 5%, about 4s left ...",
        ),
        ({"phase": "waking", "what": "c", "eta_ms": 300}, "waking c, less than 1s left ..."),
    ],
)
def test_who_waits_is_told_for_what(progress: dict[str, Any], line: str) -> None:
    assert waiting_for(progress) == line


def test_what_is_told_twice_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    line = StatusLine(always=True)
    for text in ("a", "a", "b", "a"):
        line.show(text)
    assert capsys.readouterr().err == "a\nb\na\n"


def test_names_for_completion(ingle: Any) -> None:
    ingle("ask", "say:x")
    assert ingle("models", "--names").stdout.split() == ["tiny", "t", "cold-one"]
    assert ingle("requests", "--names").stdout == "r1\n"


def test_events(ingle: Any, daemon: Any) -> None:
    for flag, wanted in (((), b"model model=tiny state=ready\n"), (("--json",), b'"topic": "model"')):
        process = ingle.start("events", "model", *flag)
        daemon.subscriptions.clear()
        daemon.forget()
        daemon.wait_for("subscribe", topics=["model"])
        daemon.emit("model", {"model": "tiny", "state": "ready", "why": None})
        until(process.stdout.fileno(), wanted)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130


def test_events_of_no_topic_are_those_of_all_that_the_daemon_has(ingle: Any, daemon: Any) -> None:
    process = ingle.start("events")
    daemon.wait_for("subscribe", topics=["model", "request", "hook"])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb(ingle: Any, shell: str) -> None:
    ran = ingle("completion", shell)
    assert ran.returncode == 0
    assert all(verb in ran.stdout for verb in VERBS)
    assert ingle("completion", "csh").returncode == 2
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=ran.stdout, text=True, check=True)


def test_the_command_is_a_module_too(ingle: Any) -> None:
    ran = subprocess.run([sys.executable, "-m", "ingle", "version"], env=ingle.environment, capture_output=True)
    assert ran.returncode == 0


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
    synopsis = page.partition("SYNOPSIS")[2].partition("DESCRIPTION")[0]
    for option in find_verb(verb).own:
        assert f"[{option.names[0]} {option.value}".rstrip() + "]" in synopsis, "it is on one line"


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
        (["--socket"], "--socket needs a value"),
        (["ask", "--socket"], "--socket needs a value"),
        (["ask", "--seed", "x", "hi"], "not a number"),
        (["ask", "--seed", str(1 << 64), "hi"], f"ask: --seed {1 << 64}: a number of more than 64 bits"),
        (["ask", "-m"], "-m needs a value"),
        (["ps", "--json=1"], "takes no value"),
        (["help", "xyzzy"], "no page on 'xyzzy'"),
        (["want", "tiny", "--within", "9" * 400 + "s"], "expected a time such as"),
    ],
)
def test_mistakes_in_the_command_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("ingle: ")
    assert "\nhint: " in error
    assert said in error


def test_a_path_that_no_socket_can_have(ingle: Any, folder: Path) -> None:
    long = f"{folder}/{'x' * 107}"
    ran = ingle("--socket", long, "status")
    assert ran.returncode == 3
    said = f"ingle: the path is too long for a socket at {long}: it has {len(long)} bytes, and may have 107\n"
    assert ran.stderr.startswith(said + "hint: choose a shorter one")


def test_ctrl_c_while_it_starts_is_quiet(tmp_path: Path) -> None:
    """Its modules are on their way, and a person is impatient."""
    folder = tmp_path / "ingle" / "cli"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    command = [sys.executable, str(Path(__file__).parents[2] / "client" / "bin" / "ingle"), "ps"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored
    try:
        ran = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, timeout=100)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, b"", b"")


def test_no_daemon(
    ingle: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv in (["status"], ["ask", "hi"], ["rpc"]):
        ran = ingle("--socket", str(folder / "none"), *argv)
        assert ran.returncode == 3
        assert ran.stderr.startswith(f"ingle: no daemon: nothing is there at {folder}/none\nhint: start one with")
    (folder / "file").touch()
    ran = ingle("--socket", str(folder / "file"), "status")
    said = f"ingle: this is not an ingle daemon at {folder}/file: it is not a socket\nhint: name the daemon's socket"
    assert ran.returncode == 3 and ran.stderr.startswith(said)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "dead"))
    now = [0.0]  # the ten seconds that one may take to come back pass at once
    monkeypatch.setattr(line, "monotonic", lambda: now[0])
    monkeypatch.setattr(line, "sleep", lambda seconds: now.append(now.pop() + seconds))
    assert main(["status", f"--socket={folder}/dead"]) == 3
    assert "nobody listens" in capsys.readouterr().err and now[0] >= 10


@pytest.mark.parametrize(("code", "status"), [("internal", 1), ("no_such_model", 4), ("prompt_too_long", 4)])
def test_failures_have_an_exit_status(ingle: Any, code: str, status: int) -> None:
    ran = ingle("ask", f"fail:{code}")
    assert (ran.returncode, ran.stdout) == (status, "")
    assert ran.stderr == f"ingle: it is {code} (at body.messages)\nhint: do x\n" or status == 1


def test_what_is_nested_without_end_is_no_bug_of_ours(ingle: Any, folder: Path) -> None:
    (folder / "deep").write_text("[" * 100_000)
    for argv in (["verify", str(folder / "deep")], ["hooks", "test", "mine"]):
        ran = ingle(*argv, input="[" * 100_000)
        assert (ran.returncode, "bug" in ran.stderr) == (2, False), ran.stderr


def test_where_something_is_wrong_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    for text, said in (("wrong", "wrong (at body.x)"), ("body.x is 0", "body.x is 0")):
        assert report(Refused("bad_value", text, at="body.x")) == 4
        assert capsys.readouterr().err == f"ingle: {said}\n"


def test_the_units_that_remedies_name_are_there(ingle: Any, folder: Path) -> None:
    done = ingle("--socket", str(folder / "none"), "doctor")
    units = re.findall(r"systemctl --user start ([\w.-]+)", done.stdout)
    assert units and {unit if "." in unit else f"{unit}.service" for unit in units} <= UNITS


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
    assert [duration(s) for s in (None, 1.25, 59, 61, 3700, 90000)] == ["-", "1.2s", "59s", "1m1s", "1h1m", "1d1h"]


# ---------------------------------------------------------------- names that would command a terminal


@pytest.mark.parametrize(
    "argv", [["models"], ["models", "--names"], ["ps"], ["show", "x"], ["load", "--progress", "x\x1b[2J"]]
)
def test_what_others_named_does_not_command_the_terminal(ingle: Any, daemon: Any, argv: list[str]) -> None:
    evil = "\x1b[31m\x9b2J\x07\u202e\r\n"
    daemon.models = [{"name": f"n{evil}", "aliases": [f"a{evil}"], "state": "ready", "source": evil, "device": evil}]
    ran = ingle(*argv)
    assert ran.returncode == 0
    assert not {"\x1b", "\x9b", "\x07", "\u202e", "\r"} & {*ran.stdout, *ran.stderr}
    assert "\\x1b" in ran.stdout or argv[0] == "show"
    assert len(ran.stdout.splitlines()) == 2 or argv[0] in ("show", "load")


def test_failures_do_not_command_the_terminal_either(ingle: Any) -> None:
    ran = ingle("ask", "--json", "fail:\x1b[2J\x9b\u202e")
    assert not {"\x1b", "\x9b"} & {*ran.stdout, *ran.stderr}
    assert "it is \\x1b[2J\\x9b\\u202e" in ran.stderr
    assert json.loads(ran.stdout)["code"] == "\x1b[2J\x9b\u202e"


def test_cancel_of_a_kept_answer_says_that_it_is_gone(ingle: Any, daemon: Any) -> None:
    daemon.kept.add("r7")
    assert ingle("cancel", "r7").stdout == "r7 was over; its kept answer has been dropped\n"


# ---------------------------------------------------------------- attach to what is left


def test_attach_begins_where_the_answer_is_still_held(ingle: Any, daemon: Any) -> None:
    id = ingle("ask", "--detach", "hi").stdout.strip()
    ran = ingle("attach", id)
    assert (ran.stdout, ran.stderr) == (TEXT + "\n", "")
    assert "offset" not in daemon.wait_for("attach")
    daemon.answers[id].begin = len("Once upon a tïme ".encode())
    ran = ingle("attach", id)
    assert ran.stdout == TEXT[len("Once upon a tïme ") :] + "\n"
    assert ran.stderr == "(the first 18 bytes are no longer held)\n"
    ran = ingle("attach", id, "--offset", "0")
    assert (ran.returncode, ran.stderr) == (4, "ingle: not held (at offset)\nhint: h\n")
