"""Programs as hooks: runs one for each call, or keeps one and speaks with it line by line; never beyond the deadline.

A program gets a session of its own, so that killing its process group ends all that it has started.
"""

import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import IO, Any, NoReturn

from ingle.hook_calls import Failure
from ingle.wire.limits import FRAME_BYTES

TAIL = 4096
"""How much of what a program says on standard error is kept."""
REASON = 300
RESTART = 0.5
"""Seconds from one start of a program to the next, when it ends by itself."""
FAREWELL = 0.5
PIECE = 1 << 16


class Ended:
    """How a program ended, and what it said."""

    def __init__(self, status: int, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr.decode(errors="replace")

    @property
    def last_words(self) -> str:
        """The last line on standard error, or how it ended."""
        lines = self.stderr.split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return said[:REASON] or ended_how(self.status)


def ended_how(status: int) -> str:
    """Return what an exit status says, for people."""
    if status >= 0:
        return f"it ended with exit status {status}"
    try:
        return f"it was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was killed by signal {-status}"


class Programs:
    """Runs a program for each call, also several at a time."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._running: set[int] = set()
        self._closed = False
        self._lock = threading.Lock()

    def run(self, data: bytes, deadline: float, environment: Mapping[str, str]) -> Ended:
        """Run it on this input. Raises Failure when it is not done in time, or writes without end."""
        with self._lock:
            if self._closed:
                raise Failure("the hook is being closed")
            process = _start(self._argv, subprocess.PIPE, os.environ | dict(environment))
            self._running.add(process.pid)
        try:
            with process, _Pipes(process) as pipes:
                try:
                    pipes.converse(data, deadline)
                except BaseException:
                    self._forget(process)
                    kill(process)
                    raise
                self._forget(process)
                return Ended(process.wait(), bytes(pipes.stdout), bytes(pipes.stderr))
        finally:
            self._forget(process)

    def _forget(self, process: "subprocess.Popen[bytes]") -> None:
        """Once it has been waited for, its number may be another's."""
        with self._lock:
            self._running.discard(process.pid)

    def close(self) -> None:
        """Kill what still runs, and run nothing more."""
        with self._lock:
            self._closed = True
            for pid in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)


