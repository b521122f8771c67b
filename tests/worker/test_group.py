"""What a group of processes alone takes: not what the process has that it was forked from, and nothing twice."""

import subprocess
import sys

MIB = 1 << 20
PROGRAM = """
import os, signal, sys
from ingled.worker.group import Taken

def pages(count):
    return bytearray(os.urandom(4096) * (count << 8))

nursery = pages(60)
if os.fork() == 0:
    os.setsid()
    taken = Taken()
    worker = pages(50)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        engine = pages(30)
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    print(taken.bytes())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(taken.bytes(), flush=True)
    os._exit(0)
os.wait()
"""

PEAKS = """
import mmap, os
from ingled.worker.group import Taken

def pages(count):
    found = mmap.mmap(-1, count << 20, mmap.MAP_PRIVATE)
    found.write(b"x" * (count << 20))
    return found

taken = Taken()
pages(90).close()
taken.mark()
print(taken.most() - taken.bytes())
pages(40).close()
print(taken.most() - taken.bytes())
pages(20).close()
print(taken.most() - taken.bytes())
"""


def test_memory_that_comes_back_is_counted_once() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    both, alone = (int(line) for line in done.stdout.split())
    assert 80 * MIB <= both < 100 * MIB  # 50 shared by both, 30 of the second; not the 60 that were there before
    assert 50 * MIB <= alone < 65 * MIB


def test_a_peak_is_known_though_nobody_looked_while_it_lasted() -> None:
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, timeout=60, check=True)
    before, after, later = (int(line) / MIB for line in done.stdout.split())
    assert before < 10, "what was before the mark does not count"
    assert 40 <= after < 90 and later == after
