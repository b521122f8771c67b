"""`ingle hook run`: programs as hooks, called by a stand-in for the daemon."""

import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from ingle.cli import main, programs
from ingle.hook_calls import Failure

HI = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]}
SAID = {"messages": [HI["messages"][0], {"role": "user", "content": "HI"}]}

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(ingle: Any, daemon: Any, folder: Path) -> Iterator[Start]:
    """Starts `ingle hook run ... -- script` and waits until the hook is offered."""
    started: list[subprocess.Popen[bytes]] = []

    def run(text: str, *options: str, point: str = "prompt") -> "subprocess.Popen[bytes]":
        script = folder / f"My Script{len(started)}.sh"
        script.write_text(textwrap.dedent(text))
        script.chmod(0o755)
        patient = () if "--deadline-ms" in options else ("--deadline-ms", "10000")  # the machine may be busy
        process = ingle.start("hook", "run", "--point", point, *patient, *options, "--", str(script), "an argument")
        started.append(process)
        daemon.wait_for("hook_offer", len(started))
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def result(reply: dict[str, Any]) -> dict[str, Any]:
    (only,) = reply["results"]
    return {key: value for key, value in only.items() if key not in ("us", "hook")}


def ended(process: "subprocess.Popen[bytes]", signal_: int = signal.SIGINT) -> tuple[int, str]:
    process.send_signal(signal_)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr.decode()


def test_a_shell_script_of_five_lines_is_a_filter(start: Start, daemon: Any) -> None:
    process = start("#!/bin/sh\ntr a-z A-Z\n", "--text", "--order", "20", "--tags", "shell,editor", "--trial")
    offer = daemon.offers["my-script0"]
    assert {key: offer[key] for key in ("points", "order", "trial", "select")} == {
        "points": ["prompt"], "order": 20, "trial": True, "select": {"tags": ["shell", "editor"]},
    }  # fmt: skip
    reply = daemon.hook_call("prompt", HI)
    assert (result(reply), reply["value"]) == ({"verdict": "changed"}, SAID)
    assert ended(process) == (
        130, "hook my-script0 at prompt, order 20, scope account; Ctrl-C takes it away\n",
    )  # fmt: skip
    daemon.wait_for("bye")


def test_json_in_and_out(start: Start, daemon: Any) -> None:
    start(
        """\
        #!/usr/bin/env python3
        import json, os, sys
        said = json.load(sys.stdin)
        said["messages"].append({"role": "user", "content": " ".join(
            [said["point"], said["hook"], said["call"]["client"], said.get("state", "-"), os.environ["INGLE_MODEL"],
             os.environ["INGLE_HOOK"], *sys.argv[1:]])})
        print(json.dumps({"messages": said["messages"], "note": {"n": 1}, "state": "kept"}))
        """,
        "--name", "mine", "--on-error", "refuse", "--deadline-ms", "5000", "--hook-version", "2",
    )  # fmt: skip
    assert (daemon.offers["mine"]["on_error"], daemon.offers["mine"]["version"]) == ("refuse", "2")
    reply = daemon.hook_call("prompt", HI, states={"mine": b"before"})
    assert reply["value"]["messages"][-1]["content"] == "prompt mine t before tiny mine an argument"
    assert result(reply) == {"verdict": "changed", "note": {"n": 1}, "state": b"kept"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exit 0", {}),
        ("cat > /dev/null; echo '{}'", {}),
        ("echo no passwords, please; exit 10", {"verdict": "refuse", "reason": "no passwords, please"}),
        ("echo why >&2; exit 10", {"verdict": "refuse", "reason": "why"}),
        ("echo first >&2; echo last >&2; exit 3", {"verdict": "error", "reason": "last"}),
        ("exit 4", {"verdict": "error", "reason": "it ended with exit status 4"}),
        ("kill -SEGV $$", {"verdict": "error", "reason": "it was killed by SIGSEGV"}),
        ("echo '{\"verdict\": \"answer\", \"text\": \"42\"}'", {"verdict": "answer"}),
        ("echo '{\"verdict\": \"refuse\", \"reason\": \"r\"}'", {"verdict": "refuse", "reason": "r"}),
        ("echo '{\"verdict\": \"error\", \"reason\": \"r\"}'", {"verdict": "error", "reason": "r"}),
        ("echo hello",
         {"verdict": "error", "reason": "its output is not JSON: Expecting value: line 1 column 1 (char 0)"}),
        ("echo 3", {"verdict": "error", "reason": "it answered with 3: expected a JSON object"}),
        ("echo '{\"verdict\": \"changed\"}'",
         {"verdict": "error", "reason": "its verdict is 'changed', and there is no 'messages'"}),
        ("echo '{\"verdict\": \"maybe\"}'",
         {"verdict": "error",
          "reason": 'its verdict is "maybe": expected unchanged, changed, refuse, answer or error'}),
        ("yes", {"verdict": "error", "reason": "it wrote more than 4194304 bytes"}),
        ("sleep 60 & exit 0", {}),
    ],
)  # fmt: skip
def test_what_a_program_says_and_how_it_ends(start: Start, daemon: Any, text: str, expected: dict[str, Any]) -> None:
    start(f"#!/bin/bash\n{text}\n")
    assert result(daemon.hook_call("prompt", HI)) == expected


