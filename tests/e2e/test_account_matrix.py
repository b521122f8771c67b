"""Every message and verb, asked by everybody about what belongs to one account: who sees, ends or changes what.

The users are real to the kernel. A message or verb that is not in the table fails `test_nothing_is_left_out`.
"""

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from ingle.wire.schema import FromClient
from ingled.broker.verbs import VERBS
from ingled.testing import DaemonFixture, Wire

OWNER, STRANGER, TRUSTED, ROOT = 65534, 65533, 65532, 0
"""Whose the requests and hooks are; who has no rule for others; who has all rights; root."""
USERS = {"owner": OWNER, "stranger": STRANGER, "trusted": TRUSTED, "root": ROOT}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to connect as other users")

CONFIG = f"""
[models.open]
source = "/x"
default = true
preload = true
[models.kept]
source = "/y"
[models.vectors]
source = "/z"
runner = "pooling"
[hooks.auditor]
account = "uid:{TRUSTED}"
scope_all = true
[[rules]]
accounts = ["uid:{OWNER}"]
[[rules]]
accounts = ["uid:{TRUSTED}"]
may = ["hook", "load", "requests", "shutdown"]
[[rules]]
accounts = ["*"]
models = ["open"]
"""
LONG = {"max_tokens": 4000, "ignore_eos": True}
"""An answer that waits for its reader: only what it is given credit for goes out."""


@dataclass
class World:
    """What the owner has: a request that nobody reads on, a hook, a subscription."""

    daemon: DaemonFixture
    reader: Wire
    provider: Wire
    request: str
    subscription: str
    actors: dict[str, Wire]

    def hooked(self) -> list[str]:
        """Let the owner ask, and return who is called: the owner's provider answers, others are let go."""
        self.reader.send({"t": "request", "ref": 77, "op": "chat", "body": QUESTION, "credit": 50})
        called = []
        end = None
        while end is None:
            for name, wire in (("provider", self.provider), *self.actors.items()):
                while (message := _now(wire)) is not None:
                    if message["t"] == "hook_call":
                        called.append(name)
                        reply(wire, message)
            message = _now(self.reader)
            if message is not None and message.get("id") != self.request and message["t"] in ("done", "failed"):
                end = message
        assert end["t"] == "done", end
        return called


QUESTION = {"messages": [{"role": "user", "content": "what"}]}


def _now(wire: Wire) -> dict[str, Any] | None:
    try:
        return wire.receive(0.01)
    except TimeoutError:
        return None


def reply(wire: Wire, call: dict[str, Any], **more: Any) -> None:
    results = [{"hook": name, "verdict": "unchanged"} | more for name in call["hooks"]]
    wire.send({"t": "hook_reply", "call": call["call"], "results": results})


@contextmanager
def as_user(daemon: DaemonFixture, uid: int, **hello: Any) -> Iterator[Wire]:
    os.seteuid(uid)
    try:
        client = Wire(daemon.socket, hello=hello)
    finally:
        os.seteuid(0)
    with client:
        yield client


def started(config: str = CONFIG) -> DaemonFixture:
    daemon = DaemonFixture(config).start()
    daemon.folder.chmod(0o755)
    daemon.socket.chmod(0o666)
    return daemon


@pytest.fixture(scope="module")
def open_daemon() -> Iterator[DaemonFixture]:
    daemon = started()
    yield daemon
    daemon.close()


@contextmanager
def world(daemon: DaemonFixture) -> Iterator[World]:
    with ExitStack() as stack:
        reader = stack.enter_context(as_user(daemon, OWNER))
        provider = stack.enter_context(as_user(daemon, OWNER))
        actors = {name: stack.enter_context(as_user(daemon, uid)) for name, uid in USERS.items()}
        id = reader.ask("w", credit=1, body=LONG)
        reader.until("chunk")
        offer = {"t": "hook_offer", "ref": 5, "name": "mine", "points": ["prompt"], "deadline_ms": 60_000}
        provider.send(offer)
        provider.until("result")
        reader.send({"t": "subscribe", "ref": 6, "topics": ["request"], "credit": 0})
        subscription = reader.until("accepted")[-1]["id"]
        yield World(daemon, reader, provider, id, subscription, actors)


# ---------------------------------------------------------------- what each message does

Act = Callable[[World, Wire, str], str]
"""What somebody does, by name; returns what came of it, in a word."""


