"""Install ingle, or remove it: `make install` and `make uninstall` run this. Doing it twice changes nothing more.

    python3 .ci/install.py                  as root: for the machine, in /usr/local; else for this user, in ~/.local
    python3 .ci/install.py --uninstall      take away what was installed; models, settings and accounts stay
    --prefix DIR, --destdir DIR             elsewhere; with --destdir only files are made, for a package
    --user, --system                        whatever the user is

Standard library only, and a syntax that an older Python reads too, as `setup.py` beside it.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SETUP = ROOT / ".ci" / "setup.py"
COMMANDS = ("ingle", "ingled")
AS_WRITTEN = "/usr/local"
"""The prefix that the units name."""
ON_SYSTEMDS_PATH = ("/usr", "/usr/local")
"""Prefixes below which systemd looks for units; for another one they go to /etc."""
COMPLETIONS = {
    "bash": "share/bash-completion/completions/ingle",
    "zsh": "share/zsh/site-functions/_ingle",
    "fish": "share/fish/vendor_completions.d/ingle.fish",
}


class Failed(Exception):
    """The installation cannot go on; the message is for people."""


class Layout(NamedTuple):
    """Where everything goes."""

    prefix: Path
    destdir: Path | None
    system: bool

    def real(self, path: Path) -> Path:
        """Return where a file is written now; `destdir` stands before it."""
        return path if self.destdir is None else self.destdir / path.relative_to("/")

    @property
    def venv(self) -> Path:
        """Return the folder of the environment."""
        return self.prefix / ("lib" if self.system else "share") / "ingle"

    def config(self, kind: str) -> Path:
        """Return the folder for systemd's files of this kind, such as `systemd/system`."""
        if not self.system:
            return self.prefix / "share" / kind
        return (self.prefix / "lib" if str(self.prefix) in ON_SYSTEMDS_PATH else Path("/etc")) / kind

    def units(self) -> Iterator[tuple[Path, Path]]:
        """Return each of systemd's files, and where it goes."""
        kinds = ("systemd/system", "systemd/user", "sysusers.d", "tmpfiles.d") if self.system else ("systemd/user",)
        for kind in kinds:
            folder = ROOT / kind if kind.startswith("systemd/") else ROOT / "systemd" / kind
            for source in sorted(folder.iterdir()):
                if source.is_file():
                    yield source, self.config(kind) / source.name

    def docs(self) -> Iterator[tuple[Path, Path]]:
        """Return the documents that the units name, and where they go."""
        for name in ("service.md", "configuration.md", "ingled.example.toml"):
            yield ROOT / "docs" / name, self.prefix / "share/doc/ingle" / name

    def files(self) -> list[Path]:
        """Return everything outside the environment."""
        found = [target for _, target in (*self.units(), *self.docs())]
        found += [self.prefix / path for path in COMPLETIONS.values()]
        return found + [self.prefix / "bin" / name for name in COMMANDS]


# ---------------------------------------------------------------- installing


def install(layout: Layout) -> None:
    """Install all of it, and tell systemd."""
    os.umask(0o022)  # the service's account reads what root writes
    python = python_for(layout)
    say(f"installing ingle below {layout.prefix}, with {python}")
    if layout.system and layout.destdir is None:
        bring_headers()
    done = subprocess.run([python, str(SETUP), "--install", str(layout.real(layout.venv))], check=False)
    if done.returncode:
        raise Failed("the environment cannot be made: see above")
    if layout.destdir is not None:
        relocate(layout)
    install_files(layout, str(layout.real(layout.venv) / "bin/python"))
    if layout.destdir is None:
        if layout.system:
            make_accounts_and_folders(layout)
        systemctl(layout, "daemon-reload")
    farewell(layout)


