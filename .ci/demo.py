"""`make demo`: a daemon of its own, the built-in model, three requests; then everything is stopped again."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
STOP_S = 60.0
PROMPTS = (
    ["ask", "list files larger than 10 MB under src"],
    ["ask", "-v", "how many lines are there in notes.txt?"],
    ["ask", "what is the capital of France?"],
)


class DemoFailed(Exception):
    """A step of the demo did not work."""


def say(text: str) -> None:
    """Print a line of the demo's own, apart from what the commands print."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


def run(arguments: list[str], environ: dict[str, str]) -> None:
    """Run an `ingle` command as a user would, with its output on this terminal. Raises DemoFailed."""
    say(f"$ ingle {shlex.join(arguments)}")
    done = subprocess.run([str(BIN / "ingle"), *arguments], env=environ, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise DemoFailed(f"`ingle {shlex.join(arguments)}` ended with exit status {done.returncode}")


def launch(folder: Path, environ: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start the daemon."""
    command = [str(BIN / "ingled"), "--socket", environ["INGLE_SOCKET"], "--state-dir", str(folder / "state")]
    with (folder / "ingled.log").open("wb") as log:
        return subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def wait_until_it_listens(daemon: "subprocess.Popen[bytes]", folder: Path, environ: dict[str, str]) -> None:
    """Wait for the daemon's socket. Raises DemoFailed."""
    socket = Path(environ["INGLE_SOCKET"])
    say("$ ingled &")
    begin = time.monotonic()
    while not socket.is_socket():
        if daemon.poll() is not None or time.monotonic() - begin > 30:
            raise DemoFailed(f"ingled did not start:\n{(folder / 'ingled.log').read_text()}")
        time.sleep(0.01)
    print(f"listens after {time.monotonic() - begin:.2f} s")


def stop(daemon: "subprocess.Popen[bytes]") -> None:
    """Stop the daemon and all that it started. Raises DemoFailed when something stays."""
    children = _descendants(daemon.pid)
    daemon.send_signal(signal.SIGTERM)
    try:
        status = daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
        raise DemoFailed(f"ingled did not stop within {STOP_S:.0f} s") from None
    left = [pid for pid in children if _alive(pid)]
    if status or left:
        raise DemoFailed(f"ingled ended with exit status {status} and left {left or 'nothing'} running")


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_descendants(child)]
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main() -> int:
    """Run the demo; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="ingle-demo-") as name:
        folder = Path(name)
        environ = dict(os.environ) | {"INGLE_SOCKET": str(folder / "ingle.sock"), "XDG_CONFIG_HOME": name}
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        daemon = launch(folder, environ)
        try:
            wait_until_it_listens(daemon, folder, environ)
            run(["load", "--progress", "ember"], environ)
            for prompt in PROMPTS:
                run(prompt, environ)
            run(["ps"], environ)
            stop(daemon)
        except (DemoFailed, KeyboardInterrupt, BrokenPipeError) as error:
            with contextlib.suppress(BrokenPipeError):
                print(f"\ndemo: {error or 'interrupted'}\n{(folder / 'ingled.log').read_text()}", file=sys.stderr)
            return 1
        finally:
            if daemon.poll() is None:
                daemon.terminate()
                daemon.wait(STOP_S)
    say("Everything is stopped. `make install` installs the service for you; README.md says more.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