def answer(wire: Wire, message: dict[str, Any]) -> dict[str, Any]:
    wire.send(message)
    while (got := wire.receive()).get("ref") != message["ref"] or got["t"] == "progress":
        pass
    return got


def code(got: dict[str, Any]) -> str:
    return str(got["code"]) if got["t"] == "failed" else "yes"


def untouched(at: World) -> bool:
    """Return whether the owner's request goes on, with nothing more sent to its reader."""
    found = {one["id"]: one["state"] for one in at.reader.call("requests")["requests"]}
    return found.get(at.request) == "running" and _now(at.reader) is None


def hello(at: World, wire: Wire, who: str) -> str:
    token = at.reader.welcome["token"]
    wire.send({"t": "hello", "protocol": [1, 2], "client": {"name": "x"}, "token": token})
    return "resumed" if wire.until("welcome")[-1].get("resumed") else "a session of its own"


def request(at: World, wire: Wire, who: str) -> str:
    return code(answer(wire, {"t": "request", "ref": 900, "op": "chat", "body": QUESTION, "model": "kept"}))


def embed(at: World, wire: Wire, who: str) -> str:
    return code(answer(wire, {"t": "request", "ref": 900, "op": "embed", "body": {"input": ["x"]}, "model": "vectors"}))


def credit(at: World, wire: Wire, who: str) -> str:
    wire.send({"t": "credit", "id": at.request, "n": 100, "ack": 0})
    wire.call("status")
    return "nothing" if untouched(at) else "it goes on"


def cancel(at: World, wire: Wire, who: str) -> str:
    got = answer(wire, {"t": "cancel", "ref": 900, "id": at.request})
    assert untouched(at) == (got["t"] == "failed")
    return code(got)


def cancel_subscription(at: World, wire: Wire, who: str) -> str:
    return code(answer(wire, {"t": "cancel", "ref": 900, "id": at.subscription}))


def attach(at: World, wire: Wire, who: str) -> str:
    got = answer(wire, {"t": "attach", "ref": 900, "id": at.request, "credit": 0})
    assert untouched(at) == (got["t"] == "failed")
    return code(got)


def call(at: World, wire: Wire, who: str) -> str:
    return code(answer(wire, {"t": "call", "ref": 900, "verb": "no such verb"}))


def subscribe(at: World, wire: Wire, who: str) -> str:
    assert answer(wire, {"t": "subscribe", "ref": 900, "topics": ["request", "hook"], "credit": 200})["t"] == "accepted"
    id = at.reader.ask("ping")
    at.provider.send({"t": "hook_withdraw", "ref": 8, "name": "mine"})
    hook_call = at.provider.until("hook_call")[-1]
    reply(at.provider, hook_call)
    at.provider.until("result")
    own = wire.ask("its own", model="open")
    heard: list[Any] = []
    while not any(one.get("id") == own and one["state"] == "over" for one in heard):
        message = wire.receive()
        heard += [message["value"]] if message["t"] == "event" else []
        if message["t"] == "chunk":
            wire.send({"t": "credit", "id": own, "n": 1, "ack": 0})
    seen = {one.get("id") for one in heard} | {one.get("hook") for one in heard}
    assert ({id, "mine"} <= seen) or not ({id, "mine"} & seen)
    return "hears" if id in seen else "hears its own"


def bye(at: World, wire: Wire, who: str) -> str:
    wire.send({"t": "bye"})
    at.reader.call("status")
    return "nothing" if untouched(at) else "it goes on"


def hook_offer(at: World, wire: Wire, who: str) -> str:
    name = "mine" if who != "owner" else "another"
    got = answer(wire, {"t": "hook_offer", "ref": 900, "name": name, "points": ["prompt"], "deadline_ms": 60_000})
    assert got["t"] == "result", "that another account has a hook of this name is not told"
    called = at.hooked()
    assert "provider" in called
    return "called" if who in called else "not called"


def hook_offer_for_all(at: World, wire: Wire, who: str) -> str:
    offer = {"t": "hook_offer", "ref": 900, "name": "auditor", "points": ["prompt"], "scope": "all"}
    got = answer(wire, offer | {"deadline_ms": 60_000})
    if got["t"] == "failed":
        return code(got)
    return "called" if who in at.hooked() else "not called"


