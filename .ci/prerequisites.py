"""What this machine must have before ingle can be set up, and the command of its distribution that brings the rest.

Standard library only, and a syntax that an older Python reads too, as `setup.py` beside it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

OLDEST_PYTHON = (3, 11)
OLDEST_GLIBC = (2, 31)
MACHINES = ("x86_64", "aarch64")

# For each package manager: how it installs, and what it calls the things that can be missing. {v} is 3.12, {n} is 312.
MANAGERS = {
    "apt": {
        "install": "apt-get install -y",
        "python": "python3.11 python3.11-venv python3.11-dev",
        "venv": "python{v}-venv",
        "headers": "python{v}-dev",
        "compiler": "build-essential",
        "libnuma.so.1": "libnuma1",
        "libstdc++.so.6": "libstdc++6",
        "libz.so.1": "zlib1g",
        "libsystemd": "libsystemd-dev pkg-config",
    },
    "dnf": {
        "install": "dnf install -y",
        "python": "python3.12 python3.12-devel",
        "venv": "python3-libs",
        "headers": "python{v}-devel",
        "compiler": "gcc gcc-c++",
        "libnuma.so.1": "numactl-libs",
        "libstdc++.so.6": "libstdc++",
        "libz.so.1": "zlib",
        "libsystemd": "systemd-devel pkgconf",
    },
    "pacman": {
        "install": "pacman -S --needed",
        "python": "python",
        "venv": "python",
        "headers": "python",
        "compiler": "gcc",
        "libnuma.so.1": "numactl",
        "libstdc++.so.6": "gcc-libs",
        "libz.so.1": "zlib",
        "libsystemd": "systemd-libs pkgconf",
    },
    "zypper": {
        "install": "zypper install -y",
        "python": "python312 python312-devel",
        "venv": "python{n}",
        "headers": "python{n}-devel",
        "compiler": "gcc gcc-c++",
        "libnuma.so.1": "libnuma1",
        "libstdc++.so.6": "libstdc++6",
        "libz.so.1": "libz1",
        "libsystemd": "systemd-devel pkg-config",
    },
}
FAMILIES = {
    "apt": ("debian", "ubuntu"),
    "dnf": ("fedora", "rhel", "centos"),
    "pacman": ("arch",),
    "zypper": ("suse", "opensuse"),
}


class Missing(NamedTuple):
    """One thing that this machine lacks, and the key of the package that brings it (empty: no package does)."""

    what: str
    package: str


def missing_prerequisites(search_path: str | None = None, include: str | None = None) -> list[Missing]:
    """List everything that this machine lacks, before anything is tried."""
    found = [
        *missing_platform(),
        *missing_python(),
        *missing_compiler(search_path),
        *missing_headers(include),
    ]
    return found + missing_libraries(("libnuma.so.1", "libstdc++.so.6", "libz.so.1"))


def missing_platform() -> list[Missing]:
    """Check that vLLM's wheels fit this machine."""
    lacks = []
    if sys.platform != "linux":
        lacks.append(Missing("Linux (ingle is a Linux service)", ""))
    if platform.machine() not in MACHINES:
        lacks.append(Missing(f"a processor that vLLM is built for: {' or '.join(MACHINES)}", ""))
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if name != "glibc" or numbers < OLDEST_GLIBC:
        lacks.append(Missing(f"glibc {dotted(OLDEST_GLIBC)} or newer (vLLM's wheels need it)", ""))
    return lacks


def missing_python() -> list[Missing]:
    """Check the Python that runs this script, and that it can make virtual environments."""
    if sys.version_info < OLDEST_PYTHON:
        what = f"Python {dotted(OLDEST_PYTHON)} or newer (this is {platform.python_version()}"
        newer = newer_pythons()
        what += f"; try `make PYTHON={newer[0]}`)" if newer else ")"
        return [Missing(what, "python")]
    absent = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    return [Missing(f"Python's module {name}", "venv") for name in absent]


def newer_pythons() -> list[str]:
    """Return the commands on this machine that start a Python which is new enough."""
    return [f"python3.{minor}" for minor in (14, 13, 12, 11) if shutil.which(f"python3.{minor}")]


def missing_compiler(search_path: str | None = None) -> list[Missing]:
    """Check for a C compiler, which torch and Triton call while a model is loaded."""
    names = [*os.environ.get("CC", "").split()[:1], "cc", "gcc", "clang"]
    if any(shutil.which(name, path=search_path) for name in names):
        return []
    return [Missing("a C compiler (cc, gcc or clang)", "compiler")]


def missing_headers(include: str | None = None) -> list[Missing]:
    """Check for Python's C headers, which the compiled code includes."""
    if sys.version_info < OLDEST_PYTHON:
        return []  # those of the newer Python are what matters, and missing_python asks for them too
    folder = Path(include or sysconfig.get_path("include"))
    if (folder / "Python.h").is_file():
        return []
    return [Missing(f"Python's C headers (Python.h in {folder})", "headers")]


def missing_libraries(names: Sequence[str]) -> list[Missing]:
    """Check for the shared libraries that vLLM's wheels load and do not bring."""
    return [Missing(f"the shared library {name}", name) for name in names if not loads(name)]


def loads(library: str) -> bool:
    """Tell whether the dynamic linker finds a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def has_libsystemd() -> bool:
    """Tell whether systemd's library can be built against."""
    tool = shutil.which("pkg-config")
    return tool is not None and subprocess.run([tool, "--exists", "libsystemd"], check=False).returncode == 0


def package_manager(os_release: str) -> str | None:
    """Return the package manager of the distribution that an os-release file describes."""
    fields = dict(re.findall(r'^(ID|ID_LIKE)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    kin = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".split()
    for name in kin:
        for manager, families in FAMILIES.items():
            if any(name == family or name.startswith(family + "-") for family in families):
                return manager
    return None


def install_command(manager: str, packages: Sequence[str]) -> str:
    """Return the exact command that installs what the keys in `packages` stand for."""
    names = MANAGERS[manager]
    version = dotted(max(sys.version_info[:2], OLDEST_PYTHON))
    wanted = " ".join(names[key].format(v=version, n=version.replace(".", "")) for key in packages)
    sudo = "sudo " if os.geteuid() != 0 else ""
    return f"{sudo}{names['install']} {wanted}"


def explain(lacks: Sequence[Missing], os_release: str) -> str:
    """Say what is missing and which command brings each of it."""
    manager = package_manager(os_release)
    lines = ["ingle cannot be set up yet. This machine lacks:"]
    for missing in lacks:
        lines.append(f"  - {missing.what}")
        if missing.package and manager:
            lines.append(f"      {install_command(manager, [missing.package])}")
    packages = list(dict.fromkeys(missing.package for missing in lacks if missing.package))
    if manager and len(packages) > 1:
        lines.append(f"All of it at once:\n      {install_command(manager, packages)}")
    elif packages and not manager:
        lines.append("Install that with your distribution's package manager, then try again.")
    return "\n".join(lines)


def read_os_release() -> str:
    """Return the text that names this machine's distribution."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            return Path(path).read_text(encoding="utf-8")
        except OSError:
            continue
    return ""


def dotted(version: Sequence[object]) -> str:
    """Write a version tuple as people do."""
    return ".".join(str(part) for part in version)
