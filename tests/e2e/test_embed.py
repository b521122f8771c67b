"""Texts become vectors: over the socket, by the Python client and by the command; hooks see the texts."""

import asyncio
import json
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from ingle import Client, Refused
from ingle.aio import Client as AsyncClient
from ingle.hooks import Hook, Provider, answered, changed
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until
from ingled.worker.echo_answer import letters

CONFIG = """
[models.talker]
source = "/a"
default = true
[models.mini]
source = "/b"
runner = "pooling"
context = 16
aliases = ["vectors"]
[models.slow]
source = "/c"
runner = "pooling"
echo = {delay_ms = 100000}
"""
TEXTS = ["an owl", "one two three", "an owl"]


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture(CONFIG) as running:
        yield running


@pytest.fixture
def client(daemon: DaemonFixture) -> Iterator[Client]:
    with Client(str(daemon.socket)) as client:
        yield client


def vector(text: str, size: int = 26) -> list[float]:
    return list(letters(text, size))


def refusal(wire: Wire, op: str, body: dict[str, Any], model: str | None) -> dict[str, Any]:
    wire.send({"t": "request", "ref": 1, "op": op, "body": body, "model": model})
    return wire.until("failed")[-1]


def test_what_a_model_does_not_take_is_refused_and_loads_nothing() -> None:
    with DaemonFixture(CONFIG) as daemon, Wire(daemon.socket) as wire:  # in which no other test has loaded anything
        assert "embed" in wire.welcome["ops"]
        chat = {"messages": [{"role": "user", "content": "hi"}]}
        for op, body, model, able in (
            ("chat", chat, "mini", "talker"),
            ("complete", {"prompt": "hi"}, "vectors", "talker"),
            ("embed", {"input": ["hi"]}, None, "mini or slow"),
        ):
            failed = refusal(wire, op, body, model)
            assert (failed["code"], failed["at"], failed["fault"]) == ("unsupported", "op", "client")
            assert op in failed["message"] and able in failed["hint"]
        models = {one["name"]: one for one in wire.call("models")["models"]}
        assert {one["state"] for one in models.values()} == {"cold"}
        assert (models["mini"]["ops"], models["talker"]["ops"]) == (["embed"], ["chat", "complete"])


def test_vectors_come_whole_and_are_counted(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as wire:
        before = wire.call("show", model="mini")["prompt_tokens"]
        for stream in (True, False):
            wire.send({"t": "request", "ref": 2, "op": "embed", "body": {"input": TEXTS}, "model": "mini", "stream": stream, "credit": 0})  # fmt: skip  # noqa: E501
            done = wire.until("done", "failed", "chunk")[-1]
            assert done["t"] == "done", done
            assert done["result"] == {"vectors": [vector(text) for text in TEXTS]}
            assert (done["finish"], done["usage"]) == ("stop", {"prompt": 7, "cached": 0, "completion": 0})
            assert done["model"]["name"] == "mini"
        wait_until(lambda: wire.call("show", model="mini")["prompt_tokens"] == before + 14)
        assert wire.call("show", model="mini")["state"] == "ready"


def test_a_text_that_is_too_long_is_refused_by_its_index(client: Client) -> None:
    with pytest.raises(Refused, match=r"input\[1\] has 17 tokens, and the model takes 16") as refused:
        client.embed(["short", "a b c d e f g h i j k l m n o p q"], model="mini")
    assert (refused.value.code, refused.value.at) == ("prompt_too_long", "body.input[1]")
    with pytest.raises(Refused, match="1000 vectors") as refused:
        client.embed(["a"] * 1000, model="mini", dimensions=1000)
    assert refused.value.code == "too_large" and "at most 837 at once" in refused.value.hint


def test_the_clients_return_vectors(daemon: DaemonFixture, client: Client) -> None:
    found = client.embed(["an owl"], model="mini", dimensions=3)
    assert found.vectors == [vector("an owl", 3)]
    assert (found.usage.prompt, found.model.name) == (2, "mini")
    with pytest.raises(Refused):
        client.embed([], model="mini")

    async def ask() -> list[list[float]]:
        async with AsyncClient(str(daemon.socket)) as client:
            return (await client.embed(TEXTS, model="mini")).vectors

    assert asyncio.run(ask()) == [vector(text) for text in TEXTS]


def test_a_request_for_vectors_is_cancelled_and_kept_like_any_other(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as wire:
        ask = {"t": "request", "op": "embed", "body": {"input": ["an owl"]}}
        wire.send({**ask, "ref": 3, "model": "slow"})
        id = wire.until("accepted")[-1]["id"]
        wire.call("load", model="slow")
        wire.send({"t": "cancel", "ref": 4, "id": id})
        assert next(one for one in iter(wire.receive, None) if one["t"] == "failed")["code"] == "cancelled"
        wire.send({**ask, "ref": 5, "model": "mini", "detach": True})
        kept = wire.until("done")[-1]
        wire.send({"t": "attach", "ref": 6, "id": kept["id"]})
        assert wire.until("done")[-1]["result"] == {"vectors": [vector("an owl")]}


def test_hooks_see_the_texts_and_may_change_or_refuse_them(daemon: DaemonFixture, client: Client) -> None:
    told: list[Any] = []
    heard = Event()

    def shorter(messages: Any, call: Any) -> Any:
        assert (call.op, {one["role"] for one in messages}) == ("embed", {"input"})
        words = [one["content"].split()[0] for one in messages]
        if words[0] == "fewer":
            return changed(messages[:1])
        if words[0] == "answer":
            return answered("it is forty-two")
        return changed([{"role": "input", "content": word} for word in words])

    def never(answer: Any, call: Any) -> None:
        raise AssertionError("there is no text to be shown")

    def seen(answer: Any, call: Any) -> None:
        told.append(answer)
        heard.set()

    offer = {"deadline_ms": 10_000}
    hooks = (
        Hook("shorter", {"prompt": shorter}, offer),
        Hook("never", {"answer": never}, offer | {"on_error": "refuse"}),
        Hook("seen", {"observe": seen}, offer),
    )
    with Provider(*hooks, socket=str(daemon.socket)):
        found = client.embed(TEXTS, model="mini")
        assert found.vectors == [vector("an"), vector("one"), vector("an")]
        assert [one["name"] for one in found.hooks] == ["shorter", "seen"]
        assert heard.wait(30)
        assert told[0]["text"] == "" and [one["content"] for one in told[0]["messages"]] == ["an", "one", "an"]
        kept = client.embed(["fewer x", "y"], model="mini")
        assert kept.vectors == [vector("fewer x"), vector("y")], "a list of another length is a failure of the hook"
        with pytest.raises(Refused, match=r"shorter.*vectors") as refused:
            client.embed(["answer x"], model="mini")
        assert refused.value.code == "refused_by_hook"


def test_the_command_prints_a_vector_a_line(daemon: DaemonFixture) -> None:
    ran = daemon.cli("embed", "-m", "mini", "an owl", "a cat")
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [vector("an owl"), vector("a cat")], ran.stderr
    ran = daemon.cli("embed", "-m", "mini", "--lines", "--json", input="an owl\n\na cat\n")
    whole = json.loads(ran.stdout)
    assert whole["vectors"] == [vector("an owl"), vector("a cat")]
    assert (whole["usage"]["prompt"], whole["model"]["name"]) == (4, "mini")
    piped = daemon.cli("embed", "-m", "mini", "-v", input="an owl\n")
    assert json.loads(piped.stdout) == vector("an owl") and "2 prompt" in piped.stderr
    wrong = daemon.cli("embed", "an owl")
    assert wrong.returncode == 4 and "ask mini or slow" in wrong.stderr, wrong.stderr
    assert daemon.cli("embed").returncode == 2
