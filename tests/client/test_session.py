"""The client's conversation, without a socket: values in, values out."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingle.errors import DaemonFailed, NotAllowed, ProtocolError, Refused, from_failed
from ingle.session import Arrival, Session
from ingle.wire.codec import Message, pack, unpack

WELCOME: Message = {
    "t": "welcome", "protocol": [1, 0], "token": "tok", "account": "a", "limits": {}, "daemon": {},
    "ops": [], "verbs": [], "topics": [],
}  # fmt: skip


def sent(session: Session) -> list[Message]:
    return [unpack(data) for data in session.take()]


def say(session: Session, message: Message) -> list[Arrival]:
    return session.receive(pack(message))


def opened(**options: Any) -> Session:
    session = Session("test", **options)
    session.start(0.0)
    session.connected()
    sent(session)
    say(session, WELCOME)
    return session


def asked(session: Session, id: str = "r1") -> int:
    ref = session.request("chat", {"messages": []})
    sent(session)
    say(session, {"t": "accepted", "ref": ref, "id": id})
    return ref


def chunk(o: int, x: str, id: str = "r1", **more: Any) -> Message:
    return {"t": "chunk", "id": id, "o": o, "x": x} | more


def reconnect(session: Session) -> list[Message]:
    session.disconnected(1.0)
    session.connected()
    hello, *rest = sent(session)
    assert rest == []
    assert hello["token"] == "tok"
    say(session, WELCOME)
    return sent(session)


def test_hello_comes_first_and_what_was_asked_before_the_welcome_follows_it() -> None:
    session = Session("test", version="1.2", tags=["a"], key="secret")
    session.connected()
    ref = session.call("status", {})
    client = {"name": "test", "version": "1.2", "tags": ["a"]}
    assert sent(session) == [{"t": "hello", "protocol": [1, 1], "client": client, "key": "secret"}]
    say(session, WELCOME)
    assert sent(session) == [{"t": "call", "ref": ref, "verb": "status", "args": {}}]
    result = {"t": "result", "ref": ref, "value": 3}
    assert say(session, result) == [Arrival(ref, result)]
    assert say(session, result) == []


def test_a_daemon_of_another_major_version_is_an_error() -> None:
    session = Session("test")
    session.connected()
    with pytest.raises(ProtocolError, match="protocol 2"):
        say(session, WELCOME | {"protocol": [2, 0]})


def test_one_that_leaves_asks_for_nothing_anew_and_takes_its_requests_up_to_let_them_end() -> None:
    session = opened()
    assert not session.leaves()
    asked(session)
    session.request("chat", {"messages": []})
    session.subscribe(["model"])
    session.forget(session.call("load", {}))
    session.call("status", {})
    session.offer({"name": "mine", "points": ["prompt"]})
    assert [message["t"] for message in reconnect(session)] == [
        "hook_offer", "call", "attach", "request", "subscribe",
    ]  # fmt: skip
    assert session.leaves()
    assert [message["t"] for message in reconnect(session)] == ["attach"]
    session.bye()
    assert [message["t"] for message in sent(session)] == ["bye"]


def test_a_refused_hello_raises_what_the_daemon_said() -> None:
    session = Session("test")
    session.connected()
    with pytest.raises(NotAllowed, match="go away"):
        say(session, {"t": "failed", "code": "not_allowed", "message": "go away", "hint": "", "fault": "client"})


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        pack({"t": "chunk", "id": "r1"}),
        pack({"t": "chunk", "id": "r1", "o": "x"}),
        pack({"t": "chunk", "id": "r1", "o": 0, "x": 7}),
        pack({"t": "accepted"}),
    ],
)
def test_nonsense_from_the_daemon_is_a_protocol_error(data: bytes) -> None:
    session = opened()
    asked(session)
    with pytest.raises(ProtocolError):
        session.receive(data)


def test_types_of_messages_that_are_not_known_are_ignored() -> None:
    assert say(opened(), {"t": "poem", "x": 1}) == []


def test_a_request_carries_only_what_was_said() -> None:
    session = opened(window=8)
    session.request("chat", {"messages": []}, model="m", priority=2)
    (message,) = sent(session)
    expected = {"t": "request", "ref": 1, "op": "chat", "model": "m", "priority": 2, "credit": 8, "stream": True}
    assert message == expected | {"body": {"messages": []}}


def test_credit_is_given_when_half_of_the_window_is_free() -> None:
    session = opened(window=4)
    ref = asked(session)
    for index in range(4):
        say(session, chunk(index, "x"))
    session.taken(ref)
    assert sent(session) == []
    session.taken(ref)
    assert sent(session) == [{"t": "credit", "id": "r1", "n": 2, "ack": 4}]
    for _ in range(5):  # more than has arrived: nothing is made up
        session.taken(ref)
    assert sent(session) == [{"t": "credit", "id": "r1", "n": 2, "ack": 4}]


def test_a_reconnect_attaches_where_we_are_with_the_room_that_is_left() -> None:
    session = opened(window=4)
    ref = asked(session)
    say(session, chunk(0, "né"))
    assert reconnect(session) == [{"t": "attach", "ref": ref, "id": "r1", "offset": 3, "credit": 3}]
    assert say(session, {"t": "accepted", "ref": ref, "id": "r1"}) == []
    assert say(session, chunk(1, "éa", p=[{}])) == [Arrival(ref, {"t": "chunk", "id": "r1", "o": 3, "x": "a"})]
    assert say(session, chunk(0, "né")) == []
    assert say(session, chunk(4, "b", r="")) == [Arrival(ref, chunk(4, "b", r=""))]


def test_a_daemon_that_allows_less_than_the_one_before_it_gives_nothing_until_enough_is_taken() -> None:
    session = opened(window=8)
    ref = asked(session)
    for index in range(7):
        say(session, chunk(index, "x"))
    session.disconnected(1.0)
    session.connected()
    sent(session)
    say(session, WELCOME | {"limits": {"credit": 4}})
    assert sent(session) == [{"t": "attach", "ref": ref, "id": "r1", "offset": 7, "credit": 0}]
    say(session, {"t": "accepted", "ref": ref, "id": "r1"})
    given = []
    for _ in range(7):
        session.taken(ref)
        given.append([message["n"] for message in sent(session)])
    assert given == [[], [], [], [], [2], [], [2]], "with what waits, never more than four"


def test_an_overlap_is_trimmed_from_the_reasoning_first() -> None:
    session = opened()
    ref = asked(session)
    say(session, {"t": "chunk", "id": "r1", "o": 0, "r": "ab"})
    assert say(session, {"t": "chunk", "id": "r1", "o": 1, "r": "bc", "x": "d"}) == [
        Arrival(ref, {"t": "chunk", "id": "r1", "o": 2, "r": "c", "x": "d"})
    ]


def test_a_gap_is_an_error() -> None:
    session = opened()
    asked(session)
    with pytest.raises(ProtocolError, match="missing"):
        say(session, chunk(1, "x"))


def test_a_request_that_the_daemon_forgot_before_it_had_text_is_asked_again() -> None:
    session = opened()
    ref = asked(session)
    reconnect(session)
    failed = {"t": "failed", "ref": ref, "code": "no_such_request", "message": "?", "hint": "", "fault": "client"}
    assert say(session, failed) == []
    (again,) = sent(session)
    assert (again["t"], again["ref"]) == ("request", ref)
    say(session, {"t": "accepted", "ref": ref, "id": "r2"})
    ((at, _),) = say(session, chunk(0, "x", "r2"))
    assert at == ref


def test_a_request_that_the_daemon_forgot_fails_by_name() -> None:
    session = opened()
    ref = asked(session)
    say(session, chunk(0, "x"))
    reconnect(session)
    failed = {"t": "failed", "ref": ref, "code": "no_such_request", "message": "?", "hint": "", "fault": "client"}
    ((at, message),) = say(session, failed)
    error = from_failed(message)
    assert at == ref
    assert isinstance(error, DaemonFailed)
    assert "r1" in str(error)
    assert list(session.open_refs()) == []


def test_an_attach_to_nothing_is_the_callers_mistake() -> None:
    session = opened()
    ref = session.attach("r9", 5)
    failed = {"t": "failed", "ref": ref, "code": "no_such_request", "message": "?", "hint": "", "fault": "client"}
    ((_, message),) = say(session, failed)
    assert isinstance(from_failed(message), Refused)


def test_an_attach_without_an_offset_begins_with_the_first_chunk() -> None:
    session = opened(window=2)
    ref = session.attach("r1")
    asking = {"t": "attach", "ref": ref, "id": "r1", "credit": 2}
    assert sent(session) == [asking]
    say(session, {"t": "accepted", "ref": ref, "id": "r1"})
    assert reconnect(session) == [asking]  # nothing has come: it is still wherever that is
    say(session, {"t": "accepted", "ref": ref, "id": "r1"})
    assert say(session, chunk(87, "né")) == [Arrival(ref, chunk(87, "né"))]
    session.taken(ref)
    assert sent(session) == [{"t": "credit", "id": "r1", "n": 1, "ack": 90}]
    assert reconnect(session) == [asking | {"offset": 90}]
    say(session, {"t": "accepted", "ref": ref, "id": "r1"})
    assert say(session, chunk(87, "né")) == []
    with pytest.raises(ProtocolError, match="missing"):
        say(session, chunk(91, "x"))


def test_an_attach_to_an_answer_of_which_nothing_is_held_just_ends() -> None:
    session = opened()
    ref = session.attach("r1")
    say(session, {"t": "accepted", "ref": ref, "id": "r1"})
    done = {"t": "done", "id": "r1"}
    assert say(session, done) == [Arrival(ref, done)]
    ref = session.attach("r2")
    say(session, {"t": "accepted", "ref": ref, "id": "r2"})
    reconnect(session)
    failed = {"t": "failed", "ref": ref, "code": "no_such_request", "message": "?", "hint": "", "fault": "client"}
    ((_, message),) = say(session, failed)
    assert (message["id"], message["hint"]) == ("r2", "ask again")


def test_what_was_not_accepted_is_asked_again_and_a_shutdown_is_not() -> None:
    session = opened()
    request = session.request("chat", {"messages": []})
    events = session.subscribe(["model"])
    call, shutdown = session.call("models", {}), session.call("shutdown", {})
    first = sent(session)
    session.disconnected(1.0)
    session.connected()
    sent(session)
    ((ref, message),) = say(session, WELCOME)
    assert (ref, message["t"]) == (shutdown, "failed")
    again = sent(session)
    assert {m["ref"] for m in again} == {request, events, call}
    assert all(m in first for m in again)


def test_a_subscription_begins_anew_after_a_reconnect() -> None:
    session = opened()
    ref = session.subscribe(["model"])
    say(session, {"t": "accepted", "ref": ref, "id": "s1"})
    sent(session)
    (again,) = reconnect(session)
    assert (again["t"], again["ref"]) == ("subscribe", ref)
    say(session, {"t": "accepted", "ref": ref, "id": "s2"})
    event = {"t": "event", "id": "s2", "topic": "model", "value": {}}
    assert say(session, event) == [Arrival(ref, event)]
    assert say(session, event | {"id": "s1"}) == []


def test_stopping_waits_for_the_id() -> None:
    session = opened()
    ref = session.request("chat", {"messages": []})
    sent(session)
    session.stop(ref)
    assert sent(session) == []
    say(session, {"t": "accepted", "ref": ref, "id": "r1"})
    (cancel,) = sent(session)
    assert (cancel["t"], cancel["id"]) == ("cancel", "r1")
    assert say(session, {"t": "result", "ref": cancel["ref"], "value": {}}) == []
    assert [m["t"] for m in reconnect(session)] == ["attach", "cancel"]


def test_a_request_stopped_while_the_daemon_was_away_never_goes_out() -> None:
    session = Session("test")
    session.connected()
    ref = session.request("chat", {"messages": []})
    session.stop(ref)
    ((at, message),) = say(session, WELCOME)
    assert (at, message["code"]) == (ref, "cancelled")


def test_the_daemons_limits_are_kept_before_anything_is_sent() -> None:
    session = Session("test")
    session.connected()
    limits = {"frame": 200, "requests": 2, "credit": 3, "schema": 20}
    say(session, WELCOME | {"limits": limits})
    sent(session)
    with pytest.raises(Refused, match="limit is 200"):
        session.request("chat", {"messages": ["x" * 300]})
    with pytest.raises(Refused) as caught:
        shape = {"type": "json_schema", "json_schema": {"schema": {"title": "x" * 30}}}
        session.request("chat", {"messages": [], "response_format": shape})
    assert caught.value.at == "body.response_format.json_schema.schema"
    with pytest.raises(Refused, match="packed"):
        session.call("status", {"x": object()})
    session.request("chat", {"messages": []})
    session.request("chat", {"messages": []})
    assert {m["credit"] for m in sent(session)} == {3}
    with pytest.raises(Refused) as caught:
        session.request("chat", {"messages": []})
    assert caught.value.code == "over_limit"


def test_patience_ends_and_a_welcome_renews_it() -> None:
    session = opened(patience=5.0)
    assert not session.gave_up(1e9)
    session.disconnected(100.0)
    assert session.retry_at == pytest.approx(100.01)
    session.disconnected(100.01)
    assert session.retry_at == pytest.approx(100.03)
    assert not session.gave_up(104.9)
    assert session.gave_up(105.0)
    session.connected()
    say(session, WELCOME)
    assert not session.gave_up(1e9)


class Daemon:
    """The daemon's side of one stream: text in pieces, credit, and what has been acknowledged."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.at = 0
        self.ack = 0
        self.credit = 0
        self.attached = False

    def hear(self, message: Message) -> Message | None:
        match message["t"]:
            case "request" | "attach":
                self.at = message.get("offset", 0)
                assert self.ack <= self.at <= len(self.text), "what was acknowledged is forgotten"
                self.credit = message["credit"]
                self.attached = True
                return {"t": "accepted", "ref": message["ref"], "id": "r1"}
            case "credit":
                self.credit += message["n"]
                self.ack = message["ack"]
        return None

    def speak(self, size: int, back: int) -> Message | None:
        """The next piece; an earlier beginning by `back` bytes, as a careless daemon might have it."""
        if not self.attached or self.credit == 0 or self.at == len(self.text):
            return None
        begin, end = max(0, self.at - back), min(len(self.text), self.at + size)
        while begin > 0 and self.text[begin] & 0xC0 == 0x80:
            begin -= 1
        while end < len(self.text) and self.text[end] & 0xC0 == 0x80:
            end += 1
        self.credit -= 1
        self.at = end
        return chunk(begin, self.text[begin:end].decode())


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(max_size=120),
    window=st.integers(1, 6),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("speak"), st.integers(1, 9), st.integers(0, 5)),
            st.tuples(st.just("take"), st.integers(1, 4), st.just(0)),
            st.tuples(st.just("break"), st.just(0), st.just(0)),
        ),
        max_size=60,
    ),
)
def test_text_is_exact_whatever_the_pieces_the_credit_and_the_breaks(
    text: str, window: int, steps: list[tuple[str, int, int]]
) -> None:
    daemon, session = Daemon(text), opened(window=window)
    ref = session.request("chat", {"messages": []})
    got: list[str] = []
    untaken = 0

    def carry() -> None:
        for message in sent(session):
            if message["t"] != "hello":
                reply = daemon.hear(message)
                if reply is not None:
                    say(session, reply)

    def step(what: str, size: int, back: int) -> None:
        nonlocal untaken
        if what == "speak":
            message = daemon.speak(size, back)
            if message is not None:
                for _, arrived in say(session, message):
                    got.append(arrived["x"])
                    untaken += 1
        elif what == "take":
            for _ in range(min(size, untaken)):
                session.taken(ref)
                untaken -= 1
        else:
            session.disconnected(0.0)
            session.connected()
            daemon.attached = False
            sent(session)
            say(session, WELCOME)
        carry()
        assert untaken <= window
        assert daemon.credit <= window

    carry()
    for what, size, back in steps:
        step(what, size, back)
    for _ in range(len(text.encode()) + 1):  # and then to the end: nobody waits for the other
        step("take", untaken, 0)
        step("speak", 9, 0)
    assert "".join(got) == text
