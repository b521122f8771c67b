"""Streams of a real daemon: every accepted request ends once, slow readers cost little, text is exact."""

import time
from typing import Any

import pytest
from ingled.testing import DaemonFixture, Wire


def wait_for(check: Any, seconds: float = 60.0) -> float:
    """Ask again and again until it is so; returns the seconds that it took."""
    begin = time.monotonic()
    while not check():
        assert time.monotonic() - begin < seconds, "it did not come true"
        time.sleep(0.005)
    return time.monotonic() - begin


def words(count: int) -> str:
    return " ".join(f"word{i}" for i in range(count))


def test_an_answer_comes_whole_and_ends_once(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        text, end = client.read(client.ask("one two three"))
        assert text == "one two three"
        assert (end["t"], end["finish"], end["usage"]["completion"]) == ("done", "stop", 3)
        assert end["model"]["name"] == "echo"
        assert set(end["ms"]) == {"queued", "load", "first", "total"}
        assert client.call("requests") == {"requests": []}


def test_a_request_that_is_not_streamed_has_its_text_in_the_end(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        client.ask("one two", stream=False, credit=0)
        end = client.until("done")[-1]
        assert end["result"]["text"] == "one two"


def test_a_hundred_readers_that_stop_cost_little_and_get_every_character(daemon: DaemonFixture) -> None:
    text = words(1000)
    with Wire(daemon.socket) as other:
        before = other.call("status")["daemon"]["rss_bytes"]
        readers = [Wire(daemon.socket) for _ in range(100)]
        ids = [reader.ask(text, body={"max_tokens": 1000}) for reader in readers]
        wait_for(lambda: other.call("status")["requests"]["running"] == 100)
        wait_for(lambda: all(m["waiting"] == 0 for m in other.call("models")["models"]))
        grown = other.call("status")["daemon"]["rss_bytes"] - before
        assert grown < 8 << 20, f"{grown} bytes for 100 readers that do not read"
        for reader, id in zip(readers, ids, strict=True):
            got, end = reader.read(id)
            assert got == text
            assert end["usage"]["completion"] == 1000
            reader.close()


def test_text_that_waits_for_a_reader_is_merged(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        id = client.ask(words(2000), model="slow", credit=1)
        other.send({"t": "attach", "ref": 1, "id": "none", "offset": 0})
        assert other.receive()["code"] == "no_such_request"
        chunk, pause = client.until("chunk")[-1], 0.1
        while len(chunk["x"].split()) <= 10:
            assert pause < 30, "text does not merge, however long its reader does nothing"
            time.sleep(pause)  # that is the case to test
            client.send({"t": "credit", "id": id, "n": 1, "ack": chunk["o"] + len(chunk["x"])})
            chunk, pause = client.until("chunk")[-1], 2 * pause
        client.send({"t": "cancel", "ref": 2, "id": id})
        client.until("result")


def test_cancel_from_another_connection_ends_the_request(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        id = client.ask(words(1000), model="slow")
        client.until("chunk")
        other.send({"t": "cancel", "ref": 5, "id": id})
        assert other.until("result")[-1]["value"] == {"cancelled": True, "state": "running"}
        end = client.until("failed", "done")[-1]
        assert (end["id"], end["code"]) == (id, "cancelled")
        wait_for(lambda: other.call("models")["models"][1]["running"] == 0)
        other.send({"t": "cancel", "ref": 6, "id": id})
        assert other.until("failed")[-1]["code"] == "no_such_request"


@pytest.mark.parametrize("how", ["vanishes", "says bye"])
def test_what_a_gone_client_ran_is_aborted(daemon: DaemonFixture, how: str) -> None:
    with Wire(daemon.socket) as other:
        client = Wire(daemon.socket)
        client.ask(words(2000), model="slow", grace_ms=0 if how == "vanishes" else 60_000)
        client.until("chunk")
        if how == "says bye":
            client.send({"t": "bye"})
        else:
            client.close()
        wait_for(lambda: other.call("status")["requests"]["running"] == 0)
        client.close()


def test_a_client_that_is_paused_is_not_gone(daemon: DaemonFixture) -> None:
    text = words(300)
    with Wire(daemon.socket) as client:
        id = client.ask(text, model="slow", body={"max_tokens": 300})
        time.sleep(3)  # longer than a vanished client's requests live
        got, end = client.read(id)
        assert (got, end["t"]) == (text, "done")


def test_grace_lets_a_client_come_back_to_the_exact_character(daemon: DaemonFixture) -> None:
    text = words(400)
    client = Wire(daemon.socket)
    token = client.welcome["token"]
    id = client.ask(text, model="slow", grace_ms=60_000, body={"max_tokens": 400})
    got = ""
    while len(got) < 200:
        chunk = client.until("chunk")[-1]
        got += chunk["x"]
        client.send({"t": "credit", "id": id, "n": 1, "ack": len(got)})
    client.close()
    with Wire(daemon.socket, hello={"token": token}) as again:
        assert again.welcome["resumed"] is True
        again.send({"t": "attach", "ref": 1, "id": id, "offset": len(got)})
        assert again.until("accepted", "failed")[-1]["t"] == "accepted"
        rest, end = again.read(id, ack=len(got))
        assert got + rest == text
        assert end["t"] == "done"


def test_grace_runs_out(daemon: DaemonFixture) -> None:
    client = Wire(daemon.socket)
    client.ask(words(2000), model="slow", grace_ms=200)
    client.close()
    with Wire(daemon.socket) as other:
        wait_for(lambda: other.call("requests")["requests"] == [])


def test_a_detached_answer_can_be_read_by_another_connection_from_any_offset(daemon: DaemonFixture) -> None:
    text = words(100)
    client = Wire(daemon.socket)
    id = client.ask(text, detach=True, credit=0, body={"max_tokens": 100})
    client.send({"t": "bye"})
    client.close()
    with Wire(daemon.socket) as other:
        wait_for(lambda: [r["state"] for r in other.call("requests")["requests"] if r["id"] == id] == ["kept"])
        for offset in (0, 7, len(text)):
            other.send({"t": "attach", "ref": 1, "id": id, "offset": offset})
            got, end = other.read(id, ack=offset)
            assert got == text[offset:]
            assert end["t"] == "done"
        other.send({"t": "attach", "ref": 2, "id": id, "offset": len(text) + 1})
        assert other.until("failed")[-1]["at"] == "offset"
        other.send({"t": "cancel", "ref": 3, "id": id})
        other.until("result")


def test_who_takes_a_stream_over_is_told_to_the_one_that_had_it(daemon: DaemonFixture) -> None:
    text = words(300)
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        id = client.ask(text, model="slow", body={"max_tokens": 300})
        client.until("chunk")
        other.send({"t": "attach", "ref": 1, "id": id, "offset": 0})
        assert client.until("failed")[-1]["code"] == "conflict"
        got, _ = other.read(id)
        assert got == text


def test_a_deadline_ends_a_request(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        id = client.ask(words(2000), model="slow", deadline_ms=100)
        _, end = client.read(id)
        assert end["code"] == "deadline"


def test_a_request_that_kills_every_worker_is_ended_and_others_are_served(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        _, end = client.read(client.ask(words(10), model="dying"))
        assert end["code"] == "worker_died"
        assert "died 4 times under this request" in end["message"]
        assert client.read(client.ask("still here"))[0] == "still here"


def test_a_model_that_cannot_be_loaded_says_why(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        _, end = client.read(client.ask("x", model="broken"))
        assert end["code"] == "load_failed"
        assert "broken" in end["message"]
        shown = client.call("show", model="broken")
        assert shown["state"] == "failed"
        assert shown["why"]
        assert any("loading -> failed" in line for line in shown["story"])
        for verb in (["ps"], ["show", "broken"]):
            told = daemon.cli(*verb).stdout
            assert shown["why"] in told and "`ingle load broken` tries again" in told
        with pytest.raises(RuntimeError, match="retry_after_ms"):
            client.ask("x", model="broken")


def test_load_unload_and_events(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        other.send({"t": "subscribe", "ref": 1, "topics": ["model"], "credit": 200})
        subscription = other.until("accepted")[-1]["id"]
        assert client.call("load", model="small") == {"model": "small", "state": "ready"}
        assert [next_state(other, "small") for _ in range(2)] == ["loading", "ready"]
        assert client.call("unload", model="small") == {"model": "small", "state": "cold"}
        assert [next_state(other, "small") for _ in range(2)] == ["stopping", "cold"]
        other.send({"t": "cancel", "ref": 2, "id": subscription})
        assert other.until("result")[-1]["value"]["state"] == "subscribed"


def next_state(client: Wire, model: str) -> str:
    """Return what the next event of this model says: others may still be busy with what earlier tests asked of them."""
    while (value := client.until("event")[-1]["value"])["model"] != model:
        pass
    return str(value["state"])


def test_events_without_credit_are_counted_as_lost(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        other.send({"t": "subscribe", "ref": 1, "topics": ["request"], "credit": 0})
        id = other.until("accepted")[-1]["id"]
        client.read(client.ask("x"))
        other.send({"t": "credit", "id": id, "n": 16, "ack": 0})
        other.call("status")  # the credit has been taken now
        client.read(client.ask("y"))
        event = other.until("event")[-1]
        assert event["lost"] > 0
        assert event["value"]["account"].startswith("uid:")