def test_a_large_input_that_is_not_read_and_one_that_is(start: Start, daemon: Any) -> None:
    large = {"messages": [{"role": "user", "content": "x" * 1_000_000}]}
    start("#!/bin/sh\nexit 0\n")
    assert result(daemon.hook_call("prompt", large)) == {}
    start("#!/bin/sh\ncat\n", "--name", "echo")
    assert result(daemon.hook_call("prompt", large, "echo")) == {"verdict": "changed"}


def test_beyond_the_deadline_it_is_killed_with_all_that_it_started(start: Start, daemon: Any, folder: Path) -> None:
    process = start(f"#!/bin/sh\nsleep 61 & echo $! > {folder}/pid; sleep 61\n")
    pid, deadline_ms = "", 500
    while not pid:  # a program that has not even begun by then is killed, too
        reply = daemon.hook_call("prompt", HI, deadline_ms=deadline_ms)
        assert result(reply) == {"verdict": "error", "reason": "it was not done in time, and has been killed"}
        pid = (folder / "pid").read_text() if (folder / "pid").exists() else ""
        deadline_ms *= 4
    assert gone(int(pid))
    assert "hook my-script0: it was not done in time" in ended(process)[1]


def test_what_runs_ends_with_the_command(start: Start, daemon: Any, folder: Path) -> None:
    process = start(f"#!/bin/sh\nsleep 61 & echo $! > {folder}/pid; sleep 61\n")
    daemon.hook_call("observe", {"answer": {}}, wait=False)
    daemon.hook_call("prompt", HI, wait=False)
    until = monotonic() + 60
    while not (folder / "pid").exists() or not (folder / "pid").read_text():
        assert monotonic() < until
        sleep(0.01)
    assert ended(process, signal.SIGTERM)[0] == 143
    assert gone(int((folder / "pid").read_text()))


def gone(pid: int) -> bool:
    until = monotonic() + 60
    while monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().split()[2] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):  # before it was opened, and after
            return True
        sleep(0.01)
    return False


ECHO = """\
#!/usr/bin/env python3
import json, os, sys, time
for line in sys.stdin:
    said = json.loads(line)
    if said["point"] == "chunk":
        text, held = said["text"].upper(), 0
        if text.endswith("?") and not said["flush"]:
            text, held = text[:-1], 1
        elif said["flush"]:
            text = "[%d]" % said["seq"]
        if text == "STOP":
            print(json.dumps({"verdict": "stop", "text": ".", "reason": "enough"}), flush=True)
            continue
        print(json.dumps({"text": text, "held": held}), flush=True)
        continue
    word = said["messages"][-1]["content"]
    if word == "die":
        sys.exit(3)
    if word == "hang":
        time.sleep(60)
    if word == "garbage":
        print("?", flush=True)
    elif word == "twice":
        print("{}\\n{}", flush=True)
    else:
        print(json.dumps({"note": {"pid": os.getpid()}}), flush=True)
"""