def hook_withdraw(at: World, wire: Wire, who: str) -> str:
    got = answer(wire, {"t": "hook_withdraw", "ref": 900, "name": "mine"})
    assert "provider" in at.hooked()
    return code(got)


def hook_reply(at: World, wire: Wire, who: str) -> str:
    id = at.reader.ask("ping", credit=50)
    hook_call = at.provider.until("hook_call")[-1]
    reply(wire, hook_call, verdict="refuse", reason="no")
    wire.call("status")
    reply(at.provider, hook_call)
    while (end := at.reader.receive()).get("id") != id or end["t"] not in ("done", "failed"):
        pass
    return "nothing" if end["t"] == "done" else "it is refused"


def verb(name: str, **args: Any) -> Act:
    """What a call of a verb gives; where it has something of the owner's, that it does."""

    def act(at: World, wire: Wire, who: str) -> str:
        got = answer(wire, {"t": "call", "ref": 900, "verb": name, "args": args})
        return code(got) if got["t"] == "failed" else _owners(at, got["value"], who)

    return act


def may(name: str, **args: Any) -> Act:
    """Whether a verb is let in, whatever the state of its model makes of it."""

    def act(at: World, wire: Wire, who: str) -> str:
        got = code(answer(wire, {"t": "call", "ref": 900, "verb": name, "args": args}))
        return got if got == "not_allowed" else "yes"

    return act


def _owners(at: World, value: Any, who: str) -> str:
    text = json.dumps(value)
    secrets = [at.request, at.subscription, str(at.reader.welcome["token"])]
    secrets += [f"uid:{OWNER}"] if who != "owner" else []
    return "the owner's" if any(one in text for one in secrets) or '"mine"' in text else "yes"


def models(at: World, wire: Wire, who: str) -> str:
    value = wire.call("models")["models"]
    assert _owners(at, value, who) == "yes"
    return " ".join(one["name"] for one in value)


def show(at: World, wire: Wire, who: str) -> str:
    got = answer(wire, {"t": "call", "ref": 900, "verb": "show", "args": {"model": "kept"}})
    return code(got) if got["t"] == "failed" else "inside" if got["value"]["options"] is not None else "outside"


def whoami(at: World, wire: Wire, who: str) -> str:
    value = wire.call("whoami")
    assert _owners(at, value, who) == "yes"
    return "itself" if value["account"] == f"uid:{USERS[who]}" else "another"


def hook_test(at: World, wire: Wire, who: str) -> str:
    found = set()
    for name in ("mine", f"uid:{OWNER}/mine"):
        args = {"hook": name, "point": "prompt", "value": {"messages": []}}
        wire.send({"t": "call", "ref": 900, "verb": "hook_test", "args": args})
        got = None
        while got is None:
            got = next((m for m in iter(lambda: _now(wire), None) if m.get("ref") == 900), None)
            while (theirs := _now(at.provider)) is not None:
                if theirs["t"] == "hook_call":
                    found.add("called")
                    reply(at.provider, theirs)
        found.add("called" if got["t"] == "result" else str(got["code"]))
    return "called" if found == {"called"} or (who == "owner" and "called" in found) else " ".join(sorted(found))


def shutdown(at: World, wire: Wire, who: str) -> str:
    got = answer(wire, {"t": "call", "ref": 900, "verb": "shutdown"})
    return code(got)


FREE = ("yes", "yes", "yes", "yes")
HIDDEN = ("yes", "no_such_request", "yes", "yes")
NOBODY = ("nothing", "nothing", "nothing", "nothing")
RIGHT = ("not_allowed", "not_allowed", "yes", "yes")
MODEL = ("yes", "not_allowed", "yes", "yes")

