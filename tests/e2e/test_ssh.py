"""Colleagues on other machines: a real sshd on loopback, two users with keys, each way is the ssh user's account."""

import json
import os
import pwd
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ingle
import msgpack
import pytest
from ingled.testing import DaemonFixture, Wire, free_port

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
NEEDED = {
    "root": os.geteuid() == 0,
    "sshd (openssh-server)": Path(SSHD).exists(),
    "ssh (openssh-client)": shutil.which("ssh") is not None,
    "ssh-keygen": shutil.which("ssh-keygen") is not None,
    "useradd": shutil.which("useradd") is not None,
}
MISSING = ", ".join(name for name, there in NEEDED.items() if not there)
DEADLINE_S = 120.0

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}")


def run(*command: str, **more: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, **more)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@dataclass
class Host:
    """An sshd, and the daemon on its machine."""

    folder: Path
    port: int
    daemon: DaemonFixture
    users: dict[str, int]

    def ssh(self, user: str, *arguments: str) -> list[str]:
        """Return the command."""
        given = {"BatchMode": "yes", "IdentitiesOnly": "yes", "UserKnownHostsFile": f"{self.folder}/known"}
        given |= {"IdentityFile": f"{self.folder}/{user}.key", "ExitOnForwardFailure": "yes", "ConnectTimeout": "60"}
        options = [word for name, value in given.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", "-p", str(self.port), *options, f"{user}@127.0.0.1", *arguments]


@contextmanager
def user(folder: Path, name: str) -> Iterator[int]:
    """A user of this machine, with a key to log in and no password."""
    home = folder / f"home-{name}"
    run("useradd", "--create-home", "--home-dir", str(home), "--shell", "/bin/sh", "--password", "*", name)
    try:
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}.key")
        shutil.copy(f"{folder}/{name}.key.pub", f"{folder}/{name}.allowed")
        (folder / f"{name}.allowed").chmod(0o644)
        yield pwd.getpwnam(name).pw_uid
    finally:
        run("userdel", name)


