"""How many chunks a second the broker forwards, with a worker that costs nothing but its messages.

    python -m bench.forwarding [--clients 1 64 256] [--window 16 256]
    python -m bench.forwarding --minutes 10        does the broker grow, while clients come and go?

The worker makes one chunk for each stream in each step, as fast as the clients' credit allows. Worker, broker and
clients share the machine's cores: beside what they reached together stands what a chunk costs the broker.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ingled.testing import DaemonFixture

from bench.contenders import run_client
from bench.load import Load
from bench.machine import ROOT
from bench.proc import costs
from bench.record import Record, options
from bench.socket_line import SocketLine
from bench.spread import Figure, figure
from bench.synthetic_worker import MODEL

CONFIG = f'[models.{MODEL}]\nsource = "builtin:ember"\n'
READY_S = 30.0
EVERY_MIN = 0.5
COLUMNS = (
    ("chunks/s", "chunks_s", 0),
    ("broker us/chunk", "broker_us", 1),
    ("chunks per s of broker CPU", "broker_core_s", 0),
    ("worker us/chunk", "worker_us", 1),
    ("client us/chunk", "client_us", 1),
    ("broker RSS MB", "broker_mb", 0),
)


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--window", type=int, nargs="+", default=[16, 256], help="credit of each stream")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--minutes", type=float, help="of forwarding without pause, in which the broker is watched")
    args = parser.parse_args()
    if args.minutes:
        growth(args.minutes, args.label)
        return
    rounds = args.rounds or (1 if args.quick else 3)
    record = Record("forwarding", args.label)
    record.begin("Chunks forwarded by the broker")
    found = measure(args, rounds, 60_000 if args.quick else 200_000)
    rows = [
        [f"{clients} clients, credit {window}", *(its[key].text(digits) for _, key, digits in COLUMNS)]
        for (clients, window), its in found.items()
    ]
    head = ["", *(title for title, _, _ in COLUMNS)]
    record.table(f"{rounds} rounds; median (smallest..largest):", head, rows)
    record.data["rows"] = [
        {"clients": clients, "window": window} | {name: list(one.values) for name, one in its.items()}
        for (clients, window), its in found.items()
    ]
    print(record.write())


def measure(args: argparse.Namespace, rounds: int, chunks: int = 200_000) -> dict[tuple[int, int], dict[str, Figure]]:
    """Return the figures for each number of clients and each window."""
    seen: dict[tuple[int, int], list[dict[str, float]]] = {}
    with forwarding() as (socket, parts):
        for number in range(rounds):
            for clients in args.clients:
                for window in args.window:
                    load = Load(clients, clients, tokens=chunks // clients, round=number)
                    got = run_client(load, parts, {"socket": socket, "window": window}, MODEL)
                    each = 1e6 / got.pieces
                    seen.setdefault((clients, window), []).append(
                        {
                            "chunks_s": got.pieces / got.seconds,
                            "broker_us": got.cpu_s["broker"] * each,
                            "broker_core_s": got.pieces / got.cpu_s["broker"],
                            "worker_us": got.cpu_s["worker"] * each,
                            "client_us": got.client_cpu_s * each,
                            "broker_mb": got.rss_bytes["broker"] / 1e6,
                        }
                    )
    return {key: {name: figure([one[name] for one in its]) for name in its[0]} for key, its in seen.items()}


@contextmanager
def forwarding() -> Iterator[tuple[str, dict[str, list[int]]]]:
    """Run a broker with the worker; yields its socket and the processes of both."""
    with DaemonFixture(CONFIG, engine="echo") as daemon:
        assert daemon.process is not None
        command = [sys.executable, "-m", "bench.synthetic_worker", str(daemon.file), str(daemon.socket)]
        worker = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            nursery = wait_for_worker(daemon)
            # The nursery is the broker's child, and would be counted with it.
            yield str(daemon.socket), {"broker": [daemon.process.pid], "nursery": [nursery], "worker": [worker.pid]}
        finally:
            worker.terminate()
            worker.wait()


def growth(minutes: float, label: str) -> None:
    """Forward for so long, with new connections every few seconds, and print what the broker has each half minute."""
    record = Record("forwarding-growth", label)
    record.begin("The broker, while it forwards without pause")
    rows: list[list[float]] = []
    begin, chunks = time.monotonic(), 0
    with forwarding() as (socket, parts):
        (broker,) = parts["broker"]
        while True:
            minute = (time.monotonic() - begin) / 60
            if not rows or minute >= len(rows) * EVERY_MIN:
                descriptors = len(os.listdir(f"/proc/{broker}/fd"))
                rows.append([minute, chunks, costs(parts)["broker"].rss_bytes / 1e6, descriptors])
            if minute >= minutes:
                break
            for clients, window in ((1, 256), (64, 16), (256, 16)):
                load = Load(clients, clients, tokens=100_000 // clients)
                chunks += run_client(load, parts, {"socket": socket, "window": window}, MODEL).pieces
    record.table(
        "Clients that come, read and go, 1, 64 and 256 at a time:",
        ["minute", "chunks so far", "broker RSS MB", "descriptors"],
        [[f"{minute:.1f}", f"{so_far:,}", f"{size:.1f}", f"{number:.0f}"] for minute, so_far, size, number in rows],
    )
    record.data["rows"] = rows
    print(record.write())


def wait_for_worker(daemon: DaemonFixture) -> int:
    """Return the nursery's process when the broker has taken the worker on. Raises TimeoutError."""
    line = SocketLine(str(daemon.socket))
    deadline = time.monotonic() + READY_S
    while line.call("show", model=MODEL)["state"] != "ready":
        if time.monotonic() > deadline:
            raise TimeoutError(f"the synthetic worker was not taken on:\n{daemon.log.read_text()}")
        time.sleep(0.05)
    nursery: int = line.call("status")["nursery"]["pid"]
    line.close()
    return nursery


if __name__ == "__main__":
    main()
