"""How long the `ingle` command takes from exec to its request on the socket, to the first character, and to its end.

    python -m bench.command [--ingle PATH]

The daemon is played by this process: it answers at once, so that nothing is measured but the command. PATH is the
command as it is installed; an editable installation starts slower than a real one, and says so in the first row.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import zmq
from ingle.wire.codec import Message, pack, unpack
from ingle.wire.limits import CHUNK_BYTES, CREDIT, DEPTH, FRAME_BYTES, OPEN_REQUESTS, PROTOCOL, SCHEMA_BYTES

from bench.record import Record, options
from bench.spread import Figure, figure

WELCOME = {
    "t": "welcome",
    "protocol": list(PROTOCOL),
    "token": "bench",
    "account": "uid:0",
    "limits": {
        "frame": FRAME_BYTES,
        "depth": DEPTH,
        "credit": CREDIT,
        "chunk": CHUNK_BYTES,
        "schema": SCHEMA_BYTES,
        "requests": OPEN_REQUESTS,
    },
    "daemon": {"name": "ingled", "version": "0", "boot": "bench"},
    "ops": ["chat", "complete"],
    "verbs": [],
    "topics": [],
}
DONE = {
    "t": "done",
    "id": "r1",
    "finish": "stop",
    "usage": {"prompt": 1, "cached": 0, "completion": 1},
    "ms": {"queued": 0, "load": 0, "first": 0, "total": 0},
    "model": {"name": "bench"},
    "hooks": [],
}
RPC = b'{"t":"request","ref":1,"op":"chat","body":{"messages":[{"role":"user","content":"hi"}]}}\n'
TEXT = b"kindling"
SILENCE_MS = 10_000


@dataclass(frozen=True)
class Times:
    """Milliseconds from exec; None: it did not come to that."""

    request: float | None
    character: float | None
    end: float


class Answering:
    """A daemon that has one answer, and the clock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s"
        self._context = zmq.Context(1)
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.bind(f"ipc://{self.path}")

    def run(self, command: list[str], input: bytes = b"") -> Times:
        """Run a command to its end, and answer it."""
        # Without what makes this Python read or compile other sources than the command's own.
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environ["INGLE_SOCKET"] = str(self.path)
        request = character = None
        poll = zmq.Poller()
        poll.register(self._router, zmq.POLLIN)
        begin = time.perf_counter()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
            assert process.stdout is not None and process.stdin is not None
            out = process.stdout.fileno()
            poll.register(out, zmq.POLLIN)
            if input:
                process.stdin.write(input)
                process.stdin.flush()
            else:
                process.stdin.close()
            while True:
                ready = dict(poll.poll(SILENCE_MS))
                if not ready:
                    process.kill()
                    raise TimeoutError(f"{' '.join(command)} says nothing")
                if self._router in ready:
                    now = time.perf_counter()
                    if self._answer():
                        request = request or now - begin
                if out in ready:
                    data = os.read(out, 1 << 16)
                    if data and (not input or TEXT in data):
                        character = character or time.perf_counter() - begin
                    if not data or (input and b'"done"' in data):
                        break
            if not process.stdin.closed:
                process.stdin.close()
            process.wait()
            end = time.perf_counter() - begin
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}")
        return Times(_ms(request), _ms(character), end * 1000)

    def close(self) -> None:
        """Close the socket."""
        self._router.close()
        self._context.term()

    def _answer(self) -> bool:
        """Answer one message; returns whether it was the request."""
        peer, data = self._router.recv_multipart()
        message = unpack(data)

        def say(answer: Message) -> None:
            self._router.send_multipart([peer, pack(answer)])

        match message["t"]:
            case "hello":
                say(WELCOME)
            case "request":
                say({"t": "accepted", "ref": message["ref"], "id": "r1"})
                say({"t": "chunk", "id": "r1", "o": 0, "x": TEXT.decode()})
                say(DONE)
                return True
        return False


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--ingle", default=shutil.which("ingle", path=str(Path(sys.executable).parent)))
    parser.add_argument("--runs", type=int)
    args = parser.parse_args()
    if args.ingle is None:
        parser.error("there is no ingle command beside this Python: give it with --ingle")
    record = Record("command", args.label)
    record.begin("The command")
    found = measure(args)
    rows = [
        [name, request.text(1), character.text(1), end.text(1)] for name, (request, character, end) in found.items()
    ]
    head = ["", "ms to the request", "to the first character", "to the end"]
    record.table(f"{runs(args)} runs, in turn; median (smallest..largest):", head, rows)
    record.data["ms"] = {name: [list(one.values) for one in its] for name, its in found.items()}
    print(record.write())


def runs(args: argparse.Namespace) -> int:
    """Return how often each command is run."""
    return int(args.runs or (7 if args.quick else 31))


def measure(args: argparse.Namespace) -> dict[str, tuple[Figure, Figure, Figure]]:
    """Return the figures of each command: to the request, to the first character, to the end."""
    commands: dict[str, tuple[list[str], bytes]] = {
        "python -c pass": ([sys.executable, "-c", "pass"], b""),
        "python -I -S -c pass": ([sys.executable, "-I", "-S", "-c", "pass"], b""),
        "ingle ask": ([args.ingle, "ask", "hi"], b""),
        "ingle rpc": ([args.ingle, "rpc"], RPC),
        "ingle --help": ([args.ingle, "--help"], b""),
    }
    times: dict[str, list[Times]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory(prefix="igb-") as folder:
        answering = Answering(Path(folder))
        for number in range(runs(args) + 1):
            for name, (command, input) in commands.items():
                took = answering.run(command, input)
                if number:  # the first run fills the page cache
                    times[name].append(took)
        answering.close()
    return {
        name: (figure([t.request for t in its]), figure([t.character for t in its]), figure([t.end for t in its]))
        for name, its in times.items()
    }


if __name__ == "__main__":
    main()
