"""Who one is, is what the kernel says; accounts see, end and learn nothing of one another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ingled.testing import DaemonFixture, Wire

OTHER_UID = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to connect as another user")


@contextmanager
def somebody_else(daemon: DaemonFixture) -> Iterator[Wire]:
    """A connection of another uid; its socket's credentials are those of the moment of connecting."""
    daemon.folder.chmod(0o755)
    daemon.socket.chmod(0o666)
    os.seteuid(OTHER_UID)
    try:
        client = Wire(daemon.socket)
    finally:
        os.seteuid(0)
    with client:
        yield client


def test_the_account_is_the_peers_uid(daemon: DaemonFixture) -> None:
    with somebody_else(daemon) as client, Wire(daemon.socket) as root:
        assert client.welcome["account"] == f"uid:{OTHER_UID}"
        assert root.welcome["account"] == "uid:0"


def test_a_socket_that_one_may_not_use_cannot_be_used(daemon: DaemonFixture) -> None:
    daemon.folder.chmod(0o755)
    daemon.socket.chmod(0o660)
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(OTHER_UID)
    os.seteuid(OTHER_UID)
    try:
        with pytest.raises(PermissionError):
            Wire(daemon.socket)
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def test_another_accounts_requests_cannot_be_seen_attached_or_cancelled(daemon: DaemonFixture) -> None:
    with somebody_else(daemon) as other, Wire(daemon.socket) as root:
        id = root.ask("w " * 300, model="slow")
        assert other.call("requests") == {"requests": []}
        for message in ({"t": "cancel", "ref": 1, "id": id}, {"t": "attach", "ref": 2, "id": id}):
            other.send(message)
            assert other.receive()["code"] == "no_such_request"
        other.send({"t": "credit", "id": id, "n": 10, "ack": 0})
        assert root.read(id)[1]["t"] == "done"
        theirs = other.ask("w " * 300, model="slow")
        root.send({"t": "cancel", "ref": 9, "id": theirs})
        assert root.until("result")[-1]["value"]["cancelled"] is True


def test_events_of_requests_reach_their_account_and_administrators_only(daemon: DaemonFixture) -> None:
    with somebody_else(daemon) as other, Wire(daemon.socket) as root:
        for client in (other, root):
            client.send({"t": "subscribe", "ref": 1, "topics": ["request"]})
            client.until("accepted")
        mine, theirs = root.ask("mine"), other.ask("yours")
        seen: dict[str, set[str]] = {"root": set(), "other": set()}
        for name, client in (("root", root), ("other", other)):
            while not {mine, theirs} <= seen["root"] if name == "root" else theirs not in seen["other"]:
                message = client.receive()
                if message["t"] == "event":
                    seen[name].add(message["value"]["id"])
        assert seen == {"root": {mine, theirs}, "other": {theirs}}


def test_only_administrators_load_unload_and_shut_down(daemon: DaemonFixture) -> None:
    with somebody_else(daemon) as other:
        for verb, args in (("load", {"model": "small"}), ("unload", {"model": "small"}), ("shutdown", {})):
            with pytest.raises(RuntimeError, match="not_allowed"):
                other.call(verb, **args)
        assert other.call("show", model="echo")["log"] == []


def test_a_token_of_another_account_opens_nothing(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as root, somebody_else(daemon) as other:
        other.send({"t": "hello", "protocol": [1, 1], "client": {"name": "x"}, "token": root.welcome["token"]})
        welcome = other.receive()
        assert "resumed" not in welcome
        assert welcome["token"] != root.welcome["token"]


def test_the_prefix_cache_is_not_shared_between_accounts(daemon: DaemonFixture) -> None:
    prompt = "a long prompt of somebody " * 20
    with somebody_else(daemon) as other, Wire(daemon.socket) as root:
        root.read(root.ask(prompt))
        assert root.read(root.ask(prompt))[1]["usage"]["cached"] > 90
        cached = other.read(other.ask(prompt))[1]["usage"]["cached"]
        assert cached <= 1, "more than the first token, which this account's own prompts began with too"
