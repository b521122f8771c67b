"""Print how long a fresh interpreter takes to import each part of ingle, and how many modules that brings."""

import subprocess
import sys

PARTS = ("ingle", "ingle.wire", "ingle.cli", "ingle.client", "ingle.aio", "ingled.core", "ingled.broker")
RUNS = 7

PROGRAM = """
import sys, time
before, start = len(sys.modules), time.perf_counter()
__import__(sys.argv[1])
print(time.perf_counter() - start, len(sys.modules) - before)
"""


def measure(part: str) -> tuple[float, int]:
    """Return the best time in milliseconds and the number of modules for one part."""
    times, modules = [], 0
    for _ in range(RUNS):
        command = [sys.executable, "-c", PROGRAM, part]
        seconds, count = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        times.append(float(seconds) * 1000)
        modules = int(count)
    return min(times), modules


def main() -> None:
    """Measure every part."""
    print(f"{'import':<16}{'ms':>8}{'modules':>10}")
    for part in PARTS:
        milliseconds, modules = measure(part)
        print(f"{part:<16}{milliseconds:>8.1f}{modules:>10}")


if __name__ == "__main__":
    main()
