"""A worker process with the echo engine against a broker that the test plays."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ingle.wire import limits
from ingled import link
from ingled.link import Spec
from ingled.testing_link import SECRET, LinkBroker, group_members, start_worker

Start = Callable[..., subprocess.Popen[bytes]]


def chat(text: str, **options: Any) -> msgspec.Raw:
    return link.pack_body({"messages": [{"role": "user", "content": text}], **options})


def ready(broker: LinkBroker) -> bytes:
    return broker.wait(link.Ready)[0]


def run(broker: LinkBroker, worker: bytes, text: str, *, id: str = "r", credit: int = 100, **more: Any) -> None:
    stream = more.pop("stream", True)
    broker.send(worker, link.Run(id, "chat", chat(text, **more), stream, credit, "salt"))


def take(broker: LinkBroker, count: int, id: str = "r") -> list[dict[str, Any]]:
    """Return the next chunks of a request, checked against what the broker is told of them."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        _, chunks = broker.wait(link.Chunks)
        for piece in chunks.pieces:
            if piece.id == id:
                found.append(msgspec.msgpack.decode(piece.payload))
                assert found[-1]["t"] == "chunk" and found[-1]["id"] == id
                assert len(found[-1]["x"].encode()) == piece.size
    assert len(found) == count, "more chunks than credit"
    return found


def texts(broker: LinkBroker, id: str = "r") -> str:
    """Return the text of a request in all chunks seen, and check that the offsets follow on each other."""
    text = b""
    for _, message in broker.seen:
        if isinstance(message, link.Chunks):
            for piece in message.pieces:
                if piece.id == id:
                    chunk = msgspec.msgpack.decode(piece.payload)
                    assert chunk["o"] == len(text)
                    text += chunk["x"].encode()
    return text.decode()


def test_a_worker_attaches_loads_and_is_ready(broker: LinkBroker, start: Start) -> None:
    process = start(load_ms=10)
    _, attach = broker.wait(link.Attach)
    assert (attach.secret, attach.role, attach.pid) == (SECRET, "worker", process.pid)
    assert attach.spec is not None and attach.spec.model == "m"
    _, info = broker.wait(link.Ready)
    assert info.info.engine == "echo" and info.info.load_s > 0.01
    phases = [message.phase for _, message in broker.seen if isinstance(message, link.Loading)]
    assert phases == ["configuring", "weights", "warming"]


def test_a_stream_is_chunks_and_an_end(broker: LinkBroker, start: Start) -> None:
    start()
    worker = ready(broker)
    run(broker, worker, "tell me a story")
    _, end = broker.wait(link.Ended)
    assert texts(broker) == "tell me a story"
    assert (end.id, end.finish, end.prompt, end.cached, end.completion) == ("r", "stop", 5, 0, 4)
    assert end.first_ms > 0 and end.result is None
    chunks = [message for _, message in broker.seen if isinstance(message, link.Chunks)]
    assert [token for chunk in chunks for piece in chunk.pieces for token in piece.tokens] == [0, 1, 2, 3]


def test_credit_is_kept_exactly_and_the_rest_merges(broker: LinkBroker, start: Start) -> None:
    start()
    worker = ready(broker)
    run(broker, worker, "a b c d e f", credit=2)
    assert [chunk["x"] for chunk in take(broker, 2)] == ["a ", "b "]
    broker.wait(link.Freed)
    broker.quiet(0.2)
    broker.send(worker, link.Credit({"r": (1, 0), "unknown": (3, 0)}))
    assert [chunk["x"] for chunk in take(broker, 1)] == ["c d e f"]
    assert broker.wait(link.Ended)[1].completion == 6


def test_a_place_is_free_when_the_engine_is_done_though_nobody_has_read(broker: LinkBroker, start: Start) -> None:
    start()
    worker = ready(broker)
    run(broker, worker, "a b", credit=0)
    freed = broker.wait(link.Freed)[1]
    assert (freed.id, freed.completion) == ("r", 2)
    broker.send(worker, link.Who())
    assert broker.wait(link.Attach)[1].held[0].id == "r"
    assert broker.wait(link.Freed)[1] == freed, "another broker is told too"
    broker.send(worker, link.Credit({"r": (9, 0)}))
    assert broker.wait(link.Ended)[1].completion == 2


def test_a_request_that_waits_is_held_until_it_is_told_to_begin(broker: LinkBroker, start: Start) -> None:
    start()
    worker = ready(broker)
    for id in ("r", "gone"):
        broker.send(worker, link.Run(id, "chat", chat("a b"), True, 9, "salt", waits=True))
    broker.send(worker, link.Abort(["gone"]))
    broker.quiet(0.2)
    broker.send(worker, link.Who())
    assert [(held.id, held.waits) for held in broker.wait(link.Attach)[1].held] == [("r", True)]
    for id in ("gone", "r", "r"):
        broker.send(worker, link.Begin(id, 7))
    assert broker.wait(link.Ended)[1].completion == 2
    broker.quiet(0.2)


