"""How `ingle` ends: with streams that are closed or full, with failures, for people and for programs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.client.answers import until


def redirected(ingle: Any, redirect: str, *argv: str) -> "subprocess.CompletedProcess[str]":
    """Run the command through a shell that redirects."""
    line = f'exec "$0" -m ingle "$@" {redirect}'
    return subprocess.run(
        ["sh", "-c", line, sys.executable, *argv],
        env=ingle.environment, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("argv", [["status"], ["ask", "hi"], ["version"], ["help"], ["models", "--json"], ["rpc"]])
@pytest.mark.parametrize(
    ("redirect", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]
)
def test_output_that_cannot_be_written(ingle: Any, argv: list[str], redirect: str, why: str) -> None:
    ran = redirected(ingle, redirect, *argv)
    assert (ran.returncode, ran.stderr) == (1, f"ingle: cannot write: {why}\n")


def test_a_full_disk_cancels_what_runs(ingle: Any, daemon: Any) -> None:
    ran = redirected(ingle, ">/dev/full", "ask", "forever")
    assert ran.returncode == 1
    daemon.wait_for("cancel", id="r1")


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_errors_that_cannot_be_told_leave_the_exit_status(ingle: Any, redirect: str) -> None:
    for argv, status, out in (
        (["ask", "-v", "say:x"], 0, "x\n"),
        (["load", "--progress", "tiny"], 0, "tiny: ready\n"),
        (["ask", "fail:bad_value"], 4, ""),
        (["xyzzy"], 2, ""),
    ):
        ran = redirected(ingle, redirect, *argv)
        assert (ran.returncode, ran.stdout, ran.stderr) == (status, out, "")


def test_closed_input(ingle: Any) -> None:
    ran = redirected(ingle, "<&-", "ask", "say:x")
    assert (ran.returncode, ran.stdout) == (0, "x\n")
    ran = redirected(ingle, "<&-", "rpc")
    assert (ran.returncode, ran.stderr) == (2, "ingle: standard input: Bad file descriptor\n")


@pytest.mark.parametrize(
    ("argv", "status", "expected"),
    [
        (["ask", "--json", "fail:internal"], 1, {"code": "internal", "fault": "daemon", "at": "body.messages"}),
        (["ask", "--json", "--no-stream", "fail:bad_value"], 4, {"code": "bad_value", "fault": "client"}),
        (["ask", "--json", "--detach", "fail:bad_value"], 4, {"code": "bad_value", "hint": "do x"}),
        (["attach", "--json", "r9"], 4, {"code": "no_such_request"}),
        (["show", "--json", "nobody"], 4, {"code": "no_such_model", "hint": "see `ingle models`", "fault": "client"}),
        (["load", "nobody", "--json"], 4, {"code": "no_such_model", "message": "no model 'nobody'"}),
        (["show", "--json"], 2, {"code": "usage", "message": "show: MODEL is missing", "fault": "client"}),
        (["xyzzy", "--json"], 2, {"code": "usage"}),
        (["ask", "--json", "-f", "/nowhere"], 2, {"code": "usage", "message": "/nowhere: No such file or directory"}),
        (["ask", "--json", "-f", "/dev/zero"], 4, {"code": "too_large"}),
        (["--socket", "/nowhere", "ps", "--json"], 3, {"code": "unreachable", "reason": "absent", "fault": "daemon"}),
    ],
)
def test_with_json_a_failure_is_a_line_too(ingle: Any, argv: list[str], status: int, expected: dict[str, Any]) -> None:
    ran = ingle(*argv)
    assert ran.returncode == status
    assert ran.stderr.startswith("ingle: ")
    (line,) = ran.stdout.splitlines()
    failed = json.loads(line)
    assert expected.items() <= failed.items()
    assert failed["t"] == "failed"
    assert {"code", "message", "hint", "fault"} <= failed.keys()
    assert f"ingle: {failed['message']}" in ran.stderr


def test_json_is_the_verbs_option_only_where_it_is_one(ingle: Any) -> None:
    ran = ingle("ask", "-s", "--json", "fail:bad_value")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "unreachable" in ingle("help", "json").stdout


def test_a_failure_in_the_middle_is_the_last_line(ingle: Any, daemon: Any) -> None:
    process = ingle.start("ask", "--json", "forever")
    said = until(process.stdout.fileno(), b'"chunk"')
    ingle("cancel", "r1")
    rest, error = process.communicate(timeout=60)
    lines = [json.loads(line) for line in (said + rest).splitlines()]
    assert [line["t"] for line in lines].count("failed") == 1
    assert (lines[-1]["t"], lines[-1]["code"], lines[-1]["id"]) == ("failed", "cancelled", "r1")
    assert (process.returncode, error) == (4, b"ingle: cancelled\n")


def test_endless_files_are_refused(ingle: Any, folder: Path) -> None:
    for redirect, argv in (("</dev/zero", ["hi"]), ("", ["-f", "/dev/zero", "hi"])):
        ran = redirected(ingle, redirect, "ask", *argv)
        assert (ran.returncode, ran.stdout) == (4, "")
        assert "the prompt has more than 4194304 bytes" in ran.stderr
    (folder / "half").write_text("x" * (3 << 20))
    half = str(folder / "half")
    ran = ingle("ask", "-f", half, "-f", half)
    assert (ran.returncode, f"with {half} the prompt has more" in ran.stderr) == (4, True)
    assert ingle("ask", "-f", half).returncode == 0