def install(folder: Path, uid: int) -> None:
    """Put the command where users can run it, wherever this checkout and its Python are."""
    for package in (ingle, msgpack):
        assert package.__file__ is not None
        source = Path(package.__file__).parent
        shutil.copytree(source, folder / "lib" / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "bin").mkdir()
    for path in (*folder.rglob("lib/**/*"), folder / "lib", folder / "bin"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    command = folder / "bin" / "ingle"
    for python in (Path(sys.executable).resolve(), Path("/usr/bin/python3")):
        command.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/lib exec {python} -P -m ingle "$@"\n')
        command.chmod(0o755)
        tried = subprocess.run([command, "--version"], user=uid, cwd="/", capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return
    pytest.skip(f"needs a Python that all users can run: {tried.stderr.strip()[-200:]}")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ingle-ssh-", dir="/tmp")))
        folder.chmod(0o755)
        daemon = stack.enter_context(DaemonFixture('[models.echo]\nsource = "/x"\necho = {delay_ms = 5}\n'))
        daemon.folder.chmod(0o755)
        daemon.socket.chmod(0o666)
        suffix = f"{os.getpid() % 100000}"
        users = {name: stack.enter_context(user(folder, name)) for name in (f"ig-ann{suffix}", f"ig-bob{suffix}")}
        install(folder, min(users.values()))
        found = Host(folder, 0, daemon, users)
        stack.enter_context(sshd(found))
        yield found


@contextmanager
def sshd(host: Host) -> Iterator[None]:
    """A server of its own: key, port, and nothing of the system's configuration."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{host.folder}/host.key")
    host.port = free_port()
    key = (host.folder / "host.key.pub").read_text()
    (host.folder / "known").write_text(f"[127.0.0.1]:{host.port} {key}")
    (host.folder / "sshd_config").write_text(
        f"""
ListenAddress 127.0.0.1:{host.port}
HostKey {host.folder}/host.key
AuthorizedKeysFile {host.folder}/%u.allowed
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
AllowUsers {" ".join(host.users)}
SetEnv PATH={host.folder}/bin:/usr/bin:/bin INGLE_SOCKET={host.daemon.socket}
"""
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = (host.folder / "sshd.log").open("w")
    command = [str(Path(SSHD).resolve()), "-D", "-e", "-f", f"{host.folder}/sshd_config"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", host.port)).close()
                break
            except OSError:
                told = (host.folder / "sshd.log").read_text()
                assert process.poll() is None and time.monotonic() < deadline, told
                time.sleep(0.02)  # nothing to wait on: it does not listen yet
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        log.close()


def listens(path: Path) -> bool:
    """Return whether a socket is there, and somebody listens on it already."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@contextmanager
def forwarded(host: Host, name: str) -> Iterator[Path]:
    """A socket here that is the daemon's there."""
    local = host.folder / f"{name}.sock"
    command = host.ssh(name, "-N", "-L", f"{local}:{host.daemon.socket}")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not listens(local):
            assert process.poll() is None and time.monotonic() < deadline, process.stderr
            time.sleep(0.02)  # nothing to wait on: the socket does not exist yet
        yield local
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
        local.unlink(missing_ok=True)


def test_ask_over_ssh_is_the_ssh_users(host: Host) -> None:
    with Wire(host.daemon.socket) as root:
        root.send({"t": "subscribe", "ref": 1, "topics": ["request"], "credit": 200})
        root.until("accepted")
        for name, uid in host.users.items():
            assert run(*host.ssh(name, "ingle", "ask", "'hello over there'")) == "hello over there\n"
            while (event := root.until("event")[-1]["value"])["state"] != "over":
                pass
            assert event["account"] == f"uid:{uid}"
            told = run(*host.ssh(name, "ingle", "whoami", "--json"))
            assert json.loads(told)["user"] == name


def test_a_text_on_standard_input_is_asked(host: Host) -> None:
    name = next(iter(host.users))
    assert run(*host.ssh(name, "ingle", "ask"), input="what the editor has selected") == (
        "what the editor has selected\n"
    )


class Rpc:
    """`ssh host ingle rpc`: the protocol as lines."""

    def __init__(self, host: Host, name: str) -> None:
        self.process = subprocess.Popen(
            host.ssh(name, "ingle", "rpc"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._rest = b""

    def send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            assert select.select([self.process.stdout], [], [], DEADLINE_S)[0], "no line"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, "it has ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def until(self, **wanted: Any) -> dict[str, Any]:
        while not wanted.items() <= (message := self.receive()).items():
            pass
        return message

    def close(self) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(DEADLINE_S)
        self.process.stdout.close()
        return status


def test_rpc_over_ssh_is_a_transport_for_an_editor(host: Host) -> None:
    (ann, uid), (bob, other) = host.users.items()
    one, two = Rpc(host, ann), Rpc(host, bob)
    for rpc, account in ((one, uid), (two, other)):
        rpc.send(t="call", ref=1, verb="whoami")
        assert rpc.until(t="result")["value"]["account"] == f"uid:{account}"
    body = {"messages": [{"role": "user", "content": "w " * 400}]}
    one.send(t="request", ref=2, op="chat", body=body, credit=1)
    id = one.until(t="accepted")["id"]
    one.until(t="chunk")
    two.send(t="cancel", ref=3, id=id)
    assert two.until(ref=3)["code"] == "no_such_request"
    two.send(t="call", ref=4, verb="requests")
    assert two.until(ref=4)["value"] == {"requests": []}
    one.send(t="cancel", ref=5, id=id)
    assert one.until(ref=5)["value"]["cancelled"] is True
    assert (one.close(), two.close()) == (0, 0)


def test_a_forwarded_socket_is_the_ssh_users_whoever_uses_it_here(host: Host) -> None:
    (ann, uid), (bob, other) = host.users.items()
    with forwarded(host, ann) as first, forwarded(host, bob) as second, Wire(first) as one, Wire(second) as two:
        assert (one.welcome["account"], two.welcome["account"]) == (f"uid:{uid}", f"uid:{other}")
        id = one.ask("over a socket that is here", detach=True)
        assert one.read(id)[0] == "over a socket that is here"
        two.send({"t": "attach", "ref": 9, "id": id})
        assert two.until("failed")[-1]["code"] == "no_such_request"
        environ = host.daemon.environ | {"INGLE_SOCKET": str(first)}
        command = [sys.executable, "-P", "-m", "ingle", "whoami", "--json"]
        assert json.loads(run(*command, env=environ))["account"] == f"uid:{uid}"


def test_a_connection_that_breaks_ends_what_it_ran(host: Host) -> None:
    name, uid = next(iter(host.users.items()))
    with Wire(host.daemon.socket) as root:
        root.send({"t": "subscribe", "ref": 1, "topics": ["request"], "credit": 200})
        root.until("accepted")
        with forwarded(host, name) as local, Wire(local) as client:
            id = client.ask("w " * 2000, credit=1)
            client.until("chunk")
        while (event := root.until("event")[-1]["value"])["id"] != id or event["state"] != "cancelled":
            pass
        assert event["account"] == f"uid:{uid}"
