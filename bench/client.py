"""The load generator: a process of its own, told by one line of JSON on standard input what to measure.

    {"http": PORT or "socket": PATH, "model": NAME, "load": {...}, "parts": {NAME: [PID, ...]},
     "window": CREDIT (of ingle's streams; by default what the client library has),
     "more": {...} (fields of an HTTP request beside),
     "tells_usage": false (where the end of an HTTP stream says nothing of tokens)}

It prints the outcome as JSON.
"""

import json
import sys
from dataclasses import asdict

from ingle.wire.limits import DEFAULT_CREDIT

from bench.drive import drive, many_descriptors
from bench.http_line import HttpLine
from bench.load import Load
from bench.proc import costs
from bench.socket_line import SocketLine


def main() -> None:
    """Measure once."""
    told = json.loads(sys.stdin.readline())
    load = Load(**told["load"])
    many_descriptors(load.concurrency + 100)
    count = min(load.concurrency, load.requests)
    lines: list[HttpLine] | list[SocketLine]
    if "http" in told:
        tells_usage = told.get("tells_usage", True)
        more = told.get("more")
        lines = [HttpLine(told["http"], told["model"], more=more, tells_usage=tells_usage) for _ in range(count)]
    else:
        window = told.get("window", DEFAULT_CREDIT)
        lines = [SocketLine(told["socket"], told["model"], window=window) for _ in range(count)]
    print(json.dumps(asdict(drive(lines, load, lambda: costs(told["parts"])))))


if __name__ == "__main__":
    main()
