"""What clients cost that do little: an idle daemon, a thousand idle connections, two hundred that read as people do.

    python -m bench.crowd [--seconds 60] [--idle 1000] [--streams 200]

The first table is of a daemon with a real model that nobody asks; the second of a broker whose echo engine gives each
stream a token every 50 ms, with everything else on the machine as it is.
"""

import tempfile
import time
from pathlib import Path

from ingled.testing import DaemonFixture

from bench.contenders import Ingle, run_client
from bench.drive import many_descriptors
from bench.load import Load
from bench.proc import Cost, costs
from bench.record import Record, options
from bench.shapes import NAME, TINY, make
from bench.socket_line import SocketLine

DELAY_MS = 50
ECHO = f'[models.{NAME}]\nsource = "builtin:ember"\npreload = true\n'
ECHO += f"max_sequences = 256\necho = {{delay_ms = {DELAY_MS}}}\n"


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, help="of idling; 60, or 5 with --quick")
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=200)
    args = parser.parse_args()
    seconds = args.seconds or (5 if args.quick else 60)
    record = Record("crowd", args.label)
    record.begin("Idle and slow clients")
    before, after = idle(seconds)
    rows = [
        [part, f"{(after[part].cpu_s - before[part].cpu_s) / seconds:.2%}", megabytes(after[part])] for part in after
    ]
    record.table(f"A model is loaded and nobody asks, for {seconds:.0f} s:", ["", "of a core", "RSS MB"], rows)
    record.data["idle"] = {part: (after[part].cpu_s - before[part].cpu_s) / seconds for part in after}
    rows = crowd(args.idle, args.streams, min(seconds, 10))
    record.table("The broker, with the echo engine:", ["", "of a core", "RSS MB", "us per chunk"], rows)
    record.data["broker"] = rows
    print(record.write())


def idle(seconds: float) -> tuple[dict[str, Cost], dict[str, Cost]]:
    """Return what all parts of a daemon with a resident model had cost before and after some idle time."""
    with tempfile.TemporaryDirectory(prefix="igb-model-") as folder:
        row = Ingle(make(TINY, Path(folder), 64))
        try:
            row.start()
            row.measure(Load(8, 16, tokens=16))
            time.sleep(3)  # what follows a request is over
            parts = row.parts()
            before = costs(parts)
            time.sleep(seconds)
            return before, costs(parts)
        finally:
            row.stop()


def crowd(many: int, streams: int, seconds: float) -> list[list[str]]:
    """Return the rows of the second table."""
    many_descriptors(many + 200)
    rows = []
    with DaemonFixture(ECHO, engine="echo") as daemon:
        assert daemon.process is not None
        parts = {"broker": [daemon.process.pid]}
        first = SocketLine(str(daemon.socket))
        first.call("load", model=NAME)
        worker = first.call("show", model=NAME)["pid"]
        parts["rest"] = [first.call("status")["nursery"]["pid"], worker]

        def rest(title: str) -> None:
            before = costs(parts)["broker"]
            time.sleep(seconds)
            now = costs(parts)["broker"]
            rows.append([title, f"{(now.cpu_s - before.cpu_s) / seconds:.2%}", megabytes(now), "-"])

        rest("1 idle client")
        lines = [SocketLine(str(daemon.socket)) for _ in range(many)]
        rest(f"{many} idle clients")
        load = Load(streams, streams, tokens=int(seconds * 1000 / DELAY_MS))
        got = run_client(load, parts, {"socket": str(daemon.socket)})
        rows.append(
            [
                f"and {streams} streams, {got.pieces / got.seconds:,.0f} chunks/s",
                f"{got.cpu_s['broker'] / got.seconds:.2%}",
                f"{got.rss_bytes['broker'] / 1e6:.0f}",
                f"{got.cpu_s['broker'] / got.pieces * 1e6:.1f}",
            ]
        )
        for line in lines:
            line.close()
        rest("all of them gone")
        first.close()
    return rows


def megabytes(cost: Cost) -> str:
    """Return the resident memory as it stands in a table."""
    return f"{cost.rss_bytes / 1e6:.0f}"


if __name__ == "__main__":
    main()