TABLE: dict[str, tuple[Act, tuple[str, str, str, str]]] = {
    "hello": (hello, ("resumed", "a session of its own", "a session of its own", "a session of its own")),
    "request": (request, MODEL),
    "request: embed": (embed, MODEL),
    "credit": (credit, NOBODY),
    "cancel": (cancel, HIDDEN),
    "cancel: of a subscription": (cancel_subscription, ("no_such_request",) * 4),
    "attach": (attach, HIDDEN),
    "call": (call, ("bad_value",) * 4),
    "subscribe": (subscribe, ("hears", "hears its own", "hears", "hears")),
    "bye": (bye, NOBODY),
    "hook_offer": (hook_offer, ("called", "not called", "not called", "not called")),
    "hook_offer: for all": (hook_offer_for_all, ("not_allowed", "not_allowed", "called", "not_allowed")),
    "hook_withdraw": (hook_withdraw, ("bad_value",) * 4),
    "hook_reply": (hook_reply, NOBODY),
    "call status": (verb("status"), FREE),
    "call whoami": (whoami, ("itself",) * 4),
    "call models": (models, ("open kept vectors", "open", "open kept vectors", "open kept vectors")),
    "call show": (show, ("outside", "not_allowed", "inside", "inside")),
    "call requests": (verb("requests"), ("the owner's", "yes", "yes", "yes")),
    "call requests: all": (verb("requests", all=True), ("not_allowed", "not_allowed", "the owner's", "the owner's")),
    "call plan": (verb("plan", model="kept"), MODEL),
    "call load": (verb("load", model="kept"), RIGHT),
    "call unload": (verb("unload", model="kept"), RIGHT),
    "call sleep": (may("sleep", model="kept"), RIGHT),
    "call wake": (may("wake", model="kept"), RIGHT),
    "call pin": (verb("pin", model="kept"), RIGHT),
    "call want": (verb("want", model="kept"), MODEL),
    "call yield": (verb("yield"), RIGHT),
    "call hooks": (verb("hooks"), ("the owner's", "yes", "the owner's", "the owner's")),
    "call hook_test": (hook_test, ("called", "bad_value", "bad_value", "bad_value")),
    "call doctor": (verb("doctor"), RIGHT),
    "call reload": (verb("reload"), RIGHT),
    "call config": (verb("config"), ("not_allowed", "not_allowed", "the owner's", "the owner's")),  # rules name it
    "call shutdown": (shutdown, RIGHT),
}
"""By message, or `call` and verb: what is done, and what comes of it for the owner, on another connection than the one
that the request or hook is of; a stranger; one with all rights; and root."""


def test_nothing_is_left_out() -> None:
    kinds = {kind.__struct_config__.tag for kind in get_args(FromClient)}
    rows = {name.partition(":")[0] for name in TABLE}
    assert rows == kinds | {f"call {verb}" for verb in VERBS}


@pytest.mark.parametrize("who", USERS)
@pytest.mark.parametrize("row", [row for row in TABLE if row != "call shutdown"])
def test_who_may_what(open_daemon: DaemonFixture, row: str, who: str) -> None:
    act, expected = TABLE[row]
    with world(open_daemon) as at:
        assert act(at, at.actors[who], who) == expected[list(USERS).index(who)]


def test_who_may_end_the_daemon() -> None:
    act, expected = TABLE["call shutdown"]
    for who, wanted in zip(USERS, expected, strict=True):
        daemon = started()
        try:
            with as_user(daemon, USERS[who]) as wire:
                assert act(None, wire, who) == wanted  # type: ignore[arg-type]
        finally:
            daemon.close()


# ---------------------------------------------------------------- what is hidden by rules has no name

SECRETIVE = """
[models.open]
source = "/x"
default = true
preload = true
[models.ravenous]
source = "/y"
aliases = ["hungry"]
[[rules]]
accounts = ["uid:65533"]
models = ["open"]
may = ["hook", "load", "requests", "shutdown"]
"""
NAMES_MODELS = sorted(verb for verb, (args, _, _) in VERBS.items() if "model" in args.__struct_fields__)


@pytest.fixture(scope="module")
def secretive() -> Iterator[DaemonFixture]:
    daemon = started(SECRETIVE)
    yield daemon
    daemon.close()


def asked_for(wire: Wire, verb: str, model: str) -> dict[str, Any]:
    """Ask for a model by a verb, or with a request."""
    if verb == "request":
        return answer(wire, {"t": "request", "ref": 900, "op": "chat", "body": QUESTION, "model": model})
    return answer(wire, {"t": "call", "ref": 900, "verb": verb, "args": {"model": model}})