def test_a_request_without_credit_waits_for_some(broker: LinkBroker, start: Start) -> None:
    start()
    worker = ready(broker)
    run(broker, worker, "a b", credit=0)
    broker.quiet(0.2)
    broker.send(worker, link.Credit({"r": (5, 0)}))
    broker.wait(link.Ended)
    assert texts(broker) == "a b"


def test_long_text_is_cut_between_characters_and_each_cut_costs_credit(broker: LinkBroker, start: Start) -> None:
    start()
    worker = ready(broker)
    text = "€" * 60_000  # 180,000 bytes, and 65,536 is no multiple of 3
    run(broker, worker, text, credit=2)
    sizes = [len(chunk["x"].encode()) for chunk in take(broker, 2)]
    assert max(sizes) <= limits.CHUNK_BYTES
    broker.quiet(0.2)
    broker.send(worker, link.Credit({"r": (1, 0)}))
    broker.wait(link.Ended)
    assert texts(broker) == text


def test_a_whole_answer_costs_no_credit(broker: LinkBroker, start: Start) -> None:
    start()
    worker = ready(broker)
    run(broker, worker, "a b", credit=0, stream=False, logprobs=True)
    _, end = broker.wait(link.Ended)
    assert end.result is not None and end.result["text"] == "a b"
    assert [one["token"] for one in end.result["logprobs"]] == ["a ", "b"]
    assert not any(isinstance(message, link.Chunks) for _, message in broker.seen)


def test_an_answer_too_large_for_a_message_is_refused(broker: LinkBroker, start: Start) -> None:
    start(context=1 << 20)
    worker = ready(broker)
    run(broker, worker, "x" * 50_000, stream=False, max_tokens=100, ignore_eos=True)
    _, failed = broker.wait(link.RunFailed)
    assert (failed.code, failed.hint) == ("too_large", "ask for a stream")


@pytest.mark.parametrize("credit", [0, 3, 1000])
def test_abort_ends_a_stream_at_once(broker: LinkBroker, start: Start, credit: int) -> None:
    start(delay_ms=2, tokens=100_000, context=200_000)
    worker = ready(broker)
    run(broker, worker, "a b", credit=credit)
    if credit:
        take(broker, 1)
    broker.send(worker, link.Abort(["r", "unknown"]))
    _, end = broker.wait(link.Ended)
    assert (end.finish, end.completion < 50_000) == ("abort", True)
    broker.quiet(0.2)


def test_abort_ends_a_whole_answer(broker: LinkBroker, start: Start) -> None:
    start(delay_ms=2, tokens=100_000, context=200_000)
    worker = ready(broker)
    run(broker, worker, "a b", stream=False)
    run(broker, worker, "a", id="other", max_tokens=1)
    broker.wait(link.Ended)
    broker.send(worker, link.Abort(["r"]))
    _, end = broker.wait(link.Ended)
    assert (end.id, end.finish, end.result) == ("r", "abort", None)


def test_many_streams_share_messages(broker: LinkBroker, start: Start) -> None:
    start(delay_ms=1)
    worker = ready(broker)
    for number in range(64):
        run(broker, worker, f"a b c d e {number}", id=str(number), credit=0)
    for _ in range(64):
        broker.wait(link.Freed)
    broker.send(worker, link.Credit({str(number): (9, 0) for number in range(64)}))
    for _ in range(64):
        assert broker.wait(link.Ended)[1].finish == "stop"
    for number in range(64):
        assert texts(broker, str(number)) == f"a b c d e {number}"
    messages = [message for _, message in broker.seen if isinstance(message, link.Chunks)]
    assert len(messages) < 64 / 2


def test_stats_come_while_there_is_work_and_once_after(broker: LinkBroker, start: Start) -> None:
    broker.grace = 1.0  # a tick is a quarter of it
    start(delay_ms=100, tokens=1000)
    worker = ready(broker)
    run(broker, worker, "a b c d e f")
    assert broker.wait(link.Stats)[1].running == 1
    broker.send(worker, link.Abort(["r"]))
    _, end = broker.wait(link.Ended)
    _, stats = broker.wait(link.Stats)
    assert (stats.running, stats.prompt_tokens, stats.completion_tokens) == (0, 7, end.completion)
    assert stats.rss_bytes > 1 << 20
    later = broker.pump(1.0)
    assert later is None or (isinstance(later[1], link.Stats) and later[1].work == stats.work), "of its memory alone"


