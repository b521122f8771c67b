"""What hooks cost a request, through the whole daemon: filters of plugins and of a program outside, and text handlers.

    python -m bench.hooks [--rounds 12] [--requests 300]

One daemon with the echo engine has all the hooks, and the client's tag chooses which of them a request meets. In each
round every row is measured once, in another order; a row's cost is its time less that of the row without hooks in the
same round.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingled.testing import DaemonFixture

from bench.drive import drive
from bench.load import Load
from bench.record import Record, options
from bench.socket_line import SocketLine
from bench.spread import Figure, figure, percentile, ratio_text

MODEL = "echo"
FILTER = """
from ingled.hooks import changed, hookimpl
@hookimpl
def ingled_prompt(messages):
    return changed([*messages[:-1], messages[-1] | {"content": messages[-1]["content"].replace("LAMP", "LANTERN")}])
"""
HANDLER = """
from ingled.hooks import hookimpl
class Quiet:
    held = 0
    def feed(self, text):
        return text.replace("LAMP", "CANDLE")
    def flush(self):
        return ""
@hookimpl
def ingled_chunk():
    return Quiet()
"""
REMOTE = """
import sys
from ingle.hooks import changed, hook, run
@hook(point="prompt", tags=["remote"])
def lamps(messages):
    return changed([*messages[:-1], messages[-1] | {"content": messages[-1]["content"].replace("LAMP", "LANTERN")}])
run(socket=sys.argv[1])
"""
PLUGINS = {"one": FILTER, "handler": HANDLER} | {f"five{number}": FILTER for number in range(5)}
TAG = {name: "five" if name.startswith("five") else name for name in PLUGINS}
ROWS = {"none": "no hook", "one": "1 filter of a plugin", "five": "5 filters of plugins", "remote": "1 filter outside"}
STREAMS, TOKENS, ANSWERS = 8, 400, 480
"""Text handlers: streams at once, tokens of each, and answers in a measurement of half a second."""


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, help="12, or 3 with --quick")
    parser.add_argument("--requests", type=int, help="of a row in a round; 300, or 50 with --quick")
    args = parser.parse_args()
    rounds, requests = args.rounds or (3 if args.quick else 12), args.requests or (50 if args.quick else 300)
    record = Record("hooks", args.label)
    record.begin("What hooks cost")
    times: dict[str, list[list[float]]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    order = random.Random(5)
    with daemon() as socket:
        lines = {tag: SocketLine(socket, MODEL, tags=[tag]) for tag in ROWS}
        many = {tag: [SocketLine(socket, MODEL, tags=[tag]) for _ in range(STREAMS)] for tag in ("none", "handler")}
        for number in range(-1, rounds):  # the first one warms up
            for tag in order.sample(list(ROWS), len(ROWS)):
                found = latency(lines[tag], requests, number)
                if number >= 0:
                    times[tag].append(found)
            for tag in order.sample(list(many), len(many)):
                rate = throughput(many[tag], number)
                if number >= 0:
                    rates[tag].append(rate)
    record.table(
        f"A request of one token, one at a time, {requests} in each of {rounds} rounds, us (median and range):",
        ["", "p50", "p99", "cost, p50", "cost, p99"],
        [[title, *costs(times, tag)] for tag, title in ROWS.items()],
    )
    record.table(
        f"{STREAMS} streams at once, {TOKENS} tokens each, without delay:",
        ["", "tokens/s", "of that without"],
        [
            ["no handler", figure(rates["none"]).text(), "-"],
            [
                "1 handler of a plugin",
                figure(rates["handler"]).text(),
                ratio_text(figure(rates["handler"]), figure(rates["none"]), 0.25),
            ],
        ],
    )
    record.data |= {"seconds": times, "tokens_per_s": rates}
    print(record.write())


@contextmanager
def daemon() -> Iterator[str]:
    """Run a daemon with all the hooks; yields its socket when they are there."""
    with tempfile.TemporaryDirectory(prefix="igb-hooks-") as folder:
        for name, text in PLUGINS.items():
            Path(folder, f"{name}.py").write_text(text)
        tables = "".join(f'[plugins.{name}]\ntags = ["{tag}"]\n' for name, tag in TAG.items())
        model = f'[models.{MODEL}]\nsource = "builtin:ember"\npreload = true\n'
        with DaemonFixture(f'[daemon]\nplugin_folder = "{folder}"\n{tables}{model}') as running:
            remote = subprocess.Popen([sys.executable, "-c", REMOTE, str(running.socket)])
            try:
                line = SocketLine(str(running.socket))
                until = time.monotonic() + 60
                while len(line.call("hooks")["hooks"]) < len(PLUGINS) + 1:
                    if time.monotonic() > until:
                        raise TimeoutError("not all hooks have come")
                    time.sleep(0.05)
                line.call("load", model=MODEL)
                line.close()
                yield str(running.socket)
            finally:
                remote.terminate()
                remote.wait()


def latency(line: SocketLine, requests: int, round: int) -> list[float]:
    """Return the seconds that each of some requests took, from asking to the end."""
    return list(drive([line], Load(1, requests, streamed=False, tokens=1, round=round + 1), dict).firsts)


def throughput(lines: list[SocketLine], round: int) -> float:
    """Return tokens a second of streams that run together."""
    got = drive(lines, Load(len(lines), ANSWERS, tokens=TOKENS, round=round + 1), dict)
    return got.tokens / got.seconds


def costs(times: dict[str, list[list[float]]], tag: str) -> list[str]:
    """Return the cells of a row: percentiles, and what they are above those without hooks, round by round."""

    def micros(tag: str, part: float) -> list[float]:
        return [(percentile(one, part) or 0.0) * 1e6 for one in times[tag]]

    cells = [figure(micros(tag, part)).text() for part in (0.5, 0.99)]
    for part in (0.5, 0.99):
        pairs = zip(micros(tag, part), micros("none", part), strict=True)
        cells.append("-" if tag == "none" else Figure(tuple(one - none for one, none in pairs)).text())
    return cells


if __name__ == "__main__":
    main()
