"""The GPU check without a GPU: what it says of what it cannot run, and that all of it runs."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.gpu import card, steps
from bench.gpu.house import CPU, House
from bench.gpu.sheet import Check, Mark, Result, Sheet, due, exit_status, overview, result, speeds, summary
from bench.gpu_check import CLAIMS, ROOT, main, supervise

pytestmark = pytest.mark.skipif(bool(card.cards()), reason="there is a GPU: `make gpu-check` is the test")


def one(name: str, *marks: Mark, commit: str = "c0ffee") -> Result:
    return Result(name, tuple(Check("it", mark) for mark in marks), {}, 1.0, commit, "2026-01-01")


def test_without_a_gpu_nothing_passes() -> None:
    sheet = Sheet(on_gpu=False)
    sheet.check("it works", True)
    sheet.check_gpu("the GPU works", True)
    sheet.check("it does not", False)
    assert [check.mark for check in sheet.checks] == ["rehearsed", "not run", "failed"]
    assert sheet.checks[1].why == "there is no NVIDIA GPU here"


def test_on_a_gpu_what_is_good_passes() -> None:
    sheet = Sheet(on_gpu=True)
    sheet.check("a", True)
    sheet.check_gpu("b", True)
    sheet.check_gpu("c", False, "seen")
    assert [check.mark for check in sheet.checks] == ["passed", "passed", "failed"]


def test_a_step_has_the_worst_mark_of_its_checks() -> None:
    assert one("a", "passed", "passed").mark == "passed"
    assert one("a", "passed", "not run").mark == "not run"
    assert one("a", "rehearsed", "failed", "not run").mark == "failed"
    assert one("a").mark == "not run", "it looked at nothing"
    assert one("a", "rehearsed", "not run", "rehearsed").words == "2 rehearsed, 1 not run"


def test_only_what_has_passed_everywhere_is_a_success() -> None:
    assert exit_status([one("a", "passed"), one("b", "passed")]) == 0
    assert exit_status([one("a", "passed"), one("b", "not run")]) == 3
    assert exit_status([one("a", "rehearsed")]) == 3
    assert exit_status([one("a", "not run"), one("b", "failed")]) == 1
    assert summary([one("a", "passed"), one("b", "failed")]).startswith("2 steps: 1 passed, 0 rehearsed, 0 not run, 1 ")
    assert "nothing is proven" in summary([one("a", "rehearsed")])


def test_what_has_passed_with_this_commit_is_not_run_again() -> None:
    results = {"a": one("a", "passed"), "b": one("b", "failed"), "c": one("c", "passed", commit="0ther")}
    assert due("abcd", results, "c0ffee", again=False) == ["b", "c", "d"]
    assert due("ab", results, "c0ffee", again=True) == ["a", "b"]


def test_a_result_is_the_same_after_json() -> None:
    first = replace(one("a", "passed", "failed"), figures={"x, s": 1.5})
    assert result(json.loads(json.dumps(first.plain()))) == first


def test_the_overview_has_every_step() -> None:
    table = overview(CLAIMS, {"kill": one("kill", "rehearsed")})
    assert all(f"| {name} " in table for name in CLAIMS)
    assert "not run" in table.splitlines()[2] and "rehearsed" in table


def test_speeds_stand_beside_each_other() -> None:
    load = {"tokens_s": 1000.0, "first_p50_ms": 5.0, "first_p99_ms": 9.0, "front_us_per_token": 20.0, "rounds": 2}
    rows = [replace(one("speed-x", "passed"), figures={"row": name, "loads": {"64 at once": load}}) for name in "xy"]
    assert [line.split("|")[2].strip() for line in speeds(rows).splitlines()[2:]] == ["x", "y"]


def test_what_nvidia_smi_says_is_read() -> None:
    text = "0, NVIDIA H200, 580.159.04, 143771, 5\n1, NVIDIA A10, 580.159.04, 23028, 0\n"
    found = card.read_cards(text)
    assert [(one.name, one.driver) for one in found] == [("NVIDIA H200", "580.159.04"), ("NVIDIA A10", "580.159.04")]
    assert found[0].total == 143771 << 20
    assert card.read_processes("12, 400\n13, [N/A]\n12, 100\n") == {12: 500 << 20}
    assert card.read_cards("") == [] and card.read_processes("") == {}


def test_the_memory_of_a_process_is_that_of_its_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = tmp_path / "nvidia-smi"
    said = f"{os.getpid()}, 700\n1, 9000\n"
    pretended.write_text(
        f"#!/bin/sh\ncase $1 in *gpu=*) echo '0, A card, 580.1, 81559, 1000';; *) echo '{said}';; esac\n"
    )
    pretended.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert card.used() == 1000 << 20
    assert card.used_by(os.getpid()) == 700 << 20
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert card.used_by(child.pid) is None, "the driver tells nothing of it"
    finally:
        child.kill()
        child.wait()
    assert card.obstacle() in ("", "there is a GPU, and the vLLM that is installed is its CPU build: " + CUDA)


CUDA = "INGLE_VARIANT=cuda make setup"


def test_a_step_that_is_not_over_in_time_is_ended_with_what_it_started(tmp_path: Path) -> None:
    into, started = tmp_path / "found", tmp_path / "started"
    found = {"checks": [], "figures": {"so far": 1}}
    code = f"sleep 600 & echo $! > '{started}'; echo '{json.dumps(found)}' > '{into}'; wait"
    told = supervise(["sh", "-c", code], into, limit_s=3, stop_s=5)
    assert told.ended == "not over after 3 s"
    assert told.found == found, "what it had written until then is kept"
    pid, deadline = int(started.read_text()), time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline, "what it started lives on"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended may wait for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_step_that_dies_says_what_it_said(tmp_path: Path) -> None:
    told = supervise([sys.executable, "-c", "print('the card is on fire'); raise SystemExit(4)"], tmp_path / "found")
    assert told.ended == "exit status 4" and "the card is on fire" in told.said


def test_steps_are_listed_without_running_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(f"| {name} " in out for name in CLAIMS)
    assert list(tmp_path.iterdir()) == []


SLEEPS = 'echo = {sleep = "works", memory = {weights = 1000000000, kv_cache = 67108864, process = 1000000}}\n'
STAYS = SLEEPS.replace('sleep = "works", ', "")


def sleeping(tmp_path: Path, more: str, on_gpu: bool) -> list[Check]:
    """Return the checks of two cycles at level 1 with an engine that pretends."""
    place, sheet = replace(CPU, on_gpu=on_gpu, cycles=2), Sheet(on_gpu)
    with House({"m": place.model("2m", tmp_path)}, "echo", more) as house, house.client() as client:
        house.load("m")
        steps.cycles(sheet, place, house, client, 1)
    return sheet.checks


def test_a_model_sleeps_and_wakes_by_the_command(tmp_path: Path) -> None:
    found = sleeping(tmp_path, SLEEPS, on_gpu=False)
    assert [check.mark for check in found] == ["rehearsed", "rehearsed", "not run", "not run"]
    assert [check.why for check in found][:2] == ["2 of 2", "sleeping"]


def test_a_model_that_cannot_sleep_says_why_and_on_a_gpu_that_is_a_failure(tmp_path: Path) -> None:
    for on_gpu, mark in ((False, "not run"), (True, "failed")):
        (check,) = sleeping(tmp_path / mark, STAYS, on_gpu)
        assert check.mark == mark and "sleep" in check.why


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(900)
def test_the_whole_check_is_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu_check", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 3, "nothing failed, and nothing was proven"
    (file,) = tmp_path.glob("*.json")
    kept = {step["name"]: step for step in json.loads(file.read_text())["steps"]}
    assert list(kept) == list(CLAIMS)
    marks = {name: {check["mark"] for check in step["checks"]} for name, step in kept.items()}
    assert not any("passed" in found or "failed" in found for found in marks.values()), marks
    for name in ("answer", "together", "plan", "evict", "kill"):
        assert marks[name] == {"rehearsed", "not run"}, name
    assert marks["sleep"] == {"not run"}, "a CPU has no memory to give back"
    assert "CPU" in kept["sleep"]["checks"][0]["why"], "the daemon's own reason"
    assert {name: found for name, found in marks.items() if name in ("speed-raw", "speed-ingle", "speed-serve")} == {
        "speed-raw": {"rehearsed"},
        "speed-ingle": {"rehearsed"},
        "speed-serve": {"rehearsed"},
    }
    reasons = {check["why"] for step in kept.values() for check in step["checks"] if check["mark"] == "not run"}
    assert "there is no NVIDIA GPU here" in reasons and all(reasons)
    assert all(f"not run: {reason}" in done.stdout for reason in reasons)
    table = file.with_suffix(".md").read_text()
    assert "proves nothing of a GPU: there is no NVIDIA GPU here" in table
    assert "raw AsyncLLM" in table