def test_what_it_has_had_at_most_is_told_when_it_stops_and_whether_its_largest_batch_counts(
    broker: LinkBroker, runtime: Path
) -> None:
    for tokens, full in ((2, True), (1000, False)):
        spec = Spec("m", "echo", "", {"max_num_seqs": 1, "max_num_batched_tokens": tokens}, echo={"delay_ms": 1000})
        process = start_worker(runtime, spec)
        worker = ready(broker)
        run(broker, worker, "a b c d e f")
        while broker.wait(link.Stats)[1].running != 1:
            pass
        broker.send(worker, link.Stop())
        assert process.wait(30) == 0
        said = [message for _, message in iter(lambda: broker.pump(1.0), None)]
        assert any(stats.full for stats in said if isinstance(stats, link.Stats)) is full


@pytest.mark.parametrize(
    ("op", "body", "code"),
    [
        ("score", {}, "bad_value"),
        ("embed", {"input": []}, "bad_value"),
        ("chat", {"messages": 3}, "bad_value"),
        ("complete", {"prompt": ""}, "bad_value"),
    ],
)
def test_a_bad_body_is_refused_by_field(broker: LinkBroker, start: Start, op: str, body: Any, code: str) -> None:
    start()
    worker = ready(broker)
    broker.send(worker, link.Run("r", op, link.pack_body(body), True, 1, ""))
    _, failed = broker.wait(link.RunFailed)
    assert (failed.id, failed.code, failed.at) == ("r", code, "body")


def test_a_refusal_carries_the_engines_words(broker: LinkBroker, start: Start) -> None:
    start(context=3)
    worker = ready(broker)
    run(broker, worker, "a b c")
    _, failed = broker.wait(link.RunFailed)
    assert (failed.code, failed.fault) == ("prompt_too_long", "client")


def test_a_crashed_request_is_told_and_the_worker_serves_on(broker: LinkBroker, start: Start, runtime: Path) -> None:
    start(fail="crash", fail_at=1)
    worker = ready(broker)
    run(broker, worker, "a b")
    assert broker.wait(link.RunFailed)[1].code == "internal"
    assert "told to crash" in (runtime / "worker.log").read_text()
    run(broker, worker, "one", id="next")
    assert broker.wait(link.Ended)[1].id == "next"


def test_a_dead_engine_is_told_and_ends_the_worker(broker: LinkBroker, start: Start) -> None:
    process = start(fail="die", fail_at=3)
    worker = ready(broker)
    run(broker, worker, "a b c d e", id="one", credit=1)
    run(broker, worker, "a b c d e", id="two")
    assert broker.wait(link.EngineDied)[1] == link.EngineDied("the echo engine was told to die", killed=False)
    assert process.wait(60) == 1


def test_a_failed_load_names_the_reason(broker: LinkBroker, start: Start) -> None:
    process = start(fail="load")
    _, failed = broker.wait(link.LoadFailed)
    assert failed.reason == "the echo engine was told to fail"
    assert failed.log and "cannot be loaded" in failed.log[0]
    assert process.wait(60) == 1


def test_stop_ends_requests_and_leaves_nothing(broker: LinkBroker, start: Start, runtime: Path) -> None:
    process = start(delay_ms=10, tokens=1000)
    worker = ready(broker)
    run(broker, worker, "a b")
    take(broker, 1)
    broker.send(worker, link.Stop())
    assert process.wait(60) == 0
    assert group_members(process.pid) == []
    assert list((runtime / "workers").iterdir()) == []


def test_sigterm_is_stop(broker: LinkBroker, start: Start) -> None:
    process = start()
    ready(broker)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 0


def test_stop_while_loading(broker: LinkBroker, start: Start) -> None:
    process = start(load_ms=600_000)
    worker, _ = broker.wait(link.Attach)
    broker.send(worker, link.Stop())
    assert process.wait(60) == 0


def test_a_worker_ends_when_no_broker_renews_its_lease(broker: LinkBroker, start: Start, runtime: Path) -> None:
    broker.grace = 1.0
    process = start()
    ready(broker)
    broker.answers = False
    assert process.wait(60) == 0
    assert list((runtime / "workers").iterdir()) == []


def test_a_worker_that_was_paused_lives_on(broker: LinkBroker, start: Start) -> None:
    broker.grace = 1.0
    process = start()
    worker = ready(broker)
    os.kill(process.pid, signal.SIGSTOP)
    broker.quiet(2.0)
    os.kill(process.pid, signal.SIGCONT)
    run(broker, worker, "still here")
    broker.wait(link.Ended)
    assert process.poll() is None


def pieces(broker: LinkBroker) -> list[tuple[int, list[int]]]:
    return [(piece.offset, piece.tokens) for piece in broker.wait(link.Chunks)[1].pieces]


