"""`ingle rpc`: the protocol as JSON lines on standard input and output, for editors and scripts."""

from __future__ import annotations

import errno
import os
import select
import sys
from time import monotonic, sleep

from ingle import __version__
from ingle.address import find
from ingle.cli.grammar import Given, Option, Verb
from ingle.cli.json_text import read, written
from ingle.cli.output import print_json
from ingle.errors import ProtocolError, Unreachable
from ingle.line import unreachable
from ingle.session import Session
from ingle.wire.codec import Message, Unreadable, pack, unpack
from ingle.wire.limits import DEFAULT_CREDIT, FRAME_BYTES, MAX_REF
from ingle.zmtp import Dealer

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence
    from typing import Any
else:
    from _collections import deque  # `collections` would cost 1 ms

PATIENCE = 10.0
STDIN = 0
LINE_BYTES = 6 * FRAME_BYTES
"""Longest line; JSON may write one byte as six, such as \\u0000."""

ASKING = ("request", "attach", "call", "cancel", "subscribe", "hook_offer", "hook_withdraw")
"""Messages with a ref."""

OURS = MAX_REF
"""Ref of what the bridge asks by itself, whose answers nobody is told."""


class Wrong(Exception):
    """What came is no message to be sent on; `failed` says why, in the protocol's words."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.failed = {"t": "failed", "code": code, "message": message, "fault": "client"} | more
        self.failed["hint"] = "one JSON object a line, as in docs/protocol.md"


def read_line(line: bytes) -> tuple[Message, bytes]:
    """Return the message that a line is, and its bytes for the daemon. Raises Wrong."""
    try:
        message = read(line)
    except (ValueError, RecursionError) as error:
        raise Wrong("bad_message", f"not a message: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("t"), str):
        raise Wrong("bad_message", "not a message: not an object with a text 't'")
    ref = message.get("ref")
    if ref is None and message["t"] in ASKING:
        raise Wrong("bad_value", f"ref is missing: a {message['t']} has one, an integer of your choice", at="ref")
    if "ref" in message and (type(ref) is not int or not 0 <= ref <= MAX_REF):
        text = f"ref is {written(ref)[:80]}: expected an integer from 0 to {MAX_REF}"
        raise Wrong("bad_value", text, at="ref")
    try:
        return message, pack(_with_states(message) if message["t"] == "hook_reply" else message)
    except Unreadable as error:
        code = "too_large" if "limit" in str(error) else "bad_message"
        raise Wrong(code, f"cannot be sent: {error}", **({} if ref is None else {"ref": ref})) from error


def _with_states(reply: Message) -> Message:
    """Return a `hook_reply` with the bytes that its states are: JSON has none, so they come as base64."""
    results = reply.get("results")
    if not isinstance(results, list):
        return reply
    from binascii import Error, a2b_base64

    decoded = []
    for index, result in enumerate(results):
        if isinstance(result, dict) and isinstance(state := result.get("state"), str):
            try:
                result = result | {"state": a2b_base64(state, strict_mode=True)}
            except (Error, ValueError) as error:
                at = f"results[{index}].state"
                raise Wrong("bad_value", f"{at} is not base64: {error}", at=at) from error
        decoded.append(result)
    return reply | {"results": decoded}


class Running:
    """What has been asked and has not ended, so that the end of the input need not cut it off."""

    def __init__(self) -> None:
        self.refs: dict[Any, int] = {}
        """How often each is used by what has not been answered."""
        self.ids: set[Any] = set()
        self.hooks: set[Any] = set()
        """Names that were offered. They are not waited for."""
        self._subscriptions: set[Any] = set()

    def __bool__(self) -> bool:
        return bool(self.refs or self.ids)

    def asked(self, message: Message) -> None:
        """The client said something."""
        match message["t"]:
            case "request" | "attach" | "call" | "cancel":
                self._opened(message["ref"])
            case "hook_offer":
                self._opened(message["ref"])
                self.hooks.add(str(message.get("name")))
            case "hook_withdraw":
                self._opened(message["ref"])
                self.hooks.discard(str(message.get("name")))
            case "subscribe":  # never ends, and so is not waited for
                self._subscriptions.add(message["ref"])

    def answered(self, message: Message) -> None:
        """The daemon said something."""
        ref, id = message.get("ref"), message.get("id")
        match message["t"]:
            case "accepted":
                self._settled(ref)
                if ref in self._subscriptions:
                    self._subscriptions.discard(ref)
                else:
                    self.ids.add(id)
            case "done" | "failed" | "result":
                self._settled(ref)
                self.ids.discard(id)

    def _opened(self, ref: Any) -> None:
        self.refs[ref] = self.refs.get(ref, 0) + 1

    def _settled(self, ref: Any) -> None:
        left = self.refs.pop(ref, 0) - 1
        if left > 0:
            self.refs[ref] = left


class Bridge:
    """Carries messages between standard input and output and the daemon."""

    def __init__(self, path: str, *, linger: bool, tags: Sequence[str] = ()) -> None:
        self._path = path
        self._linger = linger
        self._session = Session("ingle-rpc", version=__version__, tags=tags, patience=PATIENCE)
        self._running = Running()
        self._typed = bytearray()
        self._skipping = False
        """The line that is coming is too long, and was refused."""
        self._lines: deque[bytes] = deque()
        """Lines that have come and are not with the daemon."""
        self._fed: set[Any] = set()
        """Streams that the bridge gives credit."""
        self._reading = True
        self._session.start(monotonic())
        try:
            self._dealer = self._greet()
        except OSError as error:
            raise unreachable(path, error) from error

    def run(self) -> int:
        """Carry messages until there is nothing left to carry."""
        while self._reading or self._linger or self._running or self._lines:
            poll = select.poll()
            poll.register(self._dealer, select.POLLIN | (select.POLLOUT if self._dealer.wants_write else 0))
            # While the daemon takes nothing, we take nothing either: whoever writes to us is slowed down.
            if self._reading and not self._dealer.wants_write:
                poll.register(STDIN, select.POLLIN)
            ready = dict(poll.poll(0 if self._lines else None))
            if STDIN in ready:
                self._from_stdin()
            try:
                if self._dealer.fileno() in ready:
                    self._from_daemon()
                while self._lines:
                    self._say(self._lines[0])
                    self._lines.popleft()
                if not self._reading:
                    self._feed()
                    self._withdraw()
            except OSError:  # the daemon's socket: standard output has errors of its own
                self._reconnect()
        try:  # noqa: SIM105  (contextlib takes 3 ms to import)
            self._dealer.send(pack({"t": "bye"}))
        except OSError:  # it has just gone, and all that was asked has ended
            pass
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
                print_json(self._session.welcome, line=True)
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
            try:
                message = unpack(frames[0])
            except Unreadable as error:
                raise ProtocolError(f"the daemon sent something unreadable: {error}") from error
            if message.get("ref") == OURS and OURS not in self._running.refs:
                continue
            self._running.answered(message)
            print_json(message, line=True)
            if message["t"] in ("chunk", "event") and not self._reading:
                text = message.get("x", "") + message.get("r", "")
                self._credit(message["id"], 1, message.get("o", 0) + len(text.encode()))

    def _from_stdin(self) -> None:
        try:
            data = os.read(STDIN, 1 << 16)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard input") from error
        self._reading = bool(data)
        first, *others = (data or b"\n").split(b"\n")  # the last line may have no end
        self._typed += first
        for more in others:
            line, self._typed = bytes(self._typed), bytearray(more)
            if line.strip() and not self._skipping:
                self._lines.append(line)
            self._skipping = False
        if len(self._typed) > LINE_BYTES or self._skipping:
            if not self._skipping:
                print_json(Wrong("too_large", f"the line has more than {LINE_BYTES} bytes").failed, line=True)
            self._skipping = True
            self._typed.clear()

    def _say(self, line: bytes) -> None:
        try:
            message, data = read_line(line)
        except Wrong as wrong:
            print_json(wrong.failed, line=True)
            return
        self._running.asked(message)
        self._dealer.send(data)

    def _feed(self) -> None:
        """Nobody is left to give credit, so the bridge does."""
        for id in self._running.ids - self._fed:
            self._fed.add(id)
            self._credit(id, DEFAULT_CREDIT, 0)

    def _withdraw(self) -> None:
        """Nobody is left to answer for the hooks, and requests would wait for them in vain."""
        while self._running.hooks:
            withdraw = {"t": "hook_withdraw", "ref": OURS, "name": self._running.hooks.pop()}
            self._dealer.send(pack(withdraw))

    def _credit(self, id: str, n: int, ack: int) -> None:
        self._dealer.send(pack({"t": "credit", "id": id, "n": n, "ack": ack}))


def run(given: Given) -> int:
    """Carry messages."""
    if sys.stdin is None:  # it was closed when we started, and its number may be another file's by now
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
    return Bridge(find(given.value("socket")), linger=given.switch("linger"), tags=given.all("tag")).run()


VERB = Verb(
    "rpc",
    run,
    """Carries the messages of docs/protocol.md between the daemon and standard input and output: each line is
    one message as a JSON object. `hello` is said by the bridge itself, and the first line is the daemon's
    `welcome`.

    A line that is no message is answered with a `failed` of code bad_message, one with a wrong `ref` or none
    with bad_value at `ref`, and the bridge goes on. Credit and limits are the caller's business, as in the
    protocol.

    When the daemon restarts, the bridge connects again within 10 seconds, resumes the session and prints the
    new `welcome`: the caller then attaches again to what it was reading, and offers its hooks again.

    Hooks are offered, called and answered with the same messages as everywhere: `hook_offer`, and then a
    `hook_reply` for each `hook_call` whose `call` is not 0. Their `state`, which is bytes, is base64 here.

    At the end of the input the bridge stays until everything that was asked has ended, giving credit
    itself; then it says `bye` and exits. Subscriptions are not waited for, and hooks are withdrawn.
    """,
    options=(
        Option(("--linger",), "Stay after the end of the input, until killed or the daemon is gone."),
        Option(("--tag",), "Say what asks, such as `editor`: hooks select by it. May be repeated.", "TAG", many=True),
    ),
    examples=(
        (
            'echo \'{"t":"request","ref":1,"op":"chat","body":{"messages":[{"role":"user","content":"hi"}]}}\' |\n'
            "    ingle rpc",
            "Prints welcome, accepted, chunks and done.",
        ),
        (
            "mkfifo in; ingle rpc --tag editor < in | ...\n"
            '{"t":"hook_offer","ref":1,"name":"mine","points":["prompt"]}',
            "An editor offers a hook, and answers what it is called for.",
        ),
        ("ssh host ingle rpc", "Speaks to the daemon of another machine."),
    ),
)
