"""Who one is, is what the kernel says; accounts see, end and learn nothing of one another."""

import grp
import os
import pwd
import signal
import time
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


def test_without_a_right_nobody_loads_unloads_shuts_down_or_sees_others(daemon: DaemonFixture) -> None:
    with somebody_else(daemon) as other:
        calls: list[tuple[str, dict[str, object]]] = [("load", {"model": "small"}), ("unload", {"model": "small"})]
        for verb, args in [*calls, ("shutdown", {}), ("requests", {"all": True})]:
            with pytest.raises(RuntimeError, match=r"not_allowed.*ingle whoami"):
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


@contextmanager
def ruled(rules: str) -> Iterator[DaemonFixture]:
    """A daemon with two models and these rules."""
    models = '[models.open]\nsource = "/x"\ndefault = true\n[models.kept]\nsource = "/y"\n'
    with DaemonFixture(config=models + rules) as daemon:
        yield daemon


def test_a_rule_says_which_models_one_may_use_and_the_rest_is_not_shown() -> None:
    with ruled('[[rules]]\naccounts = ["uid:65534"]\nmodels = ["op*"]\nmay = []') as daemon:
        with somebody_else(daemon) as other, Wire(daemon.socket) as root:
            assert other.read(other.ask("hi"))[1]["t"] == "done"
            with pytest.raises(RuntimeError, match=r"not_allowed.*may not use model 'kept'.*rules\[0\]"):
                other.ask("hi", model="kept")
            with pytest.raises(RuntimeError, match="not_allowed"):
                other.call("show", model="kept")
            assert [model["name"] for model in other.call("models")["models"]] == ["open"]
            assert other.call("whoami")["models"] == ["open"]
            other.send({"t": "hook_offer", "ref": 9, "name": "mine", "points": ["prompt"]})
            assert other.until("failed")[-1]["code"] == "not_allowed"
            assert root.read(root.ask("hi", model="kept"))[1]["t"] == "done", "root is locked out of nothing"


def test_a_right_that_a_rule_gives_is_had() -> None:
    name = pwd.getpwuid(OTHER_UID).pw_name
    group = grp.getgrgid(pwd.getpwuid(OTHER_UID).pw_gid).gr_name
    for who in (name, f"group:{group}", "*"):
        rule = f'[[rules]]\naccounts = ["{who}"]\nmay = ["requests", "load"]\npriority = "interactive"'
        with ruled(rule) as daemon, somebody_else(daemon) as other, Wire(daemon.socket) as root:
            told = other.call("whoami")
            assert (told["user"], told["may"]) == (name, ["load", "requests"])
            assert group in told["groups"]
            id = root.ask("hi", detach=True)
            root.read(id)
            assert [one["account"] for one in other.call("requests", all=True)["requests"]] == ["uid:0"]
            assert other.call("load", model="kept")["state"] == "ready"
            other.read(other.ask("quick", priority=-5))
            with pytest.raises(RuntimeError, match="not_allowed"):
                other.call("shutdown")


def test_limits_of_requests_and_tokens_refuse_with_the_time_to_wait() -> None:
    slow = '[models.slow]\nsource = "/z"\necho = {delay_ms = 50}\n'  # neither of two is over before the other is asked
    rule = '[[rules]]\naccounts = ["uid:65534"]\nopen_requests = 2\ntokens_per_minute = 40\npriority = "batch"'
    with ruled(slow + rule) as daemon, somebody_else(daemon) as other, Wire(daemon.socket) as root:
        root.read(root.ask("load it"))
        with pytest.raises(RuntimeError, match=r"not_allowed.*class 'batch'"):
            other.ask("first", priority=-1)
        root.call("load", model="slow")
        ids = [other.ask("x " * 100, model="slow") for _ in range(2)]
        with pytest.raises(RuntimeError, match=r"over_limit.*2 open requests"):
            other.ask("one more")
        other.send({"t": "cancel", "ref": 99, "id": ids[0]})
        other.until("result")
        with pytest.raises(RuntimeError, match=r"over_limit.*40 tokens per minute.*retry_after_ms") as caught:
            other.ask("and one more")
        assert 0 < caught.value.args[0]["retry_after_ms"] <= 600_000
        told = other.call("whoami")
        assert (told["tokens_left"], told["open_requests"]) == ({"minute": 0, "day": None}, 1)
        root.read(root.ask("others go on"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1], ids=lambda how: how.name)
def test_what_was_used_of_a_limit_outlives_the_daemon(how: signal.Signals) -> None:
    with ruled('[[rules]]\naccounts = ["uid:65534"]\ntokens_per_day = 40\n') as daemon:
        with somebody_else(daemon) as other:
            other.read(other.ask("x " * 100))
            left = other.call("whoami")["tokens_left"]
            assert left == {"minute": None, "day": 0}
        book = daemon.folder / "state" / "ledger.json"
        deadline = time.monotonic() + 60
        while how is signal.SIGKILL and not (book.exists() and "uid:65534" in book.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert daemon.process is not None
        daemon.process.send_signal(how)
        daemon.process.wait(60)
        daemon.start()
        with somebody_else(daemon) as other, pytest.raises(RuntimeError, match=r"over_limit.*40 tokens per day"):
            other.ask("again")