def install_files(layout: Layout, python: str) -> None:
    """Write units, documents, completions and the commands; `python` is one that has ingle's client."""
    for source, target in (*layout.units(), *layout.docs()):
        put(layout.real(target), adapted(source, layout))
    for shell, path in COMPLETIONS.items():
        command = [python, "-P", "-m", "ingle", "completion", shell]
        text = subprocess.run(command, cwd=ROOT / "client", capture_output=True, text=True, check=True).stdout
        put(layout.real(layout.prefix / path), text)
    for name in COMMANDS:
        link = layout.real(layout.prefix / "bin" / name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(layout.venv / "bin" / name)


def adapted(source: Path, layout: Layout) -> str:
    """Return a file's text with this layout's places in it."""
    text = source.read_text(encoding="utf-8")
    if source.parent.name == "user":
        return text.replace("%h/.local/bin/", f"{layout.prefix}/bin/")
    return text if source.suffix == ".md" else text.replace(f"{AS_WRITTEN}/", f"{layout.prefix}/")


def put(path: Path, text: str) -> None:
    """Write a file that everybody may read, if it is not so already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def python_for(layout: Layout) -> str:
    """Return the Python of the environment: for the machine one that every account may run. Raises Failed."""
    if not layout.system:
        return sys.executable
    named = [f"/usr/bin/python3.{minor}" for minor in (13, 12, 11)]
    for candidate in ("/usr/bin/python3", *named, sys.executable):
        if fits(candidate):
            return candidate
    raise Failed(
        "there is no Python 3.11 or newer outside home folders, with venv: the service's account cannot run another "
        "one. Install your distribution's python3, python3-venv and python3-dev"
    )


def fits(python: str) -> bool:
    """Tell whether a Python is new enough, can make environments, and is in nobody's home."""
    ask = "import sys, venv, ensurepip; print(sys.version_info >= (3, 11), sys.base_prefix)"
    try:
        done = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=False)
    except OSError:
        return False
    new, _, prefix = done.stdout.strip().partition(" ")
    return done.returncode == 0 and new == "True" and not in_a_home(Path(prefix))


def in_a_home(path: Path) -> bool:
    """Tell whether a path is below somebody's home folder, where a service may not go."""
    homes = {Path(one.pw_dir) for one in pwd.getpwall() if one.pw_dir not in ("/", "")} | {Path("/home"), Path("/root")}
    system = (Path("/usr"), Path("/usr/local"), Path("/bin"), Path("/opt"))
    return any(home in (path, *path.parents) for home in homes if home not in system)