def test_who_makes_a_worker_attach_again_with_what_is_not_acknowledged(broker: LinkBroker, start: Start) -> None:
    start(delay_ms=20, tokens=1000)
    worker = ready(broker)
    run(broker, worker, "a b", credit=3)
    take(broker, 3)
    broker.send(worker, link.Credit({"r": (0, 3)}))
    broker.send(worker, link.Who())
    (held,) = broker.wait(link.Attach)[1].held
    assert (held.id, held.op, held.offset, held.tokens) == ("r", "chat", 2, [0])
    assert pieces(broker) == [(2, [1]), (4, [2])]
    assert broker.wait(link.Ready)[1].info.engine == "echo"


def test_a_worker_finds_the_next_broker(runtime: Path, start: Start, broker: LinkBroker) -> None:
    start(delay_ms=20, tokens=1000)
    worker = ready(broker)
    run(broker, worker, "a b", credit=2)
    take(broker, 2)
    broker.close()
    with LinkBroker(runtime) as successor:
        worker = successor.pump_unknown()
        successor.send(worker, link.Who())
        worker, attach = successor.wait(link.Attach)
        assert [(held.id, held.offset) for held in attach.held] == [("r", 0)]
        assert pieces(successor) == [(0, [0]), (2, [1])]
        successor.send(worker, link.Credit({"r": (1, 0)}))
        take(successor, 1)


def test_an_end_is_held_until_it_is_released(broker: LinkBroker, start: Start) -> None:
    start()
    worker = ready(broker)
    run(broker, worker, "a b")
    broker.wait(link.Ended)
    broker.send(worker, link.Who())
    assert [held.id for held in broker.wait(link.Attach)[1].held] == ["r"]
    assert [offset for offset, _ in pieces(broker)] == [0, 2]
    assert broker.wait(link.Ended)[1].completion == 2
    broker.send(worker, link.Release(["r", "unknown"]))
    broker.send(worker, link.Who())
    assert broker.wait(link.Attach)[1].held == []


def test_a_request_goes_on_behind_the_tokens_of_an_earlier_engine(broker: LinkBroker, start: Start) -> None:
    start()
    worker = ready(broker)
    body = chat("one two three four")
    # Of the second token's text only one byte had been sent.
    broker.send(worker, link.Run("r", "chat", body, True, 9, "salt", b"", 0, [0, 1], 5))
    end = broker.wait(link.Ended)[1]
    sent = [piece for _, m in broker.seen if isinstance(m, link.Chunks) for piece in m.pieces]
    assert sent[0].offset == 5
    assert "".join(msgspec.msgpack.decode(piece.payload)["x"] for piece in sent) == "wo three four"
    assert (end.completion, end.finish) == (4, "stop")


MEMORY = {"weights": 30 << 20, "kv_cache": 60 << 20, "process": 7 << 20}


def test_a_worker_sleeps_says_so_to_a_new_broker_and_wakes(broker: LinkBroker, start: Start) -> None:
    start(sleep="works", memory=MEMORY)
    worker, first = broker.wait(link.Ready)
    info = first.info
    assert (info.no_sleep, info.device_weights, info.taken_bytes, first.woke) == ("", 30 << 20, 97 << 20, None)
    broker.send(worker, link.Sleep(2))
    _, asleep = broker.wait(link.Asleep)
    assert (asleep.level, asleep.left_bytes, asleep.freed_bytes, asleep.info) == (2, 7 << 20, 90 << 20, info)
    broker.send(worker, link.Sleep(2))
    assert broker.wait(link.Asleep)[1] == asleep, "an order that is given twice is answered twice"
    broker.send(worker, link.Who())
    assert broker.wait(link.Attach)[0] == worker
    assert broker.wait(link.Asleep)[1] == asleep
    broker.send(worker, link.Wake())
    _, again = broker.wait(link.Ready)
    assert again.woke is not None and (again.woke.level, again.woke.taken_bytes) == (2, 97 << 20)
    run(broker, worker, "good morning")
    broker.wait(link.Ended)
    assert texts(broker) == "good morning"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("raises", "it could not sleep at level 1: the echo engine was told not to sleep"),
        ("keeps", "asleep at level 1 it gave back 0 MiB of 90 MiB"),
        ("changes", "awake from level 1 it answered the same prompt differently than before"),
    ],
)
def test_a_worker_that_cannot_sleep_says_why_and_ends(broker: LinkBroker, start: Start, how: str, why: str) -> None:
    process = start(sleep=how, memory=MEMORY)
    worker = ready(broker)
    broker.send(worker, link.Sleep(1))
    if how == "changes":
        broker.wait(link.Asleep)
        broker.send(worker, link.Wake())
    assert broker.wait(link.SleepFailed)[1].reason == why
    assert process.wait(60) == 1
