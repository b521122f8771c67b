"""A session that offers hooks, without a socket: values in, values out."""

from typing import Any

import pytest
from ingle.errors import Refused
from ingle.offers import HOOKS
from ingle.session import Session
from ingle.streams import Arrival
from ingle.wire.codec import Message, pack, unpack

WELCOME: Message = {"t": "welcome", "protocol": [1, 1], "token": "tok", "account": "a", "limits": {}, "daemon": {}}
OFFER: Message = {"name": "shout", "points": ["prompt"]}
CALL: Message = {"t": "hook_call", "call": 7, "point": "prompt", "hooks": ["shout"], "value": {"messages": []}}


def sent(session: Session) -> list[Message]:
    return [unpack(data) for data in session.take()]


def say(session: Session, message: Message) -> list[Arrival]:
    return session.receive(pack(message))


def opened(**options: Any) -> Session:
    session = Session("test", **options)
    session.connected()
    sent(session)
    say(session, WELCOME)
    return session


def again(session: Session) -> list[Message]:
    session.disconnected(0.0)
    session.connected()
    sent(session)
    say(session, WELCOME)
    return sent(session)


def test_an_offer_is_made_and_answered() -> None:
    session = opened()
    ref = session.offer(OFFER)
    assert sent(session) == [{"t": "hook_offer", "ref": ref, **OFFER}]
    result = {"t": "result", "ref": ref, "value": {"name": "shout", "order": 500}}
    assert say(session, result) == [Arrival(ref, result)]


def test_an_offer_from_before_the_welcome_follows_it() -> None:
    session = Session("test")
    session.connected()
    sent(session)
    session.offer(OFFER)
    say(session, WELCOME)
    assert [message["t"] for message in sent(session)] == ["hook_offer"]


def test_hooks_are_offered_again_after_a_reconnect_until_withdrawn() -> None:
    session = opened()
    ref = session.offer(OFFER)
    sent(session)
    assert again(session) == [{"t": "hook_offer", "ref": ref, **OFFER}]
    result = {"t": "result", "ref": ref, "value": {}}
    assert say(session, result) == [Arrival(ref, result)]
    gone = session.withdraw("shout")
    assert sent(session) == [{"t": "hook_withdraw", "ref": gone, "name": "shout"}]
    result = {"t": "result", "ref": gone, "value": {}}
    assert say(session, result) == [Arrival(gone, result)]
    assert again(session) == []


def test_a_refused_offer_is_not_made_again() -> None:
    session = opened()
    ref = session.offer(OFFER)
    failed = {"t": "failed", "ref": ref, "code": "not_allowed", "message": "no", "hint": "", "fault": "client"}
    assert say(session, failed) == [Arrival(ref, failed)]
    sent(session)
    assert again(session) == []


def test_a_call_is_replied_to_once() -> None:
    session = opened()
    session.offer(OFFER)
    sent(session)
    ((ref, call),) = say(session, CALL)
    assert ref == HOOKS
    results = [{"hook": "shout", "verdict": "changed", "state": b"\x00"}]
    assert session.reply(call, results, {"messages": [{"role": "user", "content": "HI"}]})
    value = {"messages": [{"role": "user", "content": "HI"}]}
    assert sent(session) == [{"t": "hook_reply", "call": 7, "results": results, "value": value}]
    assert not session.reply(call, results)
    assert sent(session) == []


def test_a_reply_never_goes_to_another_connection() -> None:
    session = opened()
    session.offer(OFFER)
    ((_, old),) = say(session, CALL)
    again(session)
    assert not session.reply(old, [])
    ((_, new),) = say(session, CALL)
    assert not session.reply(old, [])
    assert session.reply(new, [])


def test_what_cannot_be_sent_is_refused_and_the_call_stays_open() -> None:
    session = opened()
    ((_, call),) = say(session, CALL)
    with pytest.raises(Refused, match="cannot be packed"):
        session.reply(call, [{"hook": "shout", "note": {"x": object()}}])
    assert session.reply(call, [{"hook": "shout", "verdict": "error"}])


def test_ends_of_streams_and_calls_without_reply_arrive_too() -> None:
    session = opened()
    end = {"t": "hook_end", "id": "r1"}
    assert say(session, end) == [Arrival(HOOKS, end)]
    ((_, call),) = say(session, CALL | {"call": 0})
    assert not session.reply(call, [])


def test_a_failure_about_a_reply_does_not_end_the_session() -> None:
    session = opened()
    failed = {"t": "failed", "code": "bad_value", "message": "results", "hint": "", "fault": "client"}
    with pytest.raises(Refused):
        say(session, failed)
    ((_, call),) = say(session, CALL)
    session.reply(call, [])
    assert say(session, failed) == [Arrival(HOOKS, failed)]
