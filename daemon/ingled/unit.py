"""`ingled unit --user`: print the units for a user's own service, or install them. Needs no root and no `make install`.

The files below systemd/user/ are the same text, with the place where `make install` puts the command.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

SERVICE = """\
# ingled for one user: `systemctl --user enable --now ingled` after `make install`, or `ingled unit --user --install`.
[Unit]
Description=ingle, keeps language models warm

[Service]
Type=notify
NotifyAccess=main
ExecStart=@COMMAND@
# Returns when the reload is done, and fails, with the reason in the journal, when the configuration is wrong.
ExecReload=@CLIENT@ reload
# A restart hands over: models stay warm and requests go on. A stop drains, for `daemon.drain`, and ends all of it.
RestartKillSignal=SIGUSR1
# Only the daemon itself is stopped and watched: it ends its workers in order, and when it dies its workers live on
# for the next one, which adopts them with their models and requests. With any other mode systemd would kill them.
KillMode=process
OOMPolicy=continue
# The daemon asks for more time while it loads (`ready = "warm"`) and while it drains.
TimeoutStartSec=60
TimeoutStopSec=60
Restart=on-failure
RestartSec=1
RestartPreventExitStatus=78
WatchdogSec=30
# A user's own manager ignores most of a sandbox; these lines hold.
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
LockPersonality=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=default.target
"""

SOCKET = """\
# The socket of a user's own ingled: held by the user's systemd, so that the first message starts the daemon.
[Unit]
Description=Socket of ingled

[Socket]
ListenStream=%t/ingle/ingle.sock
FileDescriptorName=ingle
SocketMode=0600
DirectoryMode=0700
Backlog=1024
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    options = argparse.ArgumentParser(prog="ingled unit", description="Print or install units for systemd.")
    options.add_argument("--user", action="store_true", help="for your own service (that of the machine: make install)")
    options.add_argument("--install", action="store_true", help="install them instead, for you")
    args = options.parse_args(arguments)
    if not args.user:
        print("ingled: unit: say --user; a service of the machine is installed by `sudo make install`", file=sys.stderr)
        return 2
    units = {"ingled.service": service(own_command("ingled"), own_command("ingle")), "ingled.socket": SOCKET}
    if args.install:
        return install(units)
    for name, text in units.items():
        print(f"# ---- {name}\n{text}", end="\n" if name == "ingled.service" else "")
    return 0


def service(command: str, client: str) -> str:
    """Return the text of the service's unit."""
    return SERVICE.replace("@COMMAND@", command).replace("@CLIENT@", client)


def own_command(name: str) -> str:
    """Return how a program of this installation is started, as a unit writes it."""
    started = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "ingled" else None
    program = None if started is None else Path(os.path.abspath(started)).with_name(name)
    words = [str(program)] if program is not None and program.exists() else [sys.executable, "-P", "-m", name]
    return " ".join(quoted(word) for word in words)


def quoted(word: str) -> str:
    """Return a word as systemd reads it back."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if any(c in word for c in " \t'\"\\;") else word


def install(units: dict[str, str]) -> int:
    """Write the units where the user's systemd looks for them."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in units.items():
            (folder / name).write_text(text, encoding="utf-8")
            print(f"installed: {folder / name}")
    except OSError as error:
        print(f"ingled: unit: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", "--user", "daemon-reload"], capture_output=True, check=False)
    print("start it:\n  systemctl --user enable --now ingled          # or, at the first request: ingled.socket")
    return 0