class _Pipes:
    """The three pipes of a running program; all that is read and written, within limits."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self._pid = os.pidfd_open(process.pid)
        self._process = process

    def __enter__(self) -> "_Pipes":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pid)

    def converse(self, data: bytes, deadline: float) -> None:
        """Write all input that it takes, and read until it has ended; what it left in the background is not waited
        for. Raises Failure.
        """
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None and stdout is not None and stderr is not None
        poll = select.poll()
        left = memoryview(data)
        for pipe in (stdin, stdout, stderr):
            os.set_blocking(pipe.fileno(), False)
        outputs = {stdout.fileno(): (stdout, self.stdout), stderr.fileno(): (stderr, self.stderr)}
        for number in (*outputs, self._pid):
            poll.register(number, select.POLLIN)
        poll.register(stdin.fileno(), select.POLLOUT)
        while True:
            seconds = deadline - monotonic()
            ready = dict(poll.poll(max(0.0, seconds) * 1000) if seconds > 0 else ())
            if not ready:
                raise Failure("it was not done in time, and has been killed")
            if not stdin.closed and stdin.fileno() in ready:
                try:
                    left = _write(stdin, left)
                except BrokenPipeError:  # it need not read all
                    left = left[:0]
                if not left:
                    poll.unregister(stdin.fileno())
                    with suppress(OSError):
                        stdin.close()
            over = self._pid in ready
            for number, (pipe, kept) in list(outputs.items()):
                if (over or number in ready) and not self._read(pipe, kept, until_empty=over):
                    poll.unregister(number)
                    del outputs[number]
            if over:
                return

    def _read(self, pipe: IO[bytes], kept: bytearray, *, until_empty: bool) -> bool:
        """Read what is there; False at the end."""
        while True:
            try:
                piece = os.read(pipe.fileno(), PIECE)
            except BlockingIOError:
                return True
            if not piece:
                return False
            kept += piece
            if kept is self.stderr:
                del kept[:-TAIL]
            elif len(kept) > FRAME_BYTES:
                raise Failure(f"it wrote more than {FRAME_BYTES} bytes")
            if not until_empty:
                return True


class Persistent:
    """One program that stays: a line in, a line out. Started again when it has ended or was killed."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = -RESTART
        self._read = bytearray()
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, question: Any, deadline: float) -> Any:
        """Return its answer to a line of JSON. Raises Failure; after one that is its fault it is killed."""
        with self._lock:
            process = self._alive()
            line = bytearray()
            try:
                self._write(process, json.dumps(question).encode() + b"\n", deadline)
                line = self._line(process, deadline)
                return json.loads(line)
            except ValueError:
                self._kill()
                said = line[:80].decode(errors="replace")
                raise Failure(f"it answered with a line that is no JSON: {said!r}") from None
            except BaseException:
                self._kill()
                raise

    def close(self) -> None:
        """End it: first its input, then by force. Closing twice is fine."""
        self._closed = True
        process = self._process
        if process is None:
            return
        if self._lock.acquire(timeout=FAREWELL):  # nobody waits for an answer
            try:
                assert process.stdin is not None
                with suppress(OSError):
                    process.stdin.close()
                _exits(process, FAREWELL)
            finally:
                self._lock.release()
        kill(process)

    def _alive(self) -> "subprocess.Popen[bytes]":
        if self._closed:
            raise Failure("the hook is being closed")
        if self._process is not None and _exits(self._process, 0.0):
            self._kill()
        if self._process is not None and self._read:
            self._kill()
            raise Failure("it wrote more than one line for one line")
        if self._process is None:
            if monotonic() - self._started < RESTART:
                raise Failure("it has ended, and is started again in a moment")
            self._started = monotonic()
            self._read.clear()
            self._process = _start(self._argv, None, os.environ)
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                os.set_blocking(pipe.fileno(), False)
        return self._process

    def _write(self, process: "subprocess.Popen[bytes]", data: bytes, deadline: float) -> None:
        assert process.stdin is not None
        left = memoryview(data)
        while left:
            _wait(process.stdin, select.POLLOUT, deadline)
            try:
                left = _write(process.stdin, left)
            except BrokenPipeError:
                self._gone(process)

    def _line(self, process: "subprocess.Popen[bytes]", deadline: float) -> bytearray:
        assert process.stdout is not None
        while b"\n" not in self._read:
            _wait(process.stdout, select.POLLIN, deadline)
            piece = os.read(process.stdout.fileno(), PIECE)
            if not piece:
                self._gone(process)
            self._read += piece
            if len(self._read) > FRAME_BYTES:
                raise Failure(f"it wrote a line of more than {FRAME_BYTES} bytes")
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _gone(self, process: "subprocess.Popen[bytes]") -> NoReturn:
        """It has closed one of its pipes, as a rule because it has ended. Raises Failure."""
        over = _exits(process, FAREWELL)
        kill(process)
        raise Failure(ended_how(process.returncode) if over else "it neither reads nor answers any more")

    def _kill(self) -> None:
        if self._process is not None:
            kill(self._process)
            self._process = None
            self._read.clear()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a program and all that it has started."""
    if process.returncode is None:  # it has not been waited for, so its number is still its own
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):  # what it did not take of its input
                pipe.close()


def _exits(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Wait for its end, without taking note of it: `kill` still finds what it has left behind."""
    until = monotonic() + seconds
    while process.returncode is None and not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
        if monotonic() >= until:
            return False
        sleep(0.005)
    return True


def _start(argv: list[str], stderr: int | None, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise Failure(f"{argv[0]} cannot be run: {error.strerror}") from error


def _wait(pipe: IO[bytes], what: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(pipe.fileno(), what)
    if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
        raise Failure("it did not answer in time, and has been killed")


def _write(pipe: IO[bytes], left: memoryview) -> memoryview:
    """Write what the pipe takes, and return the rest."""
    try:
        return left[os.write(pipe.fileno(), left[:PIECE]) :]
    except BlockingIOError:
        return left
