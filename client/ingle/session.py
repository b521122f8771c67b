"""One client's conversation with the daemon: the one place for what the protocol demands of a client. PURE.

No socket, no clock: the owner (`ingle.line` for blocking code, `ingle.aio` for asyncio) moves the bytes of
messages in and out and says what time it is. Everything the client asked for has a `ref`, its own number;
what arrives is given back under that number, in order, without gaps or repetitions, whatever became of the
connection between.

    connected()  receive(bytes) -> arrivals  take() -> bytes to send  ...  disconnected(now)  connected()  ...

A session outlives its connections. After a reconnect it says `hello` with its token, attaches again to
every open stream at the offset that it has, and asks again what was not yet accepted.
"""

from __future__ import annotations

from ingle.errors import ProtocolError, Refused, from_failed
from ingle.offers import HOOKS, Offers
from ingle.sizes import check_schema, packed
from ingle.streams import Arrival, Call, Stream, failure
from ingle.wire.codec import Message, Unreadable, pack, unpack
from ingle.wire.limits import CREDIT, DEFAULT_CREDIT, FRAME_BYTES, OPEN_REQUESTS, PROTOCOL, SCHEMA_BYTES

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

FIRST_RETRY = 0.01
LAST_RETRY = 0.2
ONLY_ONCE = frozenset(("shutdown",))
"""Verbs that must not be asked a second time when the connection broke before the answer."""
BROKE = "the connection broke before the daemon answered"


