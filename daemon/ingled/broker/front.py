"""The public socket: connections, sessions, and the way of each message to the core and back."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

import msgspec
from ingle.wire.hook_schema import HookOffer, HookReply, HookWithdraw
from ingle.wire.limits import (
    CHUNK_BYTES,
    CREDIT,
    DEPTH,
    FRAME_BYTES,
    HOOKS,
    OPEN_REQUESTS,
    PROTOCOL,
    SCHEMA_BYTES,
)
from ingle.wire.schema import (
    BODIES,
    TEXT_OPS,
    Accepted,
    Attach,
    Bye,
    Call,
    Cancel,
    ClientInfo,
    Code,
    Failed,
    GiveCredit,
    Hello,
    Request,
    Result,
    Subscribe,
    ToClient,
    Welcome,
)
from msgspec import UNSET, UnsetType

from ingled.broker.peer import Peer
from ingled.broker.reading import read, read_body
from ingled.broker.router import REST_S, Router
from ingled.broker.subscriptions import TOPICS, Subscription, Subscriptions
from ingled.core import events as on
from ingled.core.accounts import Caller, Rights
from ingled.core.flow import BadOffset, Flow, Sends

OVERSIZE = 4 * FRAME_BYTES
"""Frames up to this size are answered with `too_large`; a larger one ends its connection."""

LETTERS = "abcdefghjkmnpqrstuvwxyz023456789"
BACKLOG_BYTES = 8 << 20
TOKENS = 4096
"""Most session tokens that are remembered."""

LIMITS = {
    "frame": FRAME_BYTES,
    "depth": DEPTH,
    "credit": CREDIT,
    "chunk": CHUNK_BYTES,
    "schema": SCHEMA_BYTES,
    "requests": OPEN_REQUESTS,
}
_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Connection:
    """One client that has said hello."""

    number: int
    peer: Peer
    account: str
    client: ClientInfo
    token: str
    rights_of: Callable[[int], Rights]
    hooks: set[str] = field(default_factory=set)
    """Names that it has offered."""

    @property
    def rights(self) -> Rights:
        """Return what it may do now: rules change while it is connected."""
        return self.rights_of(self.peer.uid)

    @property
    def caller(self) -> Caller:
        """Return who this is, for the core."""
        return Caller(self.number, self.account, self.rights)


def fresh_id() -> str:
    """Return an id for a request: eight letters and digits, hard to guess and easy to type."""
    return "".join(LETTERS[byte & 31] for byte in secrets.token_bytes(8))


class Front:
    """Everything between the public ROUTER and the core."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        meet: Callable[[int, Callable[[], None]], None],
        flow: Flow,
        subscriptions: Subscriptions,
        dispatch: Callable[[on.Event], None],
        grant: Callable[[str, int, int], None],
        delivered: Callable[[str], None],
        call: Callable[[Connection, Call], None],
        replied: Callable[[str, HookReply], bool],
        verbs: list[str],
        daemon: dict[str, str],
        rights: Callable[[int], Rights],
    ) -> None:
        self._loop, self._flow, self._subscriptions = loop, flow, subscriptions
        self._dispatch, self._grant, self._delivered, self._call = dispatch, grant, delivered, call
        self._replied = replied
        self._verbs, self._daemon, self._rights = verbs, daemon, rights
        self.router = Router(
            loop,
            self._receive,
            self._gone,
            meet=meet,
            frame_bytes=OVERSIZE,
            backlog_bytes=BACKLOG_BYTES,
            rest_s=REST_S,
        )
        self.connections: dict[int, Connection] = {}
        self.unreadable = 0
        self._by_peer: dict[int, Connection] = {}
        self._tokens: dict[str, str] = {}
        self._numbers = 0

    @property
    def sessions(self) -> int:
        """Return how many session tokens are remembered."""
        return len(self._tokens)

    # ------------------------------------------------------------ out

    def send(self, conn: int, message: ToClient) -> bool:
        """Send a message to a connection; returns False when it has gone."""
        connection = self.connections.get(conn)
        if connection is None:
            return False
        data = _encode(message)
        assert len(data) <= FRAME_BYTES, "no message of the daemon is larger than a client takes"
        self.router.send(connection.peer, data)
        return True

    def send_all(self, sends: Sends) -> None:
        """Send what streams have for their readers, in order; nothing happens to that of a reader who has gone."""
        connections, send = self.connections, self.router.send
        at, end = 0, len(sends)
        while at < end:
            conn, data = sends[at]
            at += 1
            more = []
            while at < end and sends[at][0] == conn:  # several streams of one connection leave together
                more.append(sends[at][1])
                at += 1
            if (connection := connections.get(conn)) is not None:
                send(connection.peer, data, *more, credited=True)

    def fail(
        self, conn: int, ref: int, code: Code, message: str, hint: str = "", *, at: str | UnsetType = UNSET
    ) -> None:
        """Answer a message of a client with an error."""
        self.send(conn, Failed(code, message, hint, "client", ref=ref, at=at))

    # ------------------------------------------------------------ in

    def _receive(self, peer: Peer, frames: list[bytes]) -> bool:
        """Take one message; returns whether it is an answer that was waited for."""
        message = read(frames[0]) if len(frames) == 1 else None
        if message is None:
            self.unreadable += 1
            return False
        if isinstance(message, Failed):
            self.router.send(peer, _encode(message))
            return False
        if isinstance(message, Hello):
            self._hello(peer, message)
            return False
        connection = self._by_peer.get(peer.number)
        if connection is None:
            ref = getattr(message, "ref", UNSET)
            text = "the first message of a connection must be 'hello'"
            refusal = Failed("bad_message", text, "see docs/protocol.md, Connections", "client", ref=ref, at="t")
            self.router.send(peer, _encode(refusal))
            return False
        match message:
            case GiveCredit():
                self._credit(connection, message)
            case Request():
                self._request(connection, message)
            case Cancel():
                if self._subscriptions.remove(message.id, connection.number):
                    value = {"cancelled": True, "state": "subscribed"}
                    self.send(connection.number, Result(message.ref, value))
                else:
                    self._dispatch(on.CancelAsked(self._loop.time(), connection.caller, message.ref, message.id))
            case Attach():
                self._attach(connection, message)
            case Call():
                self._call(connection, message)
            case Subscribe():
                self._subscribe(connection, message)
            case Bye():
                self._forget(connection, left=True)
            case HookOffer():
                self._offer(connection, message)
            case HookWithdraw():
                self._dispatch(on.HookWithdrawn(self._loop.time(), connection.caller, message.ref, message.name))
            case HookReply():
                return self._replied(f"conn:{connection.number}", message)
            case _:
                assert_never(message)
        return False

    def _hello(self, peer: Peer, hello: Hello) -> None:
        lowest, highest = hello.protocol
        if not lowest <= PROTOCOL[0] <= highest:
            text = f"protocol is [{lowest}, {highest}]: this daemon speaks {PROTOCOL[0]}.{PROTOCOL[1]}"
            hint = "install client and daemon of one release"
            refusal = Failed("incompatible_protocol", text, hint, "client", at="protocol")
            self.router.send(peer, _encode(refusal))
            return
        if hello.key is not None:
            text = "key: this daemon has no API keys"
            refusal = Failed("unsupported", text, "leave it out: the kernel tells who you are", "client", at="key")
            self.router.send(peer, _encode(refusal))
            return
        old = self._by_peer.get(peer.number)
        if old is not None:
            self._forget(old, left=False)
        account = f"uid:{peer.uid}"
        resumed = hello.token is not None and self._tokens.get(hello.token) == account
        token = hello.token if resumed and hello.token else secrets.token_hex(16)
        self._tokens.pop(token, None)
        self._tokens[token] = account
        while len(self._tokens) > TOKENS:
            del self._tokens[next(iter(self._tokens))]
        self._numbers += 1
        connection = Connection(self._numbers, peer, account, hello.client, token, self._rights)
        self.connections[connection.number] = connection
        self._by_peer[peer.number] = connection
        ops, topics = list(BODIES), list(TOPICS)
        welcome = Welcome(PROTOCOL, token, account, LIMITS, self._daemon, ops, self._verbs, topics, resumed)
        self.send(connection.number, welcome)

    def _request(self, connection: Connection, request: Request) -> None:
        if connection.peer.left and not (request.detach or request.grace_ms):
            return  # nobody is there to hear of it: it would be cancelled next
        body = read_body(request)
        if isinstance(body, Failed):
            self.send(connection.number, body)
            return
        self._dispatch(
            on.RequestArrived(
                now=self._loop.time(),
                caller=connection.caller,
                ref=request.ref,
                id=fresh_id(),
                op=request.op,
                model=request.model,
                body=request.body.copy(),
                stream=request.stream and request.op in TEXT_OPS,
                credit=request.credit,
                deadline_ms=request.deadline_ms,
                detach=request.detach,
                grace_ms=request.grace_ms,
                priority=request.priority,
                client=connection.client.name,
                tags=tuple(connection.client.tags),
                context=tuple(msgspec.to_builtins(item) for item in request.context),
                trace=request.trace,
            )
        )

    def _offer(self, connection: Connection, offer: HookOffer) -> None:
        """Take an offer to the core, if it is not one too many."""
        connection.hooks.add(offer.name)
        if len(connection.hooks) > HOOKS:
            text = f"this connection has offered {HOOKS} hooks, the limit"
            self.fail(connection.number, offer.ref, "over_limit", text, "put several into one")
            return
        connection.peer.needed = True
        self._dispatch(on.HookOffered(self._loop.time(), connection.caller, connection.client.name, offer))

    def _credit(self, connection: Connection, credit: GiveCredit) -> None:
        if self._subscriptions.credit(connection.number, credit.id, credit.n):
            return
        sends, more, ended = self._flow.credit(connection.number, credit.id, credit.n, credit.ack)
        self.send_all(sends)
        if more is not None:
            self._grant(credit.id, more, credit.ack)
        if ended:
            self._delivered(credit.id)

    def _attach(self, connection: Connection, attach: Attach) -> None:
        stream, offset = self._flow.streams.get(attach.id), attach.offset
        if stream is not None and connection.caller.sees(stream.account):
            offset = stream.begin if offset is None else offset
            try:
                self._flow.check_offset(attach.id, offset)
            except BadOffset as error:
                self.fail(connection.number, attach.ref, "bad_value", f"offset is {offset}: {error}", at="offset")
                return
        now, caller = self._loop.time(), connection.caller
        self._dispatch(on.AttachAsked(now, caller, attach.ref, attach.id, offset or 0, attach.credit))

    def attached(self, id: str, conn: int, ref: int, offset: int, credit: int) -> None:
        """Carry out an attach that the core allowed."""
        self.send(conn, Accepted(ref, id))
        sends, more, ended = self._flow.attach(id, conn, offset, credit)
        self.send_all(sends)
        self._grant(id, more, offset)
        if ended:
            self._delivered(id)

    def _subscribe(self, connection: Connection, wish: Subscribe) -> None:
        for i, topic in enumerate(wish.topics):
            if topic not in TOPICS:
                at = f"topics[{i}]"
                text = f"{at} is '{topic}': expected one of {', '.join(TOPICS)}"
                self.fail(connection.number, wish.ref, "bad_value", text, at=at)
                return
        topics = frozenset(wish.topics)
        one = Subscription(fresh_id(), connection.number, lambda: connection.caller, topics, wish.credit)
        if self._subscriptions.add(one):
            self.send(connection.number, Accepted(wish.ref, one.id))
        else:
            self.fail(connection.number, wish.ref, "over_limit", "too many subscriptions on this connection")

    # ------------------------------------------------------------ the end of a connection

    def _gone(self, peer: Peer) -> None:
        connection = self._by_peer.get(peer.number)
        if connection is not None and connection.peer is peer:
            self._forget(connection, left=False)

    def _forget(self, connection: Connection, *, left: bool) -> None:
        del self._by_peer[connection.peer.number]
        del self.connections[connection.number]
        self._subscriptions.gone(connection.number)
        if left:
            self._tokens.pop(connection.token, None)
        self._dispatch(on.ConnectionGone(self._loop.time(), connection.number, left))
