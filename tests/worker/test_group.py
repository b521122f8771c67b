"""What a group of processes alone takes: not what the process has that it was forked from, and nothing twice."""

import subprocess
import sys
from pathlib import Path

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
    print(taken.measure().taken)
    nursery[: 20 << 20 : 4096] = bytes(20 << 8)
    print(taken.measure().taken)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(taken.measure().taken, flush=True)
    os._exit(0)
os.wait()
"""

PEAKS = """
import mmap, os
from ingled.worker import group
from ingled.worker.group import Taken

def pages(count):
    found = mmap.mmap(-1, count << 20, mmap.MAP_PRIVATE)
    found.write(b"x" * (count << 20))
    return found

taken = Taken()
pages(90).close()
taken.mark()
print(group.Gauge(taken).read().most - taken.measure().taken)
gauge = group.Gauge(taken)
gauge.read()
pages(40).close()
sizes = gauge.read()  # it is seen though nothing of it is left
print(sizes.most - sizes.taken)
pages(20).close()
sizes = gauge.read(anew=True)
print(sizes.most - sizes.taken)
"""


def test_memory_that_comes_back_is_counted_once() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    both, written, alone = (int(line) / MIB for line in done.stdout.split())
    assert 80 <= both < 100, "50 shared by both, 30 of the second; not the 60 that were there before"
    assert 19.9 <= written - both < 22, "pages that were the nursery's and have been written to since are its own"
    assert 70 <= alone < 85


def test_a_peak_is_known_though_nobody_looked_while_it_lasted() -> None:
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, timeout=60, check=True)
    before, after, later = (int(line) / MIB for line in done.stdout.split())
    assert before < 10, "what was before the mark does not count"
    assert 35 <= after < 85 and abs(later - after) < 5, "20 after 40 are no news"


DROPPED = """
import mmap, sys, tempfile
from ingled.worker.group import Taken, rollup

def file_pages():
    now = rollup("self")
    return now["Rss"] - now["Anonymous"]

with tempfile.TemporaryFile(dir=sys.argv[1]) as file:
    file.truncate(60 << 20)
    program = mmap.mmap(file.fileno(), 60 << 20, mmap.MAP_SHARED, mmap.PROT_READ)
    sum(program[at] for at in range(0, 60 << 20, mmap.PAGESIZE))
    taken = Taken()
    taken.mark()
    batch = mmap.mmap(-1, 30 << 20, mmap.MAP_PRIVATE)
    for at in range(0, 30 << 20, mmap.PAGESIZE):
        batch[at] = 1
    batch.close()
    sizes = taken.measure()
    print(sizes.most - sizes.taken)
    before = file_pages()
    program.madvise(mmap.MADV_DONTNEED)  # as the kernel does by itself when memory is short
    print(before - file_pages())
    sizes = taken.measure()
    print(sizes.most - sizes.taken)
"""


def test_pages_of_files_that_the_kernel_drops_are_no_peak(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DROPPED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    batch, dropped, later = (int(line) / MIB for line in done.stdout.split())
    assert 25 <= batch < 50 and dropped > 55
    assert abs(later - batch) < 5


GAUGE = """
import os
from ingled.worker import group

os.setsid()
measured = []
rollup = group.rollup
group.rollup = lambda pid: measured.append(pid) or rollup(pid)
gauge = group.Gauge(group.Taken())
first = gauge.read()
assert first.divided > 0 and measured == [os.getpid()], measured
assert gauge.read() == first and measured == [os.getpid()], "nothing has changed"
more = bytearray(os.urandom(4096) * (50 << 8))
grown = gauge.read()
assert grown.taken - first.taken > 45 << 20 and len(measured) == 2, (first, grown)
child = os.fork()
if child == 0:
    import signal
    signal.pause()
measured.clear()  # before its first fork it looks at itself
gauge.read()
os.kill(child, 9)
os.waitpid(child, 0)
assert measured == [os.getpid(), child], measured
gauge.read()
assert measured[2:] == [os.getpid()], measured
gauge._until = 0.0
gauge.read()
assert measured[3:] == [os.getpid()], "what is old is measured again"
print("done")
"""


def test_memory_is_measured_when_it_has_changed() -> None:
    done = subprocess.run([sys.executable, "-c", GAUGE], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr
