"""A real systemd, booted once for all tests here, with ingle installed as `make install` does it for a machine.

The environment is not built anew: the box has this checkout and the packages of the environment that runs the tests,
below /usr/local/lib/ingle, where the service's account may read them.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HELPERS = ("ingle-nursery.service", "ingled-hooks.service")
NEEDED = ("unshare", "nsenter", "systemctl", "useradd")
VENV = "/usr/local/lib/ingle"
PYTHON = f"{VENV}/bin/python"
SOCKET = "/run/ingle/ingle.sock"

CONFIG = """
[daemon]
log_level = "debug"
[models.slow]
source = "builtin:ember"
preload = true
echo = {delay_ms = 2}
[models.other]
source = "builtin:ember"
[models.broken]
source = "builtin:ember"
echo = {fail = "load"}
"""

SETUP = """
set -e
mkdir -p $ROOT{venv}/bin $ROOT{venv}/src $ROOT{venv}/packages $ROOT{lib}
for part in client daemon plugins tests; do
  mkdir $ROOT{venv}/src/$part; mount --bind {root}/$part $ROOT{venv}/src/$part
done
mount --bind {packages} $ROOT{venv}/packages
printf '{venv}/src/client\\n{venv}/src/daemon\\n{venv}/src/plugins\\n{venv}/packages\\n' >$ROOT{lib}/ingle.pth
printf 'home = {base}/bin\\ninclude-system-site-packages = false\\n' >$ROOT{venv}/pyvenv.cfg
ln -s {base}/bin/{python} $ROOT{venv}/bin/python
for name in ingle ingled; do
  sed "s|^#!.*|#!{venv}/bin/python|" {scripts}/$name >$ROOT{venv}/bin/$name; chmod 755 $ROOT{venv}/bin/$name
done
if [ {base} != {prefix} ]; then   # a Python in somebody's home, where the service may not go
  mkdir -p $ROOT{base}; mount --bind {prefix} $ROOT{base}
  echo {base}/lib >$ROOT/etc/ld.so.conf.d/ingle-python.conf; chroot $ROOT ldconfig
fi
cp -a {staged}/. $ROOT/
mkdir -p $ROOT/etc/ingle $ROOT/etc/systemd/system/ingle-nursery.service.d $ROOT/etc/systemd/system/ingled.service.d
cp {folder}/ingled.toml $ROOT/etc/ingle/
cp {folder}/ingled.conf $ROOT/etc/systemd/system/ingled.service.d/test.conf
cp {folder}/nursery.conf $ROOT/etc/systemd/system/ingle-nursery.service.d/test.conf
chroot $ROOT systemd-sysusers /usr/local/lib/sysusers.d/ingle.conf
for name in ann bob; do chroot $ROOT useradd -m $name; done
chroot $ROOT usermod -aG ingle ann
mknod $ROOT/dev/nvidia-fake c 10 229; chmod 666 $ROOT/dev/nvidia-fake
"""


STREAM = f"""
import sys
from ingle import Client
words = " ".join(f"word{{i}}" for i in range(int(sys.argv[1])))
with Client({SOCKET!r}, timeout=120) as client:
    stream = client.chat(words, model="slow", stream=True, max_tokens=int(sys.argv[1]))
    text = next(iter(stream)).text
    print("begun", flush=True)
    text += "".join(delta.text for delta in stream)
