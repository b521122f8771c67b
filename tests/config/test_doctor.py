"""What the doctor finds, on machines that are made up and on this one."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ingled import doctor
from ingled.config import Config, load
from ingled.core.placement import Device
from ingled.doctor import Finding, Verdict
from ingled.models.builtin import ember_path

GIB = 1 << 30


def config(tmp_path: Path, text: str, engine: str = "vllm") -> Config:
    file = tmp_path / "ingled.toml"
    file.write_text(text)
    socket = tmp_path / "s"
    return load(file, socket=socket, state=tmp_path / "state", engine="vllm" if engine == "vllm" else "echo")


def broken(findings: list[Finding]) -> list[str]:
    for one in findings:
        assert bool(one.remedy) == (one.state != "good"), one
    return [f"{one.check}: {one.text}" for one in findings if one.state == "broken"]


def gpu(root: Path, *, driver: bool) -> Path:
    device = root / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    if driver:
        (root / "proc/driver/nvidia").mkdir(parents=True)
        (root / "proc/driver/nvidia/version").write_text("NVRM version: NVIDIA Module  580.82.07  x\nGCC version: 13\n")
    return root


def test_a_gpu_without_a_driver_is_broken(tmp_path: Path) -> None:
    assert "no driver is loaded" in broken(list(doctor.gpus(gpu(tmp_path, driver=False))))[0]


def test_a_driver_has_its_number(tmp_path: Path) -> None:
    first = next(iter(doctor.gpus(gpu(tmp_path, driver=True))))
    assert (first.state, first.text) == ("good", "1 NVIDIA GPUs, driver 580.82.07")


def test_a_machine_without_a_gpu_is_good(tmp_path: Path) -> None:
    (only,) = doctor.gpus(tmp_path)
    assert only.state == "good"


def test_a_missing_shared_memory_is_broken(tmp_path: Path) -> None:
    assert broken(list(doctor.shm(tmp_path))) == ["/dev/shm: there is none that can be written"]


def test_each_profile_has_its_verdict(tmp_path: Path) -> None:
    cut = Path(shutil.copytree(ember_path(), tmp_path / "cut"))
    os.truncate(cut / "model.safetensors", 1000)
    open_to_all = Path(shutil.copytree(ember_path(), tmp_path / "open"))
    open_to_all.chmod(0o777)
    text = "".join(f'[models.{name}]\nsource = "{tmp_path / name}"\n' for name in ("gone", "cut", "open"))
    text += '[models.odd]\nsource = "builtin:ember"\n[models.big]\nsource = "builtin:ember"\nmemory = "9TB"\n'
    verdicts = {"odd": Verdict("no option 'bogus'"), "big": Verdict(None, 9 * 10**12), "open": Verdict(None, 5)}
    found = doctor.examine(config(tmp_path, text), verdicts)
    told = {line.partition(":")[0]: line for line in broken(found) if line.startswith("model")}
    assert set(told) == {"model gone", "model cut", "model odd", "model big"}
    assert "does not exist" in told["model gone"] and "cut off" in told["model cut"]
    assert "bogus" in told["model odd"] and "8.2 TiB" in told["model big"]
    assert len([one for one in found if one.check == "room"]) == 1
    texts = {one.text for one in found if one.check == "model open"}
    assert texts == {f"{open_to_all} can be written by everybody", "can run here; needs 5 B"}


def verdict(tmp_path: Path, device: Device, *, spread: int = 1) -> tuple[str, str]:
    text = f'[models.a]\nsource = "builtin:ember"\ntensor_parallel = {spread}\n'
    (found,) = doctor.profile(config(tmp_path, text), "a", Verdict(None, 6 * GIB), [device])
    assert bool(found.remedy) == (found.state != "good")
    return found.state, found.text


def test_what_the_daemon_would_do_with_a_model_is_what_is_told(tmp_path: Path) -> None:
    assert verdict(tmp_path, Device("memory", 6 * GIB, 7 * GIB)) == ("good", "can run here; needs 6.0 GiB")
    state, text = verdict(tmp_path, Device("memory", 5 * GIB, 6 * GIB))
    assert state == "warning" and "other programs hold memory" in text and "5.0 GiB are left" in text
    state, text = verdict(tmp_path, Device("memory", 5 * GIB, 6 * GIB - 1))
    assert state == "broken" and "needs 6.0 GiB" in text
    state, text = verdict(tmp_path, Device("memory 0", 9 * GIB), spread=2)
    assert state == "broken" and "spread over 2 devices" in text
    assert verdict(tmp_path, Device("memory", 9 * GIB, whole=True), spread=2)[0] == "good"
    assert verdict(tmp_path, Device("memory"))[0] == "good", "no bound is known"


@contextmanager
def nobody() -> Iterator[None]:
    """Be somebody who may not read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_a_folder_that_cannot_be_entered_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    file = tmp_path / "ingled.toml"
    file.write_text(f'[models.a]\nsource = "{closed}/in/model"\n')
    of = load(file, socket=closed / "in" / "s", state=closed / "in" / "state")
    closed.chmod(0o000)
    with nobody():
        found = [*doctor.disks(of), *doctor.profile(of, "a", None, [])]
    state, runtime, model = broken(found)
    assert "cannot be written" in state and "cannot be written" in runtime and "cannot be entered" in model
    closed.chmod(0o700)


def test_a_ledger_that_was_set_aside_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/ledger.json.unreadable-1").touch()
    found = list(doctor.disks(config(tmp_path, "")))
    assert any("unreadable-1" in one.text and one.state == "warning" for one in found)


@pytest.mark.timeout(600)  # it imports the engine
@pytest.mark.parametrize(("text", "status"), [("", 0), ("[daemon]\nbogus = 1\n", 1)])
def test_the_program_prints_json_and_says_whether_something_is_broken(tmp_path: Path, text: str, status: int) -> None:
    (tmp_path / "ingled.toml").write_text(text)
    command = [sys.executable, "-m", "ingled.doctor", "--engine", "echo", "--config", str(tmp_path / "ingled.toml")]
    done = subprocess.run([*command, "--state-dir", str(tmp_path)], capture_output=True, text=True, timeout=500)
    findings = json.loads(done.stdout)["findings"]
    assert (done.returncode, done.stderr) == (status, ""), findings
    assert findings[0]["check"] == "configuration"
    checks = {one["check"] for one in findings}
    assert {"engine", "gpu", "memory", "/dev/shm", "state folder"} <= checks
    assert ("model ember" in checks) is (status == 0), "of a configuration that cannot be read no model is known"


def test_what_models_might_have_at_best_is_told_where_that_is_more() -> None:
    def told(budget: int, most: int | None) -> str:
        (found,) = doctor.room([Device("memory", budget, most)])
        return found.text

    assert told(GIB, 2 * GIB) == "models may take 1.0 GiB of memory now, and 2.0 GiB if other programs gave theirs back"
    for most in (None, GIB, GIB + 1):
        assert told(GIB, most) == "models may take 1.0 GiB of memory now"