@pytest.mark.parametrize("verb", ["request", *NAMES_MODELS])
def test_no_refusal_names_a_model_that_rules_hide(secretive: DaemonFixture, verb: str) -> None:
    """Though the account has every right but to use the model."""
    with as_user(secretive, STRANGER) as wire:
        for wrong in ("ravenou", "Ravenous", "hungr", "zzz"):
            got = asked_for(wire, verb, wrong)
            assert (got["code"], "there are: open" in got["message"]) == ("no_such_model", True)
            told = json.dumps(got).replace(f"'{wrong}'", "")
            assert "ravenous" not in told and "hungry" not in told
        by_alias, by_name = (asked_for(wire, verb, name) for name in ("hungry", "ravenous"))
        assert (by_alias["code"], by_name["code"]) == ("not_allowed", "not_allowed")
        assert "ravenous" not in json.dumps(by_alias)
    with as_user(secretive, ROOT) as wire:
        assert asked_for(wire, verb, "ravenou")["hint"] == "did you mean 'ravenous'?", "others are helped"


def test_what_happens_to_hidden_models_is_told_to_nobody_else(secretive: DaemonFixture) -> None:
    with as_user(secretive, STRANGER) as wire, as_user(secretive, ROOT) as root:
        for one in (wire, root):
            assert answer(one, {"t": "subscribe", "ref": 900, "topics": ["model"], "credit": 200})["t"] == "accepted"
            offer = {"t": "hook_offer", "ref": 901, "name": "watcher", "points": ["model"]}
            assert answer(one, offer)["t"] == "result"
        with as_user(secretive, ROOT) as other:
            for model in ("ravenous", "open"):
                other.call("load", model=model)
                other.call("unload", model=model)
            assert set(heard(root)) == {"ravenous", "open"}
            assert set(heard(wire)) == {"open"}
            assert wire.call("status")["models"]["total"] == 1
            for model in ("ravenous", "open"):
                other.call("load", model=model)
            assert wire.call("yield")["models"] == ["open"]


def heard(wire: Wire) -> list[str]:
    """Return the models of which it is told, until it has been told by event and hook that the open one is cold."""
    found, last = [], set()
    while len(last) < 2:
        message = wire.receive()
        change = message["value"].get("change", message["value"])
        found.append(change["model"])
        if change["model"] == "open" and change["state"] == "cold":
            last.add(message["t"])
    return found


# ---------------------------------------------------------------- what is and what is not cannot be told apart


def made_up() -> str:
    return "".join(random.choice("abcdefghjkmnpqrstuvwxyz023456789") for _ in range(8))


def answers(at: World, wire: Wire, id: str) -> list[dict[str, Any]]:
    """All answers to questions about an id, with the id taken out."""
    found = [
        answer(wire, {"t": "cancel", "ref": 900, "id": id}),
        *(answer(wire, {"t": "attach", "ref": 900, "id": id, "offset": at}) for at in (0, 1, 1 << 40)),
        answer(wire, {"t": "attach", "ref": 900, "id": id}),
    ]
    return [json.loads(re.sub(id, "ID", json.dumps(one))) for one in found]


def test_ids_of_others_and_ids_that_do_not_exist_are_answered_alike(open_daemon: DaemonFixture) -> None:
    with world(open_daemon) as at:
        stranger = at.actors["stranger"]
        nobody = answers(at, stranger, made_up())
        assert {one["code"] for one in nobody} == {"no_such_request"}
        kept = at.reader.ask("w", detach=True, credit=50)
        hook_call = at.provider.until("hook_call")[-1]
        assert answers(at, stranger, kept) == nobody, "it is with its hooks"
        reply(at.provider, hook_call)
        while (end := at.reader.receive()).get("id") != kept or end["t"] != "done":
            pass
        for id in (kept, at.request, at.subscription):
            assert answers(at, stranger, id) == nobody
        assert untouched(at)


def test_nor_by_the_time_that_the_answer_takes(open_daemon: DaemonFixture) -> None:
    """No speed is asserted: of pairs in random order, neither kind is the slower one much more often than the other."""
    chance = random.Random(7)
    with world(open_daemon) as at:
        stranger, pairs, slower = at.actors["stranger"], 400, 0
        for _ in range(pairs):
            took = {}
            ids = [("there", at.request), ("not", made_up())]
            chance.shuffle(ids)
            asked = chance.choice(["cancel", "attach"])
            for kind, id in ids:
                message = {"t": asked, "ref": 900, "id": id}
                begin = time.perf_counter()
                answer(stranger, message)
                took[kind] = time.perf_counter() - begin
            slower += took["there"] > took["not"]
        assert 0.3 * pairs < slower < 0.7 * pairs
