"""How long it takes until something answers: the broker, a model cold, from the nursery and again, beside plain vLLM.

    python -m bench.starts [--rounds 3]

A start ends when the model has given its first token. The rows of a round come one after the other.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingled.testing import DaemonFixture

from bench.contenders import Contender, Raw, Serve, ingle_environment
from bench.installed import as_installed
from bench.load import Load
from bench.record import Record, options
from bench.shapes import NAME, TINY, Model, make
from bench.socket_line import SocketLine
from bench.spread import LIMIT, Figure, figure, ratio_text

BROKER_STARTS = 15
READY_S = 120.0
BROKER = "broker: exec to its socket"
COLD = "ingle, cold: exec to first token"
FIRST = "ingle, load from the nursery"
AGAIN = "ingle, load again"
PLAIN = "AsyncLLM: exec to first token"
SERVED = "vllm serve: exec to first token"


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int)
    args = parser.parse_args()
    rounds = args.rounds or (1 if args.quick else 3)
    record = Record("starts", args.label)
    record.begin("Starts")
    seen: dict[str, list[float]] = {name: [] for name in (BROKER, COLD, FIRST, AGAIN, PLAIN, SERVED)}
    seen[BROKER] = [broker() for _ in range(5 if args.quick else BROKER_STARTS)]
    with tempfile.TemporaryDirectory(prefix="igb-model-") as folder:
        model = make(TINY, Path(folder), 64)
        plain(Raw(model))  # vLLM caches what it learns of an architecture
        for _ in range(rounds):
            seen[COLD].append(cold(model))
            first, again = from_nursery(model)
            seen[FIRST].append(first)
            seen[AGAIN].append(again)
            seen[PLAIN].append(plain(Raw(model)))
            seen[SERVED].append(plain(Serve(model)))
    found: dict[str, Figure] = {name: figure(values) for name, values in seen.items()}
    rows = [
        [name, its.text(3), "-" if name == BROKER else ratio_text(its, found[PLAIN], LIMIT)]
        for name, its in found.items()
    ]
    record.table(
        f"{rounds} rounds; median (smallest..largest); ratios where both sides are within {LIMIT:.0%}:",
        ["", "seconds", "of AsyncLLM's"],
        rows,
    )
    record.data["seconds"] = seen
    print(record.write())


def broker() -> float:
    """Return the seconds from exec until the socket answers."""
    with as_installed(DaemonFixture(engine="echo")) as daemon:
        return daemon.started_s


@contextmanager
def daemon(model: Model) -> Iterator[SocketLine]:
    """Run a daemon; gives a line to it."""
    with as_installed(DaemonFixture(model.profile(), engine="vllm", environ=ingle_environment())) as running:
        line = SocketLine(str(running.socket))
        yield line
        line.close()


def cold(model: Model) -> float:
    """Return the seconds from exec of the daemon until the model is ready: it has given a token by then."""
    begin = time.perf_counter()
    with daemon(model) as line:
        line.call("load", model=NAME)
        return time.perf_counter() - begin


def from_nursery(model: Model) -> tuple[float, float]:
    """Return the seconds of a model's first load after the nursery is ready, and of its second."""
    with daemon(model) as line:
        deadline = time.monotonic() + READY_S
        while line.call("status")["nursery"]["state"] != "ready":
            if time.monotonic() > deadline:
                raise TimeoutError("the nursery does not get ready")
            time.sleep(0.05)
        took = []
        for _ in range(2):
            begin = time.perf_counter()
            line.call("load", model=NAME)
            took.append(time.perf_counter() - begin)
            line.call("unload", model=NAME)
            while line.call("show", model=NAME)["state"] != "cold":
                time.sleep(0.05)
        return took[0], took[1]


def plain(row: Contender) -> float:
    """Return the seconds from exec of another server until it has given a token."""
    begin = time.perf_counter()
    try:
        row.start()
        row.measure(Load(1, 1, tokens=1))
        return time.perf_counter() - begin
    finally:
        row.stop()


if __name__ == "__main__":
    main()