class Session:
    """The state of one conversation. Not safe for threads; nothing here blocks."""

    def __init__(
        self,
        name: str,
        *,
        version: str = "0",
        tags: Sequence[str] = (),
        key: str | None = None,
        window: int = DEFAULT_CREDIT,
        patience: float = 10.0,
    ) -> None:
        self.state: Literal["down", "greeting", "open"] = "down"
        self.welcome: Message = {}
        """What the daemon said at the last handshake."""
        self.deadline: float | None = None
        """Without a welcome until then, the daemon counts as gone."""
        self.retry_at = 0.0
        """When to try to connect again."""
        self._hello: Message = {
            "t": "hello",
            "protocol": [PROTOCOL[0], PROTOCOL[0]],
            "client": {"name": name, "version": version, "tags": list(tags)},
        }
        if key is not None:
            self._hello["key"] = key
        self._window = window
        self.patience = patience
        """Seconds without the daemon after which it counts as gone."""
        self._delay = FIRST_RETRY
        self._last_ref = 0
        self._streams: dict[int, Stream] = {}
        self._by_id: dict[str, Stream] = {}
        self._calls: dict[int, Call] = {}
        self._outgoing: list[bytes] = []
        self._offers = Offers()

    # ------------------------------------------------------------ the connection

    def start(self, now: float) -> None:
        """A connection is being made for the first time."""
        self.deadline = now + self.patience

    def connected(self) -> None:
        """A fresh connection is there: say hello."""
        self.state = "greeting"
        self._outgoing = [pack(self._hello)]

    def disconnected(self, now: float) -> None:
        """The connection broke, or could not be made; `retry_at` says when to try again."""
        if self.deadline is None:
            self.deadline = now + self.patience
        self.state = "down"
        self._outgoing = []
        self.retry_at = now + self._delay
        self._delay = min(self._delay * 2, LAST_RETRY)

    def gave_up(self, now: float) -> bool:
        """Return whether the daemon has been away for longer than this session is patient."""
        return self.deadline is not None and now >= self.deadline

    def take(self) -> list[bytes]:
        """Return the messages to send now, and forget them."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def leaves(self) -> bool:
        """Ask for nothing anew after a reconnect; returns whether the daemon has requests that end with this."""
        self._calls.clear()
        self._offers = Offers()
        here = {ref: one for ref, one in self._streams.items() if one.accepted and one.first["t"] != "subscribe"}
        self._streams = here
        return any(not one.first.get("detach") for one in here.values())

    def bye(self) -> None:
        """Leave: the daemon cancels what still runs and was not asked to go on by itself."""
        self._send({"t": "bye"})

    # ------------------------------------------------------------ what the client asks for

    def request(
        self,
        op: str,
        body: Message,
        *,
        model: str | None = None,
        stream: bool = True,
        deadline_ms: int | None = None,
        detach: bool = False,
        grace_ms: int = 0,
        priority: int = 0,
        context: Sequence[Message] = (),
        trace: bool = False,
    ) -> int:
        """Run a model; chunks, progress and the end arrive under the ref. Raises Refused when over a limit."""
        check_schema(body, self._limit("schema", SCHEMA_BYTES))
        message: Message = {"t": "request", "op": op, "body": body, "stream": stream, "credit": self._room()}
        optional: Message = {
            "model": model,
            "deadline_ms": deadline_ms,
            "detach": detach or None,
            "grace_ms": grace_ms or None,
            "priority": priority or None,
            "context": list(context) or None,
            "trace": trace or None,
        }
        message.update((key, value) for key, value in optional.items() if value is not None)
        return self._open(message)

    def attach(self, id: str, offset: int | None = None) -> int:
        """Take over the stream of a request from an offset on, or from where the daemon still has it."""
        where = {} if offset is None else {"offset": offset}
        return self._open({"t": "attach", "id": id, "credit": self._room()} | where)

    def subscribe(self, topics: Sequence[str]) -> int:
        """Ask for events. What happens while the connection is down is not told."""
        return self._open({"t": "subscribe", "topics": list(topics), "credit": self._room()})

    def call(self, verb: str, args: Message) -> int:
        """Ask the daemon itself; a `result` or `failed` arrives under the ref."""
        return self._ask({"t": "call", "verb": verb, "args": args})

    def forget(self, ref: int) -> None:
        """Nobody waits for the answer to a question any more: it is not asked again."""
        self._calls.pop(ref, None)

    def cancel(self, id: str) -> int:
        """End a request of the same account, wherever it was started."""
        return self._ask({"t": "cancel", "id": id})

    def offer(self, offer: Message) -> int:
        """Offer a hook, now and after each reconnect: its fields of `hook_offer`. Each time a `result` or `failed`
        arrives under the ref; its calls arrive under `HOOKS`.
        """
        message = {"t": "hook_offer", **offer, "ref": self._next_ref()}
        self._packed(message)
        self._offers.add(message["ref"], message)
        self._send(message)
        return int(message["ref"])

    def withdraw(self, name: str) -> int:
        """Offer a hook no more; a `result` or `failed` arrives under the ref."""
        self._offers.drop(name)
        return self._ask({"t": "hook_withdraw", "name": name})

    def reply(self, call: Message, results: list[Message], value: Message | None = None) -> bool:
        """Say what became of a `hook_call`. False when nobody waits for that any more. Raises Refused."""
        message: Message = {"t": "hook_reply", "call": call["call"], "results": results}
        if value is not None:
            message["value"] = value
        data = self._packed(message)
        if not self._offers.may_reply(call):
            return False
        self._outgoing.append(data)
        return True

    def stop(self, ref: int) -> None:
        """Cancel what this session opened under the ref, even before the daemon has accepted it.

        The stream still ends by itself: as a rule with `failed` and the code cancelled.
        """
        stream = self._streams.get(ref)
        if stream is not None and not stream.stopping:
            stream.stopping = True
            self._cancel(stream)

    def taken(self, ref: int) -> None:
        """The client has taken one chunk or event: more may be sent once half of the window is free."""
        stream = self._streams.get(ref)
        if stream is not None and stream.took(self._room()):
            self._grant(stream)

    # ------------------------------------------------------------ what the daemon says

    def receive(self, data: bytes) -> list[Arrival]:
        """Take one message. Raises ProtocolError, after which the connection must be dropped for good."""
        try:
            message = unpack(data)
            return self._receive(message)
        except Unreadable as error:
            raise ProtocolError(f"the daemon sent something unreadable: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(f"the daemon sent a wrong {message['t']!r}: {error!r}") from error

    def _receive(self, message: Message) -> list[Arrival]:
        kind = message["t"]
        if self.state != "open":
            if kind == "welcome":
                return self._welcomed(message)
            if kind == "failed":
                raise from_failed(message)
            raise ProtocolError(f"the daemon said {kind!r} before welcome")
        match kind:
            case "chunk":
                return self._chunk(message)
            case "event":
                return self._event(message)
            case "accepted":
                return self._accepted(message)
            case "progress":
                if (ref := message.get("ref")) in self._calls:
                    return [Arrival(ref, message)]
                stream = self._by_id.get(message.get("id", ""))
                return [] if stream is None else [Arrival(stream.ref, message)]
            case "done" | "failed" | "result":
                return self._ended(message)
            case "hook_call":
                return [Arrival(HOOKS, self._offers.called(message))]
            case "hook_end":
                return [Arrival(HOOKS, message)]
            case _:  # a newer daemon may say more than we know
                return []

    def _welcomed(self, message: Message) -> list[Arrival]:
        major = message["protocol"][0]
        if major != PROTOCOL[0]:
            raise ProtocolError(f"the daemon speaks protocol {major}, this client {PROTOCOL[0]}")
        if not isinstance(message["limits"], dict):
            raise ProtocolError("the daemon's welcome has no limits")
        self.state, self.welcome, self.deadline, self._delay = "open", message, None, FIRST_RETRY
        self._hello["token"] = message["token"]
        for offer in self._offers.opened():
            self._send(offer)
        arrivals = self._calls_again()
        for stream in list(self._streams.values()):
            arrivals += self._open_again(stream)
        return arrivals

    def _calls_again(self) -> list[Arrival]:
        arrivals: list[Arrival] = []
        for ref, call in list(self._calls.items()):
            if call.sent and call.message.get("verb") in ONLY_ONCE:
                del self._calls[ref]
                arrivals.append(failure(ref, "internal", BROKE, "see `ingle status` for what became of it"))
            else:
                self._send(call.message)
                call.sent = True
        return arrivals

    def _open_again(self, stream: Stream) -> list[Arrival]:
        """Send a stream's opening message on a fresh connection: the first time, or from where we are."""
        if stream.stopping and (not stream.accepted or stream.first["t"] == "subscribe"):
            del self._streams[stream.ref]
            text = "cancelled before the daemon took it"
            return [failure(stream.ref, "cancelled", text, "", fault="client")]
        self._send(stream.opening(self._room()))
        if stream.stopping:
            self._cancel(stream)
        return []

    def _accepted(self, message: Message) -> list[Arrival]:
        stream = self._streams.get(message["ref"])
        if stream is None:
            return []
        first_time = not stream.accepted
        if stream.id is not None:
            self._by_id.pop(stream.id, None)
        stream.id, stream.accepted = message["id"], True
        self._by_id[message["id"]] = stream
        if not first_time:
            return []
        if stream.stopping:
            self._cancel(stream)
        return [Arrival(stream.ref, message)]

    def _chunk(self, message: Message) -> list[Arrival]:
        stream = self._by_id.get(message["id"])
        if stream is None:  # ended for us, and still under way when we said so
            return []
        new = stream.next(message)
        if new is None:
            self.taken(stream.ref)
            return []
        return [Arrival(stream.ref, new)]

    def _event(self, message: Message) -> list[Arrival]:
        stream = self._by_id.get(message["id"])
        if stream is None:
            return []
        stream.waiting += 1
        return [Arrival(stream.ref, message)]

    def _ended(self, message: Message) -> list[Arrival]:
        if "id" in message and (stream := self._by_id.pop(message["id"], None)) is not None:
            self._streams.pop(stream.ref, None)
            return [Arrival(stream.ref, message)]
        ref = message.get("ref")
        if ref is None:
            if message["t"] == "failed" and "id" not in message:  # about a hook's reply, or the connection as a whole
                if self._offers.replied:
                    return [Arrival(HOOKS, message)]
                raise from_failed(message)
            return []
        if self._calls.pop(ref, None) is not None or self._offers.answered(ref, message):
            return [Arrival(ref, message)]
        stream = self._streams.pop(ref, None)
        if stream is None:
            return []
        if stream.id is not None:
            self._by_id.pop(stream.id, None)
        if stream.accepted and message.get("code") == "no_such_request":
            if stream.untouched:  # it waited for its model when the daemon died
                self._streams[ref] = stream
                stream.id, stream.accepted = None, False
                return self._open_again(stream)
            text = f"the daemon has been restarted and no longer knows request {stream.id}"
            hint = "ask again" + (f"; the answer had arrived up to offset {stream.offset}" if stream.offset else "")
            return [failure(ref, "no_such_request", text, hint, id=stream.id)]
        return [Arrival(ref, message)]

    # ------------------------------------------------------------ sending

    def _limit(self, name: str, default: int) -> int:
        value = self.welcome.get("limits", {}).get(name, default)
        return value if isinstance(value, int) else default

    def _room(self) -> int:
        return min(self._window, self._limit("credit", CREDIT))

    def _next_ref(self) -> int:
        self._last_ref += 1
        return self._last_ref

    def _open(self, message: Message) -> int:
        limit = self._limit("requests", OPEN_REQUESTS)
        if len(self._streams) >= limit:
            raise Refused("over_limit", f"{limit} requests are open already", "wait until one has ended")
        ref = self._next_ref()
        message["ref"] = ref
        self._packed(message)
        self._streams[ref] = Stream(ref, message)
        self._send(message)
        return ref

    def _ask(self, message: Message) -> int:
        ref = self._next_ref()
        message["ref"] = ref
        self._packed(message)
        self._calls[ref] = Call(message, sent=self.state == "open")
        self._send(message)
        return ref

    def _cancel(self, stream: Stream) -> None:
        if stream.id is not None and stream.accepted:
            # Nobody waits for the result: the stream's own end says how it went.
            self._send({"t": "cancel", "ref": self._next_ref(), "id": stream.id})

    def _grant(self, stream: Stream) -> None:
        if self.state == "open" and stream.accepted:
            self._send({"t": "credit", "id": stream.id, "n": stream.freed, "ack": stream.offset or 0})
            stream.freed = 0

    def _send(self, message: Message) -> None:
        """Send now, or not at all: what is open is sent again after the next welcome."""
        if self.state == "open":
            self._outgoing.append(pack(message))

    def _packed(self, message: Message) -> bytes:
        return packed(message, self._limit("frame", FRAME_BYTES))

    def open_refs(self) -> Iterable[int]:
        """Return what has not ended: streams and calls."""
        return [*self._streams, *self._calls]
