"""Make `.venv` in the repository and install ingle with everything that it needs: `make` does this by itself.

It runs on a bare machine, before anything is installed: standard library only, and a syntax that an older Python reads
too, so that such a Python gets an answer instead of a traceback.

    python3 .ci/setup.py                  the development environment; does nothing when nothing has changed
    python3 .ci/setup.py --check          only say what this machine lacks
    python3 .ci/setup.py --install DIR    an environment for use: no tools, and a copy of ingle instead of a link

INGLE_VARIANT=cpu or cuda overrides the choice between vLLM's builds, which is: cuda where there is an NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from prerequisites import dotted, explain, has_libsystemd, missing_prerequisites, read_os_release

ROOT = Path(__file__).resolve().parent.parent
RUNTIME_LOCK = ROOT / ".ci" / "lock-cpu.txt"
TOOLS_LOCK = ROOT / ".ci" / "lock-dev.txt"
PROJECT = ROOT / "pyproject.toml"

# === because == lets pip take a CPU build of the same version, where it is configured to find one.
CUDA_REQUIREMENTS = ("vllm==0.32.0", "torch===2.13.0")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# What ingle and its shipped plugins need themselves; vLLM's own needs are vLLM's to say where pip resolves them.
OURS = (
    "cffi", "cryptography", "google-re2", "jeepney", "mimesis", "msgpack", "msgspec", "phonenumbers", "pluggy",
    "pycparser", "python-stdnum", "pyzmq", "tree-sitter", "tree-sitter-bash", "watchdog",
)  # fmt: skip

SYSTEMD_REQUIREMENT = "systemd-python==235"
"""Has no wheels: it is built where systemd's headers are. Without it ingle does the same."""

STAMP = "ingle-setup.json"
UNFINISHED = "ingle-setup.unfinished"


class Failed(Exception):
    """A step of the set-up failed; the message is for people."""


# ---------------------------------------------------------------- which build of vLLM


def choose_variant() -> str:
    """Return `cuda` where vLLM can use an NVIDIA GPU, else `cpu`."""
    wish = os.environ.get("INGLE_VARIANT", "")
    if wish not in ("", "cpu", "cuda"):
        raise Failed(f"INGLE_VARIANT is {wish!r}; it can be cpu or cuda")
    return wish or ("cuda" if has_nvidia_gpu() else "cpu")


def has_nvidia_gpu() -> bool:
    """Tell whether the NVIDIA driver shows a GPU."""
    try:
        if any(Path("/proc/driver/nvidia/gpus").iterdir()):
            return True
    except OSError:
        pass
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU " in listed.stdout


# ---------------------------------------------------------------- what is there already


class Key(NamedTuple):
    """What an environment was made from: it is up to date when nothing of this has changed."""

    base: str
    packages: str
    project: str


def wanted_key(venv: Path, variant: str, for_use: bool) -> Key:
    """Return the key that the environment should have."""
    base = [variant, sys.version, sys.base_prefix, str(venv), "use" if for_use else "development"]
    locks = [RUNTIME_LOCK, *([] if for_use else [TOOLS_LOCK])]
    asked = CUDA_REQUIREMENTS if variant == "cuda" else ()
    packages = [*asked, *(path.read_text(encoding="utf-8") for path in locks)]
    packages += [SYSTEMD_REQUIREMENT] if has_libsystemd() else []
    return Key(digest(base), digest(packages), digest([PROJECT.read_text(encoding="utf-8")]))


