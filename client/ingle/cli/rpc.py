"""`ingle rpc`: the protocol as JSON lines on standard input and output, for editors and scripts."""

import json
import os
import select
import sys
from time import monotonic, sleep
from typing import Any

from ingle import __version__
from ingle.address import find
from ingle.cli.grammar import Given, Option, Verb
from ingle.errors import Unreachable
from ingle.line import unreachable
from ingle.session import Session
from ingle.wire.codec import Message, Unreadable, pack, unpack
from ingle.wire.limits import DEFAULT_CREDIT
from ingle.zmtp import Dealer

PATIENCE = 10.0
STDIN, STDOUT = 0, 1


class Running:
    """What has been asked and has not ended, so that the end of the input need not cut it off."""

    def __init__(self) -> None:
        self.refs: set[Any] = set()
        self.ids: set[Any] = set()
        self._subscriptions: set[Any] = set()

    def __bool__(self) -> bool:
        return bool(self.refs or self.ids)

    def asked(self, message: Message) -> None:
        """The client said something."""
        match message["t"]:
            case "request" | "attach" | "call" | "cancel":
                self.refs.add(message.get("ref"))
            case "subscribe":  # never ends, and so is not waited for
                self._subscriptions.add(message.get("ref"))

    def answered(self, message: Message) -> None:
        """The daemon said something."""
        ref, id = message.get("ref"), message.get("id")
        match message["t"]:
            case "accepted":
                self.refs.discard(ref)
                if ref not in self._subscriptions:
                    self.ids.add(id)
            case "done" | "failed" | "result":
                self.refs.discard(ref)
                self.ids.discard(id)


class Bridge:
    """Carries messages between standard input and output and the daemon."""

    def __init__(self, path: str, *, linger: bool) -> None:
        self._path = path
        self._linger = linger
        self._session = Session("ingle-rpc", version=__version__, patience=PATIENCE)
        self._running = Running()
        self._typed = bytearray()
        self._reading = True
        self._session.start(monotonic())
        try:
            self._dealer = self._greet()
        except OSError as error:
            raise unreachable(path, error) from error

    def run(self) -> int:
        """Carry messages until there is nothing left to carry."""
        while self._reading or self._linger or self._running:
            poll = select.poll()
            poll.register(self._dealer, select.POLLIN | (select.POLLOUT if self._dealer.wants_write else 0))
            # While the daemon takes nothing, we take nothing either: whoever writes to us is slowed down.
            if self._reading and not self._dealer.wants_write:
                poll.register(STDIN, select.POLLIN)
            ready = dict(poll.poll())
            try:
                if self._dealer.fileno() in ready:
                    self._from_daemon()
                if STDIN in ready:
                    self._from_stdin()
            except OSError as error:
                if isinstance(error, BrokenPipeError) and not self._can_write():
                    raise
                self._reconnect()
        self._dealer.send(pack({"t": "bye"}))
        self._dealer.close()
        return 0

    def _greet(self) -> Dealer:
        """Connect, say hello and print the daemon's welcome."""
        dealer = Dealer(self._path)
        self._session.connected()
        for data in self._session.take():
            dealer.send(data)
        while True:
            now = monotonic()
            if self._session.gave_up(now):
                raise Unreachable(self._path, "silent")
            if not dealer.wait((self._session.deadline or now) - now):
                continue
            dealer.flush()
            frames = dealer.receive()
            if frames:
                self._session.receive(frames[0][0])
                self._print(self._session.welcome)
                return dealer

    def _reconnect(self) -> None:
        self._dealer.close()
        if self._running and not self._reading:  # nobody is left who could attach again
            raise Unreachable(self._path, "lost")
        self._running = Running()
        while True:
            self._session.disconnected(monotonic())
            if self._session.gave_up(monotonic()):
                raise Unreachable(self._path, "lost")
            sleep(max(0.0, self._session.retry_at - monotonic()))
            try:
                self._dealer = self._greet()
                return
            except OSError:
                continue

    def _from_daemon(self) -> None:
        self._dealer.flush()
        for frames in self._dealer.receive():
            message = unpack(frames[0])
            self._running.answered(message)
            self._print(message)
            if message["t"] in ("chunk", "event") and not self._reading:
                text = message.get("x", "") + message.get("r", "")
                self._credit(message["id"], 1, message.get("o", 0) + len(text.encode()))

    def _from_stdin(self) -> None:
        data = os.read(STDIN, 1 << 16)
        self._typed += data
        if not data:
            self._typed += b"\n"
        *lines, rest = self._typed.split(b"\n")
        self._typed = bytearray(rest)
        for line in lines:
            if line.strip():
                self._say(bytes(line))
        if not data:
            self._reading = False
            for id in self._running.ids:
                self._credit(id, DEFAULT_CREDIT, 0)

    def _say(self, line: bytes) -> None:
        message: Any = None
        try:
            message = json.loads(line)
            if not isinstance(message, dict) or not isinstance(message.get("t"), str):
                raise ValueError("not an object with a string 't'")
            data = pack(message)
        except (ValueError, RecursionError) as error:
            what = "cannot be sent" if isinstance(error, Unreadable) else "not a message"
            ref = message.get("ref") if isinstance(message, dict) else None
            failed = {"t": "failed", "code": "bad_message", "message": f"{what}: {error}", "fault": "client"}
            failed["hint"] = "one JSON object a line, as in docs/protocol.md"
            self._print(failed | ({"ref": ref} if ref is not None else {}))
            return
        self._running.asked(message)
        self._dealer.send(data)

    def _credit(self, id: str, n: int, ack: int) -> None:
        """Nobody is left to give credit, so the bridge does."""
        self._dealer.send(pack({"t": "credit", "id": id, "n": n, "ack": ack}))

    def _print(self, message: Message) -> None:
        sys.stdout.buffer.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")
        sys.stdout.buffer.flush()

    def _can_write(self) -> bool:
        """Return whether standard output still has a reader."""
        poll = select.poll()
        poll.register(STDOUT, select.POLLOUT)
        return not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def run(given: Given) -> int:
    """Carry messages."""
    return Bridge(find(given.value("socket")), linger=given.switch("linger")).run()


VERB = Verb(
    "rpc",
    "speak the protocol as JSON lines, for editors and scripts",
    run,
    """Carries the messages of docs/protocol.md between the daemon and standard input and output: each line is
    one message as a JSON object. `hello` is said by the bridge itself, and the first line is the daemon's
    `welcome`.

    A line that is no message is answered with a `failed` of code bad_message, and the bridge goes on. Refs,
    credit and limits are the caller's business, as in the protocol.

    When the daemon restarts, the bridge connects again within 10 seconds, resumes the session and prints the
    new `welcome`: the caller then attaches again to what it was reading.

    At the end of the input the bridge stays until everything that was asked has ended, giving credit
    itself; then it says `bye` and exits. Subscriptions are not waited for.
    """,
    options=(Option(("--linger",), "Stay after the end of the input, until killed or the daemon is gone."),),
    examples=(
        (
            """echo
            '{"t":"request","ref":1,"op":"chat","body":{"messages":[{"role":"user","content":"hi"}]}}' |
            ingle rpc
            """,
            "Prints welcome, accepted, chunks and done.",
        ),
        ("ssh host ingle rpc", "Speaks to the daemon of another machine."),
    ),
)