def test_one_program_stays(start: Start, daemon: Any) -> None:
    process = start(ECHO, "--persistent", "--point", "chunk", "--hold-chars", "1")
    offer = daemon.offers["my-script0"]
    assert (offer["points"], offer["hold"]) == (["prompt", "chunk"], {"chars": 1})

    def ask(word: str, **more: Any) -> dict[str, Any]:
        return result(daemon.hook_call("prompt", {"messages": [{"role": "user", "content": word}]}, **more))

    pid = ask("hi")["note"]["pid"]
    assert ask("hi")["note"]["pid"] == pid
    assert result(daemon.hook_call("chunk", {"text": "so?"})) == {"verdict": "changed", "held": 1}
    last = daemon.hook_call("chunk", {"text": ""}, seq=1, last=True)
    assert last["value"] == {"text": "[1]"}
    stopped = daemon.hook_call("chunk", {"text": "stop"})
    assert (result(stopped), stopped["value"]) == ({"verdict": "stop", "reason": "enough"}, {"text": "."})
    assert ask("hi")["note"]["pid"] == pid

    def again() -> int:
        """It is started again, though not at once when it has just been started."""
        until = monotonic() + 60
        while "note" not in (said := ask("hi")):
            assert said["reason"] == "it has ended, and is started again in a moment"
            assert monotonic() < until
            sleep(0.05)
        return int(said["note"]["pid"])

    deadline_ms = 600
    while (said := ask("hang", deadline_ms=deadline_ms)["reason"]) == "there was no time left for it":
        deadline_ms *= 4
    assert said == "it did not answer in time, and has been killed"
    assert again() != pid
    assert ask("die")["reason"] == "it ended with exit status 3"
    again()
    assert ask("garbage")["reason"] == "it answered with a line that is no JSON: '?'"
    again()
    assert ask("twice") == {}
    assert ask("hi")["reason"] == "it wrote more than one line for one line"
    assert gone(pid)
    assert ended(process)[0] == 130


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_stays_ends_with_the_command(start: Start, daemon: Any, signal_: int) -> None:
    process = start(ECHO, "--persistent")
    pid = result(daemon.hook_call("prompt", HI))["note"]["pid"]
    status, said = ended(process, signal_)
    assert (status, len(said.splitlines())) == (130 if signal_ == signal.SIGINT else 143, 1), said
    assert gone(pid)


def test_a_program_that_ends_is_not_started_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "RESTART", 60)
    program = programs.Persistent(["true"])
    for why in ("ended with exit status 0", "started again in a moment", "started again in a moment"):
        with pytest.raises(Failure, match=why):
            program.ask({}, monotonic() + 60)
    program.close()
    with pytest.raises(Failure, match="is being closed"):
        program.ask({}, monotonic() + 60)


def test_a_hook_comes_back_with_the_daemon(start: Start, daemon: Any) -> None:
    start("#!/bin/sh\ntr a-z A-Z\n", "--text")
    daemon.restart()
    daemon.wait_for("hook_offer", 2)
    assert daemon.hook_call("prompt", HI)["value"] == SAID


def test_text_of_answers_and_the_output_of_observers(start: Start, daemon: Any, folder: Path) -> None:
    start("#!/bin/sh\nsed 's/a/b/'\n", "--text", point="answer")
    assert daemon.hook_call("answer", {"answer": {"text": "a\n"}})["value"] == {"text": "b\n"}
    assert result(daemon.hook_call("answer", {"answer": {"text": "x"}})) == {}
    start(f"#!/bin/sh\ncat > {folder}/seen; mv {folder}/seen {folder}/all; echo x\n", "--name", "o", point="observe")
    daemon.hook_call("observe", {"answer": {"text": "whole"}}, "o", wait=False)
    until = monotonic() + 60
    while not (folder / "all").exists():
        assert monotonic() < until
        sleep(0.01)
    assert '"text": "whole"' in (folder / "all").read_text()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["run"], "PROGRAM is missing"),
        (["walk", "x"], "there is no 'walk'"),
        (["run", "true"], "--point is missing"),
        (["run", "--point", "never", "true"], "there is no point 'never'"),
        (["run", "--point", "chunk", "true"], "--point chunk needs --persistent"),
        (["run", "--point", "request", "--text", "true"], "--text is for prompt, answer and observe"),
        (["run", "--point", "prompt", "--on-error", "x", "true"], "--on-error x: expected one of refuse, skip"),
        (["run", "--point", "prompt", "--threads", "0", "true"], "--threads must be at least 1"),
        (["run", "--point", "prompt", "no-such-program-here"], "there is no such program"),
        (["run", "--point", "prompt", "/etc/passwd"], "it is not executable"),
        (["run", "--point", "prompt", "true", "-x"], "words that begin with - go behind `--`"),
    ],
)
def test_mistakes(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hook", *argv]) == 2
    assert said in capsys.readouterr().err


def test_a_refused_hook_ends_the_command(ingle: Any, daemon: Any) -> None:
    daemon.refused_offers["true"] = "not_allowed"
    done = ingle("hook", "run", "--point", "prompt", "true")
    assert (done.returncode, done.stderr) == (4, "ingle: no\n")