def digest(parts: Sequence[str]) -> str:
    """Return one short hash of many texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def present_key(venv: Path) -> Key | None:
    """Return the key of the environment that is there, or None where a set-up was never finished."""
    try:
        key = Key(**json.loads((venv / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    finished = not (venv / UNFINISHED).exists() and (venv / "bin" / "python").exists()
    return key if finished else None


def write_key(venv: Path, key: Key) -> None:
    """Record that the environment is complete."""
    draft = venv / (STAMP + ".new")
    draft.write_text(json.dumps(key._asdict()), encoding="utf-8")
    draft.replace(venv / STAMP)
    (venv / UNFINISHED).unlink(missing_ok=True)


# ---------------------------------------------------------------- making it


class Recipe:
    """One set-up of one environment: numbered steps, their times, and a log of what the tools said."""

    def __init__(self, venv: Path, variant: str, for_use: bool, lock: int) -> None:
        self.venv = venv
        self.variant = variant
        self.for_use = for_use
        self.lock = lock
        self.log = venv / "setup.log"

    def run(self, have: Key | None, want: Key) -> None:
        """Bring the environment from the key that it has to the one that is wanted."""
        if have is None or have.base != want.base:
            self.step("virtual environment", self.create)
            have = None
        else:
            (self.venv / UNFINISHED).touch()
        if have is None or have.packages != want.packages:
            self.install_packages()
            if has_libsystemd():
                self.step("systemd's Python library", self.install_systemd)
            self.step("compiling Python files", self.compile)
        self.step("ingle itself", self.install_project)
        write_key(self.venv, want)

    def step(self, what: str, action: Callable[[], object]) -> None:
        """Do one step and print how long it took."""
        print(f"  {what:<34}", end=" ", flush=True)
        start = time.monotonic()
        try:
            action()
        except Failed:
            print("failed", flush=True)
            raise
        print(f"{time.monotonic() - start:6.1f} s", flush=True)

    def create(self) -> None:
        """Make an empty environment in place of whatever is there."""
        if self.venv.is_dir():
            (self.venv / STAMP).unlink(missing_ok=True)  # first, should this be interrupted
            shutil.rmtree(self.venv)
        self.venv.mkdir(parents=True)
        (self.venv / UNFINISHED).touch()
        self.call([sys.executable, "-m", "venv", str(self.venv)])

    def install_packages(self) -> None:
        """Install vLLM, all that it needs, and, for development, the tools."""
        if self.variant == "cuda":
            self.step("vLLM for CUDA, with all it needs", self.install_cuda)
        else:
            self.step("torch for CPU", self.install_torch)
            self.step("vLLM for CPU, with what it needs", lambda: self.pip("--no-deps", "-r", str(RUNTIME_LOCK)))
            if not self.for_use:
                self.step("development tools", lambda: self.pip("--no-deps", "-r", str(TOOLS_LOCK)))

    def install_cuda(self) -> None:
        """Let pip resolve vLLM's ordinary dependencies together with ours and the tools."""
        tools = [] if self.for_use else ["-r", str(TOOLS_LOCK)]
        ours = [line for line in pins(RUNTIME_LOCK) if line.partition("==")[0] in OURS]
        self.pip(*CUDA_REQUIREMENTS, *ours, *tools)

    def install_torch(self) -> None:
        """Install torch's CPU build from where pip is configured to look, else from PyTorch's own index."""
        torch = next(line for line in pins(RUNTIME_LOCK) if line.startswith("torch=="))
        try:
            self.pip("--no-deps", torch)
            return
        except Failed:
            pass
        try:
            self.pip("--no-deps", "--index-url", TORCH_CPU_INDEX, torch)
        except Failed as failure:
            where = f"neither where pip is configured to look nor on {TORCH_CPU_INDEX}"
            raise Failed(f"{torch} for Python {dotted(sys.version_info[:2])} is {where}.\n{failure}") from None

    def install_systemd(self) -> None:
        """Build systemd's library for Python; where that fails, the log says why, and ingle does without it."""
        with suppress(Failed):
            self.pip("--no-deps", SYSTEMD_REQUIREMENT)

    def install_project(self) -> None:
        """Install ingle: as a link to these files for development, as a copy for use."""
        if self.for_use:
            self.pip("--no-deps", "--force-reinstall", str(ROOT))
        else:
            self.pip("--no-deps", "--no-build-isolation", "-e", str(ROOT))

    def compile(self) -> None:
        """Compile on all cores, which pip does on one; files that are no Python of this version do not matter."""
        packages = self.venv / "lib" / f"python{dotted(sys.version_info[:2])}" / "site-packages"
        with suppress(Failed):
            self.call([self.python(), "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", str(packages)])

    def pip(self, *arguments: str) -> None:
        """Run the environment's own pip."""
        options = ["--disable-pip-version-check", "--no-input"]
        self.call([self.python(), "-m", "pip", *options, "install", "--no-compile", *arguments])

    def python(self) -> str:
        """Return the environment's own Python."""
        return str(self.venv / "bin" / "python")

    def call(self, command: Sequence[str]) -> None:
        """Run a command with its output in the log; the children hold the lock too, should this process be killed."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            done = subprocess.run(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[self.lock]
            )
        if done.returncode != 0:
            raise Failed(f"{' '.join(command[:6])} ... ended with {done.returncode}\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        """Return the end of the log."""
        end = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "\n".join(["", f"the end of {self.log}:", *(f"  | {line}" for line in end)])


def pins(lock: Path) -> list[str]:
    """Return the lines `name==version` of a lock file."""
    lines = (line.strip() for line in lock.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Let one set-up at a time into an environment; the others wait, and then find it made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another set-up is running here: waiting for it", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def set_up(venv: Path, for_use: bool) -> None:
    """Make the environment, or find that nothing is to do."""
    variant = choose_variant()
    name = f"{variant} build, Python {platform.python_version()}"
    want = wanted_key(venv, variant, for_use)
    if present_key(venv) == want and not for_use:
        return
    with locked(venv.with_name(venv.name + ".lock")) as lock:
        have = present_key(venv)
        if have == want and not for_use:
            return
        print(f"setting up ingle in {shown(venv)}: {name}", flush=True)
        start = time.monotonic()
        Recipe(venv, variant, for_use, lock).run(have, want)
        print(f"ready after {time.monotonic() - start:.0f} s", flush=True)


def shown(path: Path) -> str:
    """Write a path shortly where it is below the repository."""
    return str(path.relative_to(ROOT)) if ROOT in path.parents else str(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the set-up and return the exit status."""
    parser = argparse.ArgumentParser(description="Set ingle up in .venv, or say what this machine lacks.")
    parser.add_argument("--check", action="store_true", help="only say what this machine lacks")
    parser.add_argument("--install", metavar="DIR", type=Path, help="make an environment for use in DIR instead")
    options = parser.parse_args(arguments)
    lacks = missing_prerequisites()
    if lacks:
        print(explain(lacks, read_os_release()), file=sys.stderr)
        return 1
    if options.check:
        print("this machine has all that ingle needs")
        return 0
    venv = options.install.expanduser().absolute() if options.install else ROOT / ".venv"
    try:
        set_up(venv, for_use=options.install is not None)
    except Failed as failure:
        print(f"\nset-up failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up interrupted: the next run repairs it", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
