"""How throughput, the first token and the broker's CPU go as clients, resident models and hooks grow.

    python -m bench.curve [--rounds 5] [--only hooks]

Workers cost nothing but their messages (`bench.synthetic_worker`: one chunk a token, as from an engine that is never
the bottleneck), so that what grows is what the daemon does. One daemon has no hooks; a second one has them all, and a
client's tag chooses which of them its requests meet. Points are measured in rounds, each of which takes all of them in
another order.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingle.wire.limits import OPEN_REQUESTS
from ingled.testing import DaemonFixture

from bench.drive import drive, many_descriptors
from bench.hooks import FILTER
from bench.load import Load, Outcome
from bench.machine import ROOT
from bench.proc import costs, processes, title, tree
from bench.record import Record, options
from bench.socket_line import SocketLine
from bench.spread import figure, percentile

CLIENTS = (1, 8, 64, 256, 1000)
"""One account may have `OPEN_REQUESTS` at the same time, so that of the last ones some are only there."""
MODELS = (1, 2, 4, 8)
FILTERS = (1, 5, 20)
REMOTES = (1, 5)
STREAMS = 64
"""At once, where it is not the clients that grow."""
TOKENS, ANSWERS = 32, 2048
"""Of each answer and in each measurement, where it is not the clients that grow."""
STREAMED = 65_536
"""Tokens of a measurement of clients."""
READY_S = 60.0

HANDLER = """
from ingled.hooks import hookimpl
class Same:
    held = 0
    def feed(self, text):
        return text
    def flush(self):
        return ""
@hookimpl
def ingled_chunk():
    return Same()
"""
REMOTE = """
import sys
from ingle.hooks import changed, hook, run
@hook(point="prompt", name=sys.argv[2], tags=sys.argv[3:])
def lamps(messages):
    return changed([*messages[:-1], messages[-1] | {"content": messages[-1]["content"].replace("LAMP", "LANTERN")}])
