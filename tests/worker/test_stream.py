"""Cutting text into chunks, and a stream's account."""

from typing import Any

import msgspec
import pytest
from ingle.wire.limits import CHUNK_BYTES, FRAME_BYTES
from ingled.link import Piece, Run
from ingled.worker.engine import Delta, End
from ingled.worker.stream import Stream, cut
from msgspec import Raw

TEXTS = ["", "a", "é" * 40_000, "x" * CHUNK_BYTES, "x" * (CHUNK_BYTES + 1), "a€😀" * 50_000, "😀" * 16_385]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_cut_keeps_the_text_in_chunks_that_are_small_enough(text: str) -> None:
    parts = [part for part, _ in cut(text, None)]
    assert "".join(parts) == text
    assert all(len(part.encode()) <= CHUNK_BYTES for part in parts)
    assert text == "" or all(parts)


@pytest.mark.parametrize("count", [1, 10, 3000])
def test_logprobs_are_shared_out_in_order_and_fit_a_message(count: int) -> None:
    top = [{"token": f"word {index}", "logprob": -1.0} for index in range(20)]
    logprobs: list[dict[str, Any]] = [{"token": "é", "logprob": float(index), "top": top} for index in range(count)]
    parts = cut("é" * count, logprobs)
    assert "".join(text for text, _ in parts) == "é" * count
    assert [one for _, some in parts for one in some or []] == logprobs
    assert all(len(msgspec.msgpack.encode(some)) < FRAME_BYTES // 2 for _, some in parts)


class Made:
    """An answer that has these deltas."""

    def __init__(self, *deltas: Delta) -> None:
        self._deltas = list(deltas)

    def take(self) -> Delta | None:
        return self._deltas.pop(0) if self._deltas else None

    def abort(self) -> None: ...

    def close(self) -> None: ...


def sent(stream: Stream, *deltas: Delta) -> list[Piece]:
    """Return what goes out of a stream when its answer has these deltas."""
    stream.answer = Made(*deltas)
    found: list[Piece] = []
    stream.advance(found.append)
    return found


def a_run(credit: int) -> Run:
    return Run("r", "chat", Raw(b""), True, credit, "salt")


def test_tokens_without_text_wait_for_the_next_text() -> None:
    stream = Stream(a_run(5))
    assert sent(stream, Delta("", [1])) == [] and stream.empty
    (piece,) = sent(stream, Delta("é", [2]))
    assert (piece.size, piece.tokens, stream.offset, stream.credit) == (2, [1, 2], 2, 4)


def test_tokens_without_text_at_the_end_come_with_their_details_in_a_last_chunk() -> None:
    stream = Stream(a_run(2))
    half = [{"token": "", "logprob": -1.0, "top": []}]
    end = End("length", 1, 0, 3)
    first, last = sent(stream, Delta("a", [1]), Delta("", [2]), Delta("", [3], end=end))
    assert (first.tokens, last.tokens, last.offset, last.size, last.payload) == ([1], [2, 3], 1, 0, b"")
    assert stream.credit == 1, "there is nothing for the reader in it"
    stream = Stream(a_run(1))
    (first,) = sent(stream, Delta("a", [1], half), Delta("", [2], half), Delta("", [3], half, end))
    assert stream.last is None, "the reader has no credit for the last chunk"
    found: list[Piece] = []
    stream.grant(1, 0)
    stream.advance(found.append)
    (last,) = found
    assert msgspec.msgpack.decode(last.payload) == {"t": "chunk", "id": "r", "o": 1, "x": "", "p": half * 2}
    assert stream.last is not None and (last.tokens, last.size) == ([2, 3], 0)


def test_an_aborted_stream_throws_away_what_comes() -> None:
    stream = Stream(a_run(1))
    text = "x" * (CHUNK_BYTES + 1)
    assert len(sent(stream, Delta(text, [1]))) == 1 and not stream.empty
    stream.abort()
    end = Delta("more", [2], end=End("abort", 1, 0, 2))
    assert sent(stream, Delta("more", [2]), end) == [] and stream.empty
    assert stream.last is end


def test_without_credit_nothing_is_taken() -> None:
    stream = Stream(a_run(1))
    deltas = [Delta("one ", [1]), Delta("two ", [2]), Delta("three", [3], end=End("stop", 1, 0, 3))]
    assert [piece.tokens for piece in sent(stream, *deltas)] == [[1]]
    found: list[Piece] = []
    stream.grant(1, 0)
    assert stream.advance(found.append) is None and [piece.tokens for piece in found] == [[2]]
    stream.grant(1, 0)
    assert stream.advance(found.append) is deltas[2] and [piece.offset for piece in found] == [4, 8]


def test_text_of_an_earlier_worker_is_held_until_it_is_acknowledged() -> None:
    earlier = [Piece("r", 0, 4, [], b"one "), Piece("r", 4, 4, [], b"two ")]
    stream = Stream(Run("r", "chat", Raw(b""), True, 9, "salt", b"", 0, [1, 2], 8, earlier))
    assert [piece.offset for piece in sent(stream, Delta("three", [3]))] == [8]
    held = stream.account()
    assert (held.offset, held.tokens, len(stream.held)) == (0, [1, 2], 3)
    stream.grant(0, 8)
    held = stream.account()
    assert (held.offset, held.tokens, len(stream.held)) == (8, [1, 2], 1)
    stream.grant(0, 13)
    assert (stream.account().offset, stream.account().tokens) == (13, [1, 2, 3])