def bring_headers() -> None:
    """Install what systemd's Python library is built with, where that is easy; ingle does the same without it."""
    sys.path.insert(0, str(SETUP.parent))
    from prerequisites import MANAGERS, has_libsystemd, package_manager, read_os_release

    manager = package_manager(read_os_release())
    if has_libsystemd() or manager is None or shutil.which(MANAGERS[manager]["install"].split()[0]) is None:
        return
    command = f"{MANAGERS[manager]['install']} {MANAGERS[manager]['libsystemd']}"
    say(f"  {command}")
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    done = subprocess.run(
        command.split(), env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        say(f"  that failed ({last[0]}): ingle goes on without systemd's Python library, and does the same")


def relocate(layout: Layout) -> None:
    """Let the environment's commands name the place where they will be."""
    here, there = str(layout.real(layout.venv)), str(layout.venv)
    for script in (*(layout.real(layout.venv) / "bin").iterdir(), layout.real(layout.venv) / "pyvenv.cfg"):
        if script.is_file() and not script.is_symlink():
            data = script.read_bytes()
            if here.encode() in data:
                script.write_bytes(data.replace(here.encode(), there.encode()))


def make_accounts_and_folders(layout: Layout) -> None:
    """Make the service's account and its folders, as they are at every boot."""
    for command in ("systemd-sysusers", "systemd-tmpfiles --create"):
        kind = "sysusers.d" if "sysusers" in command else "tmpfiles.d"
        words = [*command.split(), str(layout.config(kind) / "ingle.conf")]
        if shutil.which(words[0]) is None:
            raise Failed(f"{words[0]} is missing: ingle's service needs systemd")
        subprocess.run(words, check=True)


def farewell(layout: Layout) -> None:
    """Say how to start it."""
    scope = "" if layout.system else "--user "
    say(f"installed: {layout.prefix}/bin/ingle and ingled")
    if str(layout.prefix / "bin") not in os.environ.get("PATH", "").split(":"):
        say(f"note: {layout.prefix}/bin is not in your PATH")
    say("start it:")
    if layout.system:
        say("  systemctl enable --now ingled.socket   # at the first request; or, with models warm from the boot on:")
    say(f"  systemctl {scope}enable --now ingled")
    if layout.system:
        say("  usermod -aG ingle NAME                 # who may use it; it counts from the next login on")
        say(f"settings: /etc/ingle/ingled.toml (every key: {layout.prefix}/share/doc/ingle/ingled.example.toml)")
    say('ask it:\n  ingle ask "hello"')


# ---------------------------------------------------------------- removing


def uninstall(layout: Layout) -> None:
    """Stop the service and remove what `install` has written."""
    if layout.destdir is None:
        names = [target.name for _, target in layout.units() if target.suffix in (".service", ".socket", ".target")]
        if layout.system:
            names = [name for name in names if (ROOT / "systemd/system" / name).exists()]
        systemctl(layout, "disable", "--now", *names)
    for path in layout.files():
        layout.real(path).unlink(missing_ok=True)
    venv = layout.real(layout.venv)
    shutil.rmtree(venv, ignore_errors=True)
    venv.with_name(venv.name + ".lock").unlink(missing_ok=True)
    shutil.rmtree(layout.real(layout.prefix / "share/doc/ingle"), ignore_errors=True)
    remove_empty_folders(layout)
    if layout.destdir is None:
        systemctl(layout, "daemon-reload")
    say("uninstalled")
    if layout.system:
        say("left: /etc/ingle, /var/lib/ingle, /var/cache/ingle, and the account ingle (`userdel ingle`)")


def remove_empty_folders(layout: Layout) -> None:
    """Remove the folders that held nothing but what was ours, below those that every prefix has."""
    usual = [layout.real(layout.prefix / name) for name in ("bin", "lib", "share")] + [layout.real(Path("/etc"))]
    for path in layout.files():
        for folder in layout.real(path).parents:
            if folder in usual or not any(one in folder.parents for one in usual):
                break
            try:
                folder.rmdir()
            except OSError:  # somebody else has something there, or it is gone
                if folder.exists():
                    break


# ---------------------------------------------------------------- both


def systemctl(layout: Layout, *words: str) -> None:
    """Tell systemd, if it runs here."""
    if shutil.which("systemctl") is None or (layout.system and not Path("/run/systemd/system").is_dir()):
        return
    scope = [] if layout.system else ["--user"]
    subprocess.run(["systemctl", *scope, *words], capture_output=True, check=False)


def say(text: str) -> None:
    """Tell people."""
    print(text, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Install ingle, for this machine or for this user.")
    parser.add_argument("--uninstall", action="store_true", help="remove what was installed")
    parser.add_argument("--prefix", type=Path, help="default: /usr/local for the machine, ~/.local for a user")
    parser.add_argument("--destdir", default="", help="write below this folder, for a package")
    parser.add_argument("--user", action="store_true", help="for this user, also as root")
    parser.add_argument("--system", action="store_true", help="for the machine, also with --destdir as a user")
    parser.add_argument("--files-only", action="store_true", help="no environment: for tests and packages")
    options = parser.parse_args(arguments)
    system = options.system or (os.geteuid() == 0 and not options.user)
    prefix = options.prefix or (Path(AS_WRITTEN) if system else Path.home() / ".local")
    layout = Layout(prefix.absolute(), Path(options.destdir).absolute() if options.destdir else None, system)
    try:
        if options.uninstall:
            uninstall(layout)
        elif options.files_only:
            install_files(layout, sys.executable)
        else:
            install(layout)
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"ingle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