run(socket=sys.argv[1])
"""
COLUMNS = (
    ("tokens/s", "tokens_s", 0),
    ("requests/s", "requests_s", 0),
    ("first ms p50", "first_p50_ms", 2),
    ("p99", "first_p99_ms", 1),
    ("broker us/token", "broker_us", 1),
    ("broker us/request", "broker_request_us", 0),
    ("hosts us/request", "hosts_request_us", 0),
)


@dataclass(frozen=True)
class Point:
    """One point of a curve: so many clients, their tags and the models that they ask by turns."""

    curve: str
    name: str
    clients: int = STREAMS
    """Those that ask at the same time."""
    idle: int = 0
    """Clients beside them that ask nothing."""
    tag: str = "none"
    models: int = 1
    tokens: int = TOKENS
    answers: int = ANSWERS


def points(quick: bool) -> tuple[list[Point], list[Point]]:
    """Return those without hooks in the daemon, and those with."""
    share = 4 if quick else 1
    answers = ANSWERS // share
    grow = []
    for number in CLIENTS:
        streams = min(number, OPEN_REQUESTS)
        name = f"{number}" if streams == number else f"{number}, {streams} of them ask"
        tokens = STREAMED // share // streams
        grow.append(Point("clients", name, streams, number - streams, tokens=tokens, answers=streams))
    grow += [Point("models", f"{number}", models=number, answers=answers) for number in MODELS]
    registered = len(FILTERS_TAGS) + 1 + max(REMOTES)
    hooked = [Point("hooks", f"{registered} registered, none met", answers=answers)]
    for number in FILTERS:
        hooked.append(Point("hooks", counted(number, "filter", "of plugins"), tag=f"filters{number}", answers=answers))
    for number in REMOTES:
        hooked.append(Point("hooks", counted(number, "filter", "outside"), tag=f"remotes{number}", answers=answers))
    hooked.append(Point("hooks", "1 chunk handler", tag="handler", answers=answers))
    return [*grow, Point("hooks", "none registered", answers=answers)], hooked


FILTERS_TAGS = [[f"filters{number}" for number in FILTERS if at < number] for at in range(max(FILTERS))]
"""Of each filter, the tags of the clients that meet it."""


def counted(number: int, what: str, where: str) -> str:
    """Return such as `5 filters outside`."""
    return f"{number} {what}{'s' * (number != 1)} {where}"


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, help="5, or 1 with --quick")
    parser.add_argument("--only", choices=("clients", "models", "hooks"), help="one of the tables")
    args = parser.parse_args()
    rounds = args.rounds or (1 if args.quick else 5)
    many_descriptors(max(CLIENTS) + 200)
    record = Record("curve", args.label)
    record.begin("How it goes as clients, models and hooks grow")
    found: dict[Point, list[dict[str, float]]] = defaultdict(list)
    plain, hooked = ([one for one in its if args.only in (None, one.curve)] for its in points(args.quick))
    order = random.Random(8)
    with ExitStack() as stack:
        bare = stack.enter_context(running(hooks=False))
        full = stack.enter_context(running(hooks=True)) if hooked else bare
        for number in range(-1, rounds):  # the first one warms up
            for point in order.sample([*plain, *hooked], len(plain) + len(hooked)):
                figures = measure(full if point in hooked else bare, point, number + 1)
                if number >= 0:
                    found[point].append(figures)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    for curve, about in (
        ("clients", f"Clients, each with a stream; {STREAMED:,} tokens in all:"),
        ("models", f"Resident models, {STREAMS} clients that ask them by turns, {TOKENS} tokens an answer:"),
        ("hooks", f"Hooks, {STREAMS} clients, {TOKENS} tokens an answer:"),
    ):
        rows = [[point.name, *cells(found[point])] for point in (*plain, *hooked) if point.curve == curve]
        if rows:
            record.table(about, [curve, *(head for head, _, _ in COLUMNS)], rows)
    record.data["points"] = [
        {"curve": point.curve, "name": point.name} | {key: [one[key] for one in its] for key in its[0]}
        for point, its in found.items()
    ]
    print(record.write())


def cells(rounds: Sequence[dict[str, float]]) -> list[str]:
    """Return the cells of a row."""
    return [figure([one[key] for one in rounds]).text(digits) for _, key, digits in COLUMNS]


@contextmanager
def running(*, hooks: bool) -> Iterator[DaemonFixture]:
    """Run a daemon with all models resident and, if wanted, all hooks there."""
    names = [model(at) for at in range(max(MODELS))]
    config = "".join(f'[models.{name}]\nsource = "builtin:ember"\n' for name in names)
    with tempfile.TemporaryDirectory(prefix="igb-hooks-") as folder, ExitStack() as stack:
        if hooks:
            config = f'[daemon]\nplugin_folder = "{folder}"\n{plugins(Path(folder))}{config}'
        daemon = stack.enter_context(DaemonFixture(config, engine="echo"))
        for name in names:
            start(stack, "-m", "bench.synthetic_worker", str(daemon.file), str(daemon.socket), name)
        for at in range(max(REMOTES) if hooks else 0):
            tags = [f"remotes{number}" for number in REMOTES if at < number]
            start(stack, "-c", REMOTE, str(daemon.socket), f"remote{at}", *tags)
        line = SocketLine(str(daemon.socket))
        wanted = len(FILTERS_TAGS) + 1 + max(REMOTES) if hooks else 0
        until = time.monotonic() + READY_S
        while len(line.call("hooks")["hooks"]) < wanted or any(
            line.call("show", model=name)["state"] != "ready" for name in names
        ):
            if time.monotonic() > until:
                raise TimeoutError(f"not all models and hooks have come:\n{daemon.log.read_text()}")
            time.sleep(0.05)
        line.close()
        yield daemon


def start(stack: ExitStack, *command: str) -> None:
    """Start a process of this Python that ends with the stack."""
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def plugins(folder: Path) -> str:
    """Write the plugins; returns their tables of the configuration."""
    tables = []
    for name, text, tags in [
        ("handler", HANDLER, ["handler"]),
        *((f"filter{at:02}", FILTER, tags) for at, tags in enumerate(FILTERS_TAGS)),
    ]:
        (folder / f"{name}.py").write_text(text)
        tables.append(f"[plugins.{name}]\ntags = {tags!r}\n")
    return "".join(tables)


def model(at: int) -> str:
    """Return the name of a model."""
    return f"bench{at}"


def measure(daemon: DaemonFixture, point: Point, number: int) -> dict[str, float]:
    """Return the figures of one point in one round."""
    assert daemon.process is not None
    path = str(daemon.socket)
    idle = [SocketLine(path) for _ in range(point.idle)]
    lines = [SocketLine(path, model(at % point.models), tags=[point.tag]) for at in range(point.clients)]
    hosts = [one.pid for one in tree([daemon.process.pid], processes()) if "ingled.hooks" in title(one.pid)]
    parts = {"broker": [daemon.process.pid], "hosts": hosts}
    load = Load(point.clients, point.answers, tokens=point.tokens, round=number)
    got = drive(lines, load, lambda: costs(parts))
    for line in (*lines, *idle):
        line.close()
    return figures(got, load.requests)


def figures(got: Outcome, requests: int) -> dict[str, float]:
    """Return the numbers of a point."""
    return {
        "tokens_s": got.tokens / got.seconds,
        "requests_s": requests / got.seconds,
        "first_p50_ms": (percentile(got.firsts, 0.5) or 0.0) * 1000,
        "first_p99_ms": (percentile(got.firsts, 0.99) or 0.0) * 1000,
        "broker_us": got.cpu_s["broker"] / got.tokens * 1e6,
        "broker_request_us": got.cpu_s["broker"] / requests * 1e6,
        "hosts_request_us": got.cpu_s["hosts"] / requests * 1e6,
    }


if __name__ == "__main__":
    main()
