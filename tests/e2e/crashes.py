"""How tests end the processes of a daemon, and what they ask of the next one."""

import signal
import subprocess
from typing import Any

from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

CONFIG = """
[daemon]
stuck = 10
adopt_grace = 60

[models.slow]
source = "builtin:ember"
echo = {delay_ms = 5}
"""


def words(count: int, mark: str = "word") -> str:
    """Return a text of so many words, each another one."""
    return " ".join(f"{mark}{i}" for i in range(count))


def model_of(client: Wire) -> dict[str, Any]:
    """Return what the daemon tells of its first model."""
    found: dict[str, Any] = client.call("models")["models"][0]
    return found


def states(client: Wire) -> dict[str, str]:
    """Return where each request is."""
    return {one["id"]: one["state"] for one in client.call("requests")["requests"]}


def read_on(daemon: DaemonFixture, id: str) -> tuple[str, dict[str, Any]]:
    """Attach to a request of an earlier daemon and read it to its end, which must come."""
    with Wire(daemon.socket) as other:
        other.send({"t": "attach", "ref": 1, "id": id, "offset": 0, "credit": 100})
        assert other.until("accepted", "failed")[-1]["t"] == "accepted"
        return other.read(id)


def end_broker(daemon: DaemonFixture, how: str) -> None:
    """End the daemon as a crash, an upgrade or a restart does, and start the next."""
    first = daemon.process
    assert first is not None
    listened = daemon.log.read_text().count("listening at")
    if how == "replace":
        with daemon.log.open("ab") as out:
            daemon.process = subprocess.Popen(
                [*daemon.command, "--replace"], stdout=out, stderr=out, env=daemon.environ, cwd=daemon.folder
            )
        assert first.wait(60) == 0
        wait_until(lambda: daemon.log.read_text().count("listening at") == listened + 1)
    elif how == "kill":
        daemon.kill()
        daemon.start()
    else:
        first.send_signal(signal.SIGUSR1)
        first.wait(60)
        daemon.start()
