"""How many chunks a second the broker forwards, with a worker that costs nothing but its messages.

    python -m bench.forwarding [--clients 1 64 256] [--window 16 256]

The worker makes one chunk for each stream in each step, as fast as the clients' credit allows. Worker, broker and
clients share the machine's cores: beside what they reached together stands what a chunk costs the broker.
"""

import argparse
import subprocess
import sys
import time

from ingled.testing import DaemonFixture

from bench.contenders import run_client
from bench.load import Load
from bench.machine import ROOT
from bench.record import Record, options
from bench.socket_line import SocketLine
from bench.spread import Figure, figure
from bench.synthetic_worker import MODEL

CONFIG = f'[models.{MODEL}]\nsource = "builtin:ember"\n'
READY_S = 30.0
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
    args = parser.parse_args()
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
    with DaemonFixture(CONFIG, engine="echo") as daemon:
        assert daemon.process is not None
        command = [sys.executable, "-m", "bench.synthetic_worker", str(daemon.file), str(daemon.socket)]
        worker = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            wait_for_worker(daemon)
            parts = {"broker": [daemon.process.pid], "worker": [worker.pid]}
            for number in range(rounds):
                for clients in args.clients:
                    for window in args.window:
                        load = Load(clients, clients, tokens=chunks // clients, round=number)
                        got = run_client(load, parts, {"socket": str(daemon.socket), "window": window}, MODEL)
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
        finally:
            worker.terminate()
            worker.wait()
    return {key: {name: figure([one[name] for one in its]) for name in its[0]} for key, its in seen.items()}


def wait_for_worker(daemon: DaemonFixture) -> None:
    """Return when the broker has taken the worker on. Raises TimeoutError."""
    line = SocketLine(str(daemon.socket))
    deadline = time.monotonic() + READY_S
    while line.call("show", model=MODEL)["state"] != "ready":
        if time.monotonic() > deadline:
            raise TimeoutError(f"the synthetic worker was not taken on:\n{daemon.log.read_text()}")
        time.sleep(0.05)
    line.close()


if __name__ == "__main__":
    main()