assert text == words, (len(text), len(words))
print("whole", flush=True)
"""


class Stream:
    """A client in the box that reads a long answer of the model `slow`, 2 ms a word, and checks all of it."""

    def __init__(self, box: "Box", words: int) -> None:
        self._process = box.spawn(PYTHON, "-P", "-c", STREAM, str(words))
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n", self._process.communicate()

    def outcome(self, seconds: float = 60) -> str:
        """Wait for its end; returns `whole`, or why it was not."""
        out, err = self._process.communicate(timeout=seconds)
        return out.strip() or err.strip().splitlines()[-1]


class Box:
    """A booted systemd, and what one does with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._script = str(HERE / "box.sh")
        self._spawned: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        """Boot it. Skips the test where this machine cannot."""
        done = self._box("start", str(self.folder))
        if done.returncode:
            self.stop()
            pytest.skip(f"needs overlayfs, cgroup2 and namespaces: {done.stderr[-800:]}")

    def stop(self) -> None:
        """End it, and all that runs in it."""
        self._box("stop", str(self.folder))

    def _box(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([self._script, *words], capture_output=True, text=True, timeout=120, check=False)

    def run(self, *command: str, check: bool = True, user: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command in it, as root or a user. Fails with the journal's end when the command does."""
        as_user = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
        found = self._box("exec", str(self.folder), *as_user, *command)
        if check and found.returncode:
            raise AssertionError(f"{command}: {found.stdout}{found.stderr}\n{self.journal()}")
        return found

    def spawn(self, *command: str) -> "subprocess.Popen[str]":
        """Start a command in it."""
        words = [self._script, "exec", str(self.folder), *command]
        started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._spawned.append(started)
        return started

    def end_spawned(self) -> None:
        """End what a test has left."""
        while self._spawned:
            one = self._spawned.pop()
            if one.poll() is None:  # nsenter waits for the command, which is its child
                for child in Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split():
                    with contextlib.suppress(ProcessLookupError):  # it ends by itself just now
                        os.kill(int(child), signal.SIGKILL)
            one.communicate(timeout=30)

    def drop_in(self, unit: str, text: str) -> None:
        """Change a unit until the end of the test."""
        self.write(f"/run/systemd/system/{unit}.d/zz-test.conf", text)
        self.run("systemctl", "daemon-reload")

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file in it."""
        words = ["sh", "-c", f"mkdir -p $(dirname {path}); cat >{path}; chmod {mode} {path}"]
        command = [self._script, "exec", str(self.folder), *words]
        subprocess.run(command, input=text, text=True, check=True, timeout=60)

    def out(self, *command: str, user: str = "") -> str:
        """Return what a command prints."""
        return self.run(*command, user=user).stdout.strip()

    def ingle(self, *words: str, check: bool = True, user: str = "") -> "subprocess.CompletedProcess[str]":
        """Run the `ingle` command."""
        return self.run("ingle", *words, check=check, user=user)

    def json(self, *words: str) -> Any:
        """Return what an `ingle` command prints for programs."""
        return json.loads(self.ingle(*words, "--json").stdout)

    def python(self, script: str, *words: str, check: bool = True, user: str = "") -> str:
        """Run Python code that has ingle; returns what it prints."""
        return self.run(PYTHON, "-P", "-c", script, *words, check=check, user=user).stdout.strip()

    def show(self, what: str, unit: str = "ingled.service") -> str:
        """Return a property of a unit."""
        return self.out("systemctl", "show", "-p", what, "--value", unit)

    def journal(self, *words: str, lines: int = 80) -> str:
        """Return the end of the journal."""
        command = ["journalctl", "--no-pager", "-o", "short-precise", "-n", str(lines), *words]
        return self._box("exec", str(self.folder), *command).stdout

    def pids(self) -> tuple[int, int, int]:
        """Return the process ids of broker, nursery and the worker of the model `slow`, once all have come."""

        def there() -> tuple[int, int, int] | None:
            status = self.json("status")
            models = {model["name"]: model["pid"] for model in self.json("models")["models"]}
            found = status["daemon"]["pid"], status["nursery"]["pid"], models["slow"]
            return None if None in found else found

        found: tuple[int, int, int] = self.until(there)
        return found

    def until(self, what: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Ask until the answer is true; returns it. Fails with the journal's end when it never is."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer: Any = what()
            except AssertionError as error:
                answer = None
                if time.monotonic() > deadline:
                    raise error
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:.0f} s\n{self.journal()}")
            time.sleep(0.05)

    def fresh(self) -> None:
        """Bring the service into the state that follows a boot: socket, and nothing else."""
        self.run("sh", "-c", "rm -rf /run/systemd/system/*ingle*.d; systemctl daemon-reload")
        self.write("/etc/ingle/ingled.toml", CONFIG)
        self.run("systemctl", "stop", "ingle.target", "ingled.socket", "ingled.service", *HELPERS)
        self.run("sh", "-c", "systemctl reset-failed; rm -f /run/ingle/*.probe /run/ingle-hooks/*.probe")
        self.run("systemctl", "start", "ingled.socket")


def missing() -> str:
    """Return what keeps this machine from booting a box; nothing where it can."""
    if os.geteuid() != 0:
        return "needs root, to boot a systemd in namespaces"
    absent = [name for name in NEEDED if shutil.which(name) is None]
    return f"needs {', '.join(absent)}" if absent else ""


def in_a_home(path: str) -> bool:
    return path.startswith(("/root/", "/home/"))


@pytest.fixture(scope="session")
def machine() -> Iterator[Box]:
    """A booted systemd with ingle installed; nothing of it runs yet."""
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="ingle-box-") as name:
        folder = Path(name)
        staged = folder / "staged"
        command = [sys.executable, str(ROOT / ".ci/install.py"), "--files-only", "--system", "--destdir", str(staged)]
        subprocess.run(command, check=True, timeout=60)
        for root, folders, _ in os.walk(staged):
            for one in [root, *(os.path.join(root, sub) for sub in folders)]:
                os.chmod(one, 0o755)
        (folder / "ingled.toml").write_text(CONFIG)
        for name, unit in (("ingled", "ingled"), ("nursery", "ingle-nursery")):
            lines = (ROOT / f"systemd/system/{unit}.service").read_text().splitlines()
            start = next(line for line in lines if line.startswith("ExecStart="))
            text = f"[Service]\nExecStart=\n{start} --engine echo\nRestartSec=100ms\n"
            (folder / f"{name}.conf").write_text(text)
        python = Path(sys.executable).resolve()
        base = "/opt/ingle-python" if in_a_home(sys.base_prefix) else sys.base_prefix
        script = SETUP.format(
            venv=VENV,
            lib=f"{VENV}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages",
            root=ROOT,
            packages=Path(msgspec.__file__).parents[1],
            base=base,
            prefix=sys.base_prefix,
            python=python.name,
            scripts=Path(sys.executable).parent,
            staged=staged,
            folder=folder,
        )
        (folder / "setup.sh").write_text(script)
        found = Box(folder)
        found.start()
        try:
            yield found
        finally:
            found.stop()


@pytest.fixture
def box(machine: Box) -> Iterator[Box]:
    """The machine, with ingle's socket listening and nothing else of it running."""
    machine.fresh()
    yield machine
    machine.end_spawned()


@pytest.fixture
def stream(box: Box) -> Callable[[int], Stream]:
    """Start a client that reads an answer of so many words."""
    return lambda words: Stream(box, words)


@pytest.fixture(scope="session")
def systemd_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with systemd's own Python library: the environment's, or one that is built for these tests."""
    try:
        found = importlib.util.find_spec("systemd.daemon")
    except ModuleNotFoundError:
        found = None
    if found is not None and found.origin:
        return Path(found.origin).parents[1]
    folder = tmp_path_factory.mktemp("systemd-python") / "lib"
    command = [sys.executable, str(ROOT / ".ci/systemd_python.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder
