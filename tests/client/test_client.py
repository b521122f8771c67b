"""The blocking client against a real ROUTER."""

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ingle import (
    Cancelled,
    Client,
    DaemonFailed,
    NoSuchModel,
    Progress,
    PromptTooLong,
    ProtocolError,
    Refused,
    Unreachable,
    line,
)
from ingle.wire.codec import pack
from ingle.zmtp import Dealer

from tests.client.answers import TEXT


@pytest.fixture
def client(daemon: Any) -> Any:
    with Client(daemon.path) as client:
        yield client


def test_a_whole_answer(client: Client, daemon: Any) -> None:
    seen: list[Progress] = []
    answer = client.chat("hi", system="be brief", model="tiny", seed=1, priority=3, on_progress=seen.append)
    assert answer.text == TEXT
    assert (answer.finish, answer.usage.cached, answer.model.name, answer.id) == ("stop", 1, "tiny", "r1")
    assert answer.ms.first == 4.5
    assert seen == [Progress(phase="loading", percent=40)]
    request = daemon.wait_for("request")
    assert request["body"]["messages"][0] == {"role": "system", "content": "be brief"}
    assert (request["body"]["seed"], request["priority"], request["stream"]) == (1, 3, False)


def test_a_stream_gives_every_piece_and_then_the_answer(client: Client) -> None:
    with client.chat([{"role": "user", "content": "hi"}], stream=True) as stream:
        assert stream.id == "r1"
        with pytest.raises(ValueError, match="not ended"):
            _ = stream.answer
        deltas = list(stream)
    assert len(deltas) == 48  # far more than one window of credit
    assert "".join(delta.text for delta in deltas) == TEXT == stream.text == stream.answer.text
    assert deltas[4].offset == len("Once upon a tïme ".encode())
    assert stream.read() is stream.answer


def test_complete_and_interleaved_streams(client: Client) -> None:
    first, second = client.complete("a", stream=True), client.chat("b", stream=True)
    text = ["", ""]
    for one, two in zip(first, second, strict=True):
        text[0] += one.text
        text[1] += two.text
    assert text == [TEXT, TEXT]
    assert client.complete("say:x").text == "x"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("no_such_model", NoSuchModel),
        ("prompt_too_long", PromptTooLong),
        ("bad_value", Refused),
        ("internal", DaemonFailed),
    ],
)
def test_failures_have_types(client: Client, code: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        client.chat(f"fail:{code}")
    assert caught.value.hint == "do x"  # type: ignore[attr-defined]


def test_cancelling_ends_the_stream(client: Client, daemon: Any) -> None:
    stream = client.chat("forever", stream=True)
    next(stream)
    stream.cancel()
    with pytest.raises(Cancelled):
        stream.read()
    assert stream.text
    assert daemon.wait_for("cancel")["id"] == stream.id
    stream.cancel()  # nothing left to cancel
    assert client.cancel("nobody") is False


def test_leaving_a_stream_early_cancels_it(client: Client, daemon: Any) -> None:
    with client.chat("forever", stream=True) as stream:
        next(stream)
    daemon.wait_for("cancel", id="r1")
    assert client.status().daemon.version == "9"


def test_streams_survive_a_restart(client: Client, daemon: Any) -> None:
    stream = client.chat("hi", stream=True)
    text = next(stream).text + next(stream).text
    daemon.restart()
    text += "".join(delta.text for delta in stream)
    assert text == TEXT
    assert daemon.wait_for("hello", 2)["token"] == "tok"
    daemon.wait_for("attach", id="r1")


def test_a_request_that_the_daemon_forgot_fails(client: Client, daemon: Any) -> None:
    stream = client.chat("hi", stream=True)
    next(stream)
    daemon.restart(forget=True)
    with pytest.raises(DaemonFailed, match="no longer knows request r1"):
        stream.read()


def hurry(client: Client) -> None:
    """Let a client that is connected wait no longer than a moment from now on."""
    client._line.timeout = client._line.session.patience = 0.2


def test_patience_ends(daemon: Any) -> None:
    with Client(daemon.path) as client:
        stream = client.chat("forever", stream=True)
        next(stream)
        hurry(client)
        daemon.down()
        with pytest.raises(Unreachable, match="gone") as caught:
            stream.read()
        assert caught.value.reason == "lost"
        daemon.up()


def test_a_silent_daemon_is_unreachable(daemon: Any) -> None:
    with Client(daemon.path) as client:
        hurry(client)
        daemon.silent.add("call")
        with pytest.raises(Unreachable) as caught:
            client.status()
        assert caught.value.reason == "silent"
    daemon.silent.add("hello")
    with pytest.raises(Unreachable) as caught:
        Client(daemon.path, timeout=0.2)
    assert caught.value.reason == "silent"


def test_nonsense_closes_the_client_for_good(client: Client, daemon: Any) -> None:
    client.status()
    daemon.raw(b"\xc1")
    with pytest.raises(ProtocolError):
        client.status()
    with pytest.raises(ProtocolError):
        client.status()


def test_attach_reads_from_an_offset(client: Client, daemon: Any) -> None:
    client.chat("hi")
    daemon.answers["r1"].streamed = True
    stream = client.attach("r1", 5)
    assert stream.read().text == TEXT[5:]
    with pytest.raises(Refused):
        client.attach("r77").read()


def test_typed_results(client: Client) -> None:
    client.chat("hi")
    status = client.status()
    assert (status.daemon.pid, status.protocol, status.nursery["state"]) == (5, (1, 0), "ready")
    tiny, cold = client.models()
    assert (tiny.kv_use, tiny.aliases, cold.state, cold.kv_use) == (0.25, ["t"], "cold", None)
    assert client.show("tiny").log == ["last words"]
    assert client.requests()[0].id == "r1"
    assert (client.load("tiny"), client.unload("tiny")) == ("ready", "cold")
    assert client.call("shutdown")["draining"] is True
    with pytest.raises(NoSuchModel):
        client.load("nobody")


def test_events(client: Client, daemon: Any) -> None:
    with client.events(["model"]) as events:
        daemon.wait_for("subscribe", topics=["model"])
        daemon.emit("model", {"model": "tiny", "state": "ready"})
        event = next(events)
        assert (event.topic, event.value["state"], event.lost) == ("model", "ready", 0)
    daemon.wait_for("cancel", id="s1")
    assert list(events) == [], "it was left"


def test_closing_says_bye_and_ends_everything(daemon: Any) -> None:
    client = Client(daemon.path, name="me", tags=["t"])
    client.close()
    client.close()
    assert daemon.wait_for("hello")["client"]["name"] == "me"
    daemon.wait_for("bye")
    with pytest.raises(Exception, match="closed"):
        client.status()


def lose(client: Client, daemon: Any) -> None:
    """Let the daemon go away, and the client know."""
    daemon.down()
    while client._line.session.state == "open":
        client._line._turn(time.monotonic() + 0.1)
    daemon.forget()


@pytest.mark.parametrize("ended", [False, True])
def test_a_daemon_that_was_away_hears_that_its_client_has_left(daemon: Any, ended: bool) -> None:
    client = Client(daemon.path)
    stream = client.chat("forever", stream=True)
    next(stream)
    lose(client, daemon)
    if ended:
        stream.close()
    daemon.up()
    client._line.close(60)
    daemon.wait_for("bye")
    cancel = ["cancel"] if ended else []
    assert [message["t"] for message in daemon.received] == ["hello", "attach", *cancel, "bye"]


def test_a_daemon_that_stays_away_is_not_waited_for_long(daemon: Any) -> None:
    client = Client(daemon.path)
    next(client.chat("forever", stream=True))
    lose(client, daemon)
    client._line.close(0.1)
    daemon.up()


def test_what_nobody_waits_for_is_not_asked_again(daemon: Any) -> None:
    with Client(daemon.path, timeout=60) as client:
        daemon.silent.add("call")
        client._line.timeout = 0.1
        with pytest.raises(Unreachable):
            client.load("tiny", wait=False)
        client._line.timeout = 60
        daemon.wait_for("call", verb="load")
        lose(client, daemon)
        daemon.silent.clear()
        daemon.up()
        client.status()
        assert [message["verb"] for message in daemon.received if message["t"] == "call"] == ["status"]


def test_a_request_that_the_daemon_has_not_taken_ends_with_its_client(daemon: Any) -> None:
    client = Client(daemon.path, timeout=60)
    daemon.silent.add("request")
    client.chat("forever", stream=True)
    daemon.wait_for("request")
    lose(client, daemon)
    daemon.up()
    client.close()
    with Client(daemon.path) as other:
        other.status()
        assert [message["t"] for message in daemon.received] == ["hello", "call"], "those of the other one"


def test_nobody_there(folder: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        Client(str(folder / "none"))
    assert (caught.value.reason, caught.value.socket) == ("absent", str(folder / "none"))


def leave_a_dead_socket(daemon: Any) -> None:
    """What a killed daemon leaves: the path of a socket on which nobody listens."""
    daemon.down()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(daemon.path)


def test_a_daemon_that_is_just_coming_back_is_waited_for(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_a_dead_socket(daemon)
    refused = threading.Event()

    def pause(seconds: float) -> None:
        refused.set()
        time.sleep(seconds)

    def come_back() -> None:
        refused.wait()
        daemon.up()

    monkeypatch.setattr(line, "sleep", pause)
    coming = threading.Thread(target=come_back)
    coming.start()
    with line.Line(daemon.path, timeout=60) as one:
        assert one.call("status")["daemon"]["pid"] == 5
    coming.join()


def test_a_dead_socket_refuses_for_a_while_and_no_longer(daemon: Any) -> None:
    leave_a_dead_socket(daemon)
    with pytest.raises(Unreachable) as caught:
        Client(daemon.path, timeout=0.1)
    assert caught.value.reason == "refused"
    daemon.up()


def test_a_daemon_that_is_none(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "http"))
        server.listen()

        def serve() -> None:
            with server.accept()[0] as peer:
                peer.recv(4096)  # what has come and is not read would reset the connection
                peer.send(b"HTTP/1.1 400")

        answer = threading.Thread(target=serve)
        answer.start()
        with pytest.raises(Unreachable) as caught:
            Client(str(folder / "http"))
        assert caught.value.reason == "foreign"
        answer.join()


def test_attach_takes_what_is_still_held(client: Client, daemon: Any) -> None:
    first = client.chat("hi", stream=True, detach=True)
    assert (first.read().text, first.offset) == (TEXT, 0)
    daemon.answers["r1"].begin = len("Once upon a tïme ".encode())
    stream = client.attach("r1")
    assert stream.offset is None
    assert next(stream).text == "there "
    assert stream.offset == 18
    assert stream.read().text == TEXT[17:]
    given = client.attach("r1", 18)
    assert (given.offset, given.read().text) == (18, TEXT[17:])
    with pytest.raises(Refused) as caught:
        client.attach("r1", 0).read()
    assert (caught.value.code, caught.value.at) == ("bad_value", "offset")
    assert caught.value.failed is not None and caught.value.failed["t"] == "failed"


def test_a_load_tells_its_progress(client: Client) -> None:
    seen: list[Progress] = []
    assert client.load("tiny", on_progress=seen.append) == "ready"
    assert [(progress.phase, progress.percent) for progress in seen] == [("loading", 70)]
    assert client.load("tiny") == "ready"
    assert client.load("tiny", wait=False, on_progress=seen.append) == "ready"
    assert len(seen) == 1

    def refuse(progress: Progress) -> None:
        raise KeyError(progress.phase)

    with pytest.raises(KeyError):
        client.load("tiny", on_progress=refuse)
    assert client.status().daemon.pid == 5


def test_too_large_a_prompt_is_refused_here(client: Client) -> None:
    with pytest.raises(Refused, match="limit"):
        client.chat("x" * (5 << 20))
    assert client.chat("say:ok").text == "ok"


def test_reasoning_and_logprobs(client: Client, daemon: Any) -> None:
    daemon.silent.add("request")
    stream = client.chat("hi", stream=True)
    ref = daemon.wait_for("request")["ref"]
    daemon.raw(pack({"t": "accepted", "ref": ref, "id": "q"}))
    daemon.raw(pack({"t": "chunk", "id": "q", "o": 0, "r": "hm", "p": [{"token": "hm"}]}))
    delta = next(stream)
    assert (delta.text, delta.reasoning, delta.logprobs) == ("", "hm", [{"token": "hm"}])


LAZY = """
import json, sys
{}
print(json.dumps([name for name in ("asyncio", "zmq", "msgspec", "argparse", "json.decoder", "dataclasses", "socket")
                  if name in sys.modules and name != "json"]))
"""


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import ingle", set()),
        ("from ingle import Client", {"msgspec"}),
        ("import ingle.line, ingle.cli.ask, ingle.cli.status, ingle.cli.ps, ingle.cli.cancel", set()),
    ],
)
def test_imports_stay_light(code: str, allowed: set[str]) -> None:
    path = str(Path(__file__).parents[2] / "client")
    lines = LAZY.format(f"sys.path.insert(0, {path!r})\n{code}")
    ran = subprocess.run([sys.executable, "-I", "-c", lines], capture_output=True, text=True, check=True)
    assert set(json.loads(ran.stdout)) - {"json.decoder"} <= allowed


def test_what_is_public_can_be_imported() -> None:
    import ingle

    assert all(getattr(ingle, name) is not None for name in ingle.__all__)
    assert set(ingle.__all__) <= set(dir(ingle))
    from ingle import results

    told = {name for name, one in vars(results).items() if isinstance(one, type) and one.__module__ == results.__name__}
    assert told - {"Transcript"} <= set(ingle.__all__), "whoever gets one can name its type"
    with pytest.raises(AttributeError):
        _ = ingle.nothing


def test_context_goes_along_and_a_trace_comes_back(daemon: Any) -> None:
    with Client(daemon.path, tags=["editor"]) as client:
        answer = client.chat("hi", context=[{"kind": "file", "text": "x", "name": "a.py"}], trace=True)
    assert answer.hooks[0]["after"][1]["content"].startswith("HI")
    request = daemon.wait_for("request", trace=True)
    assert request["context"] == [{"kind": "file", "text": "x", "name": "a.py"}]
    assert daemon.wait_for("hello")["client"]["tags"] == ["editor"]


def test_a_daemon_that_dies_as_somebody_connects_is_waited_for(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had accepted, and was killed before it was greeted."""
    dies = iter([BrokenPipeError, ConnectionResetError])

    class Dying(Dealer):
        def __init__(self, path: str) -> None:
            if (error := next(dies, None)) is not None:
                raise error
            super().__init__(path)

    monkeypatch.setattr(line, "Dealer", Dying)
    with line.Line(daemon.path, timeout=60) as one:
        assert one.call("status")["daemon"]["pid"] == 5
