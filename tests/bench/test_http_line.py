"""The lean HTTP client, against bytes as servers send them."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bench.http_line import HttpLine, request

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(**fields: Any) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


def text(content: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": content}}])


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3})
END = b"data: [DONE]\n\n"


@contextmanager
def server(*writes: bytes, tells_usage: bool = True) -> Iterator[tuple[HttpLine, list[threading.Event]]]:
    """A server that answers with these writes, each as soon as its event is set."""
    listener = socket.create_server(("127.0.0.1", 0))
    turns = [threading.Event() for _ in writes]

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            for turn, data in zip(turns, writes, strict=True):
                turn.wait(20)
                connection.sendall(data)
            with contextlib.suppress(ConnectionError):  # the client may leave without reading all
                connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    line = HttpLine(listener.getsockname()[1], "bench", tells_usage=tells_usage)
    line.ask("hi", 3, True)
    try:
        yield line, turns
    finally:
        for turn in turns:
            turn.set()
        line.close()
        thread.join(20)
        listener.close()


def test_pieces_of_a_stream_are_counted_as_they_come() -> None:
    writes = [HEAD + chunk(ROLE), chunk(text("a")), chunk(text("b")) + chunk(text("c")), chunk(USAGE) + chunk(END)]
    with server(*writes, b"0\r\n\r\n") as (line, turns):
        seen = []
        for turn in turns:
            turn.set()
            seen.append(line.read())
    assert [pieces for pieces, _ in seen] == [0, 1, 2, 1, 0]
    assert [over for _, over in seen] == [None] * 4 + [(7, 3)]


@pytest.mark.parametrize(("reason", "tokens"), [("length", 3), ("stop", 0)])
def test_without_usage_an_answer_is_whole_when_it_ended_for_its_length(reason: str, tokens: int) -> None:
    over = event(choices=[{"index": 0, "delta": {}, "finish_reason": reason}])
    stream = HEAD + chunk(ROLE + text("a")) + chunk(text("b")) + chunk(over) + chunk(END) + b"0\r\n\r\n"
    with server(stream, tells_usage=False) as (line, turns):
        turns[0].set()
        while (got := line.read())[1] is None:
            pass
    assert got[1] == (0, tokens)


def test_a_whole_stream_in_one_read_is_complete() -> None:
    with server(HEAD + chunk(ROLE + text("a") + text("b") + USAGE + END) + b"0\r\n\r\n") as (line, turns):
        turns[0].set()
        pieces, over = line.read()
    assert over == (7, 3)
    assert pieces >= 1


def test_an_event_that_comes_in_two_reads_is_counted_once() -> None:
    half = chunk(text("b"))
    with server(HEAD + chunk(text("a")), half[:20], half[20:]) as (line, turns):
        seen = []
        for turn in turns:
            turn.set()
            seen.append(line.read()[0])
    assert seen == [1, 0, 1]


def test_a_refusal_is_raised_with_what_the_server_said() -> None:
    with server(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nno!") as (line, turns):
        turns[0].set()
        with pytest.raises(RuntimeError, match="no!"):
            line.read()


def test_an_answer_that_is_not_streamed_is_complete_with_its_last_byte() -> None:
    body = json.dumps({"usage": {"prompt_tokens": 7, "completion_tokens": 3}}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with server(head + body[:10], body[10:]) as (line, turns):
        line.ask("hi", 3, False)
        turns[0].set()
        assert line.read() == (0, None)
        turns[1].set()
        assert line.read() == (0, (7, 3))


def test_a_request_asks_for_greedy_answers_of_full_length() -> None:
    head, _, body = request("bench", "hi", 128, True).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    asked = json.loads(body)
    assert (asked["temperature"], asked["ignore_eos"], asked["max_tokens"], asked["stream"]) == (0, True, 128, True)
