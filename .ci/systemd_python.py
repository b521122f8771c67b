"""Build systemd's Python library into a folder: `python .ci/systemd_python.py DIR`. It has no wheels.

Where systemd's headers are not installed, they are taken out of Debian's package (`apt-get download`), without
installing anything. Standard library only.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import prerequisites
import setup


class Failed(Exception):
    """It cannot be built; the message is for people."""


def build(folder: Path) -> None:
    """Build it, for the Python that runs this. Raises Failed."""
    env = dict(os.environ)
    if not prerequisites.has_libsystemd():
        env |= headers(folder.with_name(folder.name + ".headers"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-deps"]
    run([*pip, "--no-cache-dir", "--target", str(folder), setup.SYSTEMD_REQUIREMENT], env)


def headers(folder: Path) -> dict[str, str]:
    """Return the environment in which pkg-config finds systemd's headers, taken out of Debian's package."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None or shutil.which("pkg-config") is None:
        raise Failed(f"systemd's headers are missing; install them, such as: {hint()}")
    folder.mkdir(parents=True)
    try:
        run(["apt-get", "download", "libsystemd-dev"], os.environ, folder)
    except Failed as error:
        raise Failed(f"systemd's headers are missing; install them: {hint()}\n{error}") from None
    (package,) = folder.glob("*.deb")
    run(["dpkg", "-x", str(package), str(folder)], os.environ)
    (described,) = folder.glob("usr/lib/*/pkgconfig/libsystemd.pc")
    library = described.parents[1] / "libsystemd.so"
    library.unlink(missing_ok=True)  # a link to what is in another package
    library.symlink_to(installed_library())
    described.write_text(re.sub(r"=/usr", f"={folder}/usr", described.read_text(encoding="utf-8")), encoding="utf-8")
    return {"PKG_CONFIG_PATH": str(described.parent)}


def installed_library() -> str:
    """Return the shared library that systemd itself uses."""
    places = [f"/usr/lib/{platform.machine()}-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64", "/lib"]
    for place in places:
        path = Path(place) / "libsystemd.so.0"
        if path.exists():
            return str(path)
    raise Failed("there is no libsystemd.so.0 here: systemd is not installed")


def hint() -> str:
    """Return the command that installs the headers."""
    manager = prerequisites.package_manager(prerequisites.read_os_release()) or "apt"
    return prerequisites.install_command(manager, ["libsystemd"])


def run(command: Sequence[str], env: Mapping[str, str], where: Path | None = None) -> None:
    """Run a command. Raises Failed with what it said."""
    done = subprocess.run(command, env=dict(env), cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise Failed(f"{' '.join(command[:5])} ... ended with {done.returncode}\n{said}")


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]).absolute())
    except Failed as failure:
        sys.exit(f"systemd_python: {failure}")
