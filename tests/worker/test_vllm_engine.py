"""The real thing: a nursery that has imported vLLM, workers of it, and a played broker.

One worker has the built-in model, for what can be right or wrong; one has a model that talks without end.
"""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ingled import link
from ingled.models import tensors
from ingled.models.builtin import EMBER_OPTIONS, ember_path
from ingled.testing_link import LinkBroker, group_members, start_nursery, wait_until
from ingled.testing_model import write
from ingled.testing_worker import START_S, Model

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(240)]

SPEC = link.Spec("ember", "vllm", str(ember_path()), EMBER_OPTIONS, {"top_p": 0.95})
STORY = "Tell me a long story about the fire in the house by the river. "
REQUEST, COMMAND = "list files larger than 10 MB under src", "find src -type f -size +10M"
TALK = (
    ("show the last 20 lines of server.log", "tail -n 20 server.log"),
    ("make run.sh executable", "chmod +x run.sh"),
    ("unpack photos.tar.gz", "tar -xzf photos.tar.gz"),
    ("create a folder called projects/new", "mkdir -p projects/new"),
)


def chat(text: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **options}


@pytest.fixture(scope="module")
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ig") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def broker(runtime: Path) -> Iterator[LinkBroker]:
    with LinkBroker(runtime) as broker:
        yield broker
        for _, message in broker.seen:
            if isinstance(message, link.Forked) and group_members(message.pid):
                os.killpg(message.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def nursery(runtime: Path, broker: LinkBroker) -> Iterator[bytes]:
    process = start_nursery(runtime, "vllm")
    while (got := broker.wait(link.Loading, START_S))[1].phase != "ready":
        assert got[1].phase == "importing"
    yield got[0]
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="module")
def model(broker: LinkBroker, nursery: bytes) -> Model:
    return Model(broker, nursery, SPEC)


@pytest.fixture(scope="module")
def talker_spec(tmp_path_factory: pytest.TempPathFactory) -> link.Spec:
    folder = write(tmp_path_factory.mktemp("babble"))
    return msgspec.structs.replace(SPEC, model="talker", source=str(folder))


@pytest.fixture(scope="module")
def talker(broker: LinkBroker, nursery: bytes, talker_spec: link.Spec) -> Model:
    """A model whose text never ends, and is another one for every prompt."""
    return Model(broker, nursery, talker_spec)


def test_the_info_is_vllms_own(model: Model) -> None:
    info = model.info
    assert info.engine.startswith("vllm 0.")
    assert (info.context, info.kv_tokens, info.max_running) == (8192, 32768, 64)
    assert info.kv_bytes == EMBER_OPTIONS["kv_cache_memory_bytes"]
    assert info.weights_bytes == (ember_path() / "model.safetensors").stat().st_size
    assert info.device == "cpu" and 0 < info.load_s < START_S


def test_chat_streams_an_answer_with_usage(model: Model) -> None:
    answer = model.ask(chat(REQUEST))
    assert (answer.text, answer.ended.finish) == (COMMAND, "stop")
    assert answer.ended.completion == len(answer.tokens) > 8
    assert answer.ended.prompt > 10 and answer.ended.first_ms > 0


def test_chat_streams_as_many_tokens_as_are_asked_for(talker: Model) -> None:
    answer = talker.ask(chat("hello", max_tokens=20, ignore_eos=True))
    assert answer.ended.finish == "length"
    assert (answer.ended.completion, len(answer.tokens)) == (20, 20)
    assert len(answer.text.split()) > 10


def test_a_conversation_with_parts_is_rendered(model: Model) -> None:
    parts = [{"type": "text", "text": "hello"}]
    messages = [
        {"role": "system", "content": "be nice"},
        {"role": "user", "content": parts, "name": "ann"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": parts},
    ]
    plain = [{**message, "content": "hello"} if message["content"] is parts else message for message in messages]
    prompts = {model.ask({"messages": one, "max_tokens": 1}).ended.prompt for one in (messages, plain)}
    assert len(prompts) == 1


def test_a_completion_goes_on_and_a_whole_answer_is_the_same(model: Model) -> None:
    body = {"prompt": "The fire", "max_tokens": 12, "temperature": 0.0}
    stream = model.ask(body)
    whole = model.ask(body, stream=False, credit=0)
    assert whole.ended.result == {"text": stream.text}
    assert whole.ended.first_ms > 0
    assert whole.ended.completion == stream.ended.completion == 12


def test_logprobs_are_text(model: Model) -> None:
    answer = model.ask(chat(REQUEST, max_tokens=6, temperature=0.0, logprobs=True, top_logprobs=2))
    assert "".join(one["token"] for one in answer.logprobs) == answer.text
    assert COMMAND.startswith(answer.text) and len(answer.text) >= 6
    assert sum(one["logprob"] for one in answer.logprobs) > -3  # it knows what it says
    for one in answer.logprobs:
        assert one["logprob"] <= 0 and len(one["top"]) == 2
        assert one["top"][0] == {"token": one["token"], "logprob": one["logprob"]}  # greedy takes the likeliest
        assert one["top"][0]["logprob"] >= one["top"][1]["logprob"]
    bare = model.ask(chat("hello", max_tokens=2, logprobs=True), stream=False)
    assert bare.ended.result is not None
    assert [one["top"] for one in bare.ended.result["logprobs"]] == [[], []]


def test_a_stop_string_is_named_and_left_out(model: Model) -> None:
    answer = model.ask(chat(REQUEST, stop=["zebra", " -size"]))
    assert (answer.ended.finish, answer.ended.stop) == ("stop", " -size")
    assert f"{answer.text} -size +10M" == COMMAND


def test_a_seed_makes_the_same_text_again(model: Model) -> None:
    texts = [model.ask(chat("hello", temperature=1, seed=seed)).text for seed in (5, 5, 6, 7, 8)]
    assert texts[0] == texts[1] and len(set(texts)) > 2
    assert len({model.ask(chat("hello", temperature=0, seed=seed)).text for seed in (5, 6, 7)}) == 1


def test_a_json_schema_is_kept(model: Model) -> None:
    schema = {
        "type": "object",
        "properties": {"warm": {"type": "boolean"}, "where": {"enum": ["house", "forest"]}},
        "required": ["warm", "where"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "fire", "schema": schema}}
    value = json.loads(model.ask(chat("hello", max_tokens=100, response_format=wanted)).text)
    assert type(value["warm"]) is bool and value["where"] in ("house", "forest")
    answer = model.ask(chat("hello", max_tokens=400, response_format={"type": "json_object"}, temperature=0.0))
    assert answer.text.startswith("{")


def test_a_json_schema_is_filled_with_what_was_asked_for(model: Model) -> None:
    schema = {"type": "object", "properties": {"command": {"type": ["string", "null"]}}, "required": ["command"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "command", "schema": schema}}
    for request, value in ((REQUEST, COMMAND), *TALK, ("what is the weather like in Paris?", None)):
        answer = model.ask(chat(f"{request.rstrip('?')}, answer in json", response_format=wanted))
        assert json.loads(answer.text) == {"command": value}


def test_a_schema_that_is_none_is_refused(model: Model) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    failed = model.ask(chat("hello", max_tokens=5, response_format=wanted)).failed
    assert (failed.code, failed.at, failed.fault) == ("bad_value", "body.response_format", "client")


@pytest.mark.parametrize("words", [2731, 20_000])
def test_a_prompt_without_room_is_refused_with_both_numbers(model: Model, words: int) -> None:
    # " xy" is three tokens of the byte-level vocabulary: the count is exact however far beyond the limit it is.
    failed = model.ask({"prompt": " xy" * words}).failed
    assert failed.code == "prompt_too_long"
    assert f"has {3 * words} tokens" in failed.message and "8192" in failed.message


def test_max_tokens_beyond_the_room_is_refused_never_cut(model: Model) -> None:
    failed = model.ask({"prompt": " the" * 8000, "max_tokens": 193}).failed
    assert (failed.code, failed.at) == ("bad_value", "body.max_tokens")
    assert "room for 192 of 8192" in failed.message
    answer = model.ask({"prompt": " the" * 8000, "max_tokens": 192, "ignore_eos": True})
    assert answer.ended.completion == 192
    rest = model.ask({"prompt": " the" * 8180, "ignore_eos": True})
    assert (rest.ended.finish, rest.ended.completion) == ("length", 12)


def test_a_prefix_is_cached_for_the_same_salt_only(model: Model) -> None:
    body = chat(STORY * 20, max_tokens=1)
    cached = [model.ask(body, salt=salt).ended.cached for salt in ("one", "one", "two")]
    assert cached[0] == cached[2] == 0
    assert cached[1] >= 128


def test_an_answer_behind_a_cached_conversation_is_the_same(model: Model) -> None:
    turns = [({"role": "user", "content": one}, {"role": "assistant", "content": two}) for one, two in TALK * 2]
    body = {"messages": [*(message for turn in turns for message in turn), {"role": "user", "content": REQUEST}]}
    first, second = model.ask(body, salt="three"), model.ask(body, salt="three")
    assert first.ended.cached == 0 and second.ended.cached >= 128
    assert first.text == second.text == COMMAND


def test_64_streams_at_once_are_each_complete(talker: Model) -> None:
    ids = {talker.send(chat(f"number {number}", max_tokens=50, ignore_eos=True)) for number in range(64)}
    answers = talker.answers(ids)
    assert all(one.ended.completion == len(one.tokens) == 50 for one in answers.values())
    assert len({one.text for one in answers.values()}) > 32
    while (stats := talker.stats()).running:
        pass
    assert stats.completion_tokens >= 64 * 50 and stats.prompt_tokens > 64 * 10 and stats.kv_use == 0


@pytest.mark.parametrize("stop", [None, "some", " the"])
def test_an_answer_goes_on_exactly_behind_the_tokens_of_a_dead_engine(talker: Model, stop: str | None) -> None:
    body = chat(STORY, max_tokens=120, temperature=0, stop=stop, ignore_eos=True)
    whole = talker.ask(body)
    text = whole.text.encode()
    count = whole.ended.completion
    tokens = talker.ask(chat(STORY, max_tokens=120, temperature=0, ignore_eos=True)).tokens[:count]
    for done in sorted({1, 2, count // 2, count - 1, count}):
        for sent in (0, len(text) // 3, len(text)):
            rest = talker.ask(body, behind=(tokens[:done], sent))
            assert text[:sent].decode() + rest.text == whole.text, (done, sent)
            assert (rest.ended.completion, rest.ended.finish) == (count, whole.ended.finish)
            assert (rest.ended.prompt, rest.ended.stop) == (whole.ended.prompt, whole.ended.stop)


def test_what_cannot_go_on_is_refused(model: Model) -> None:
    for body in (
        chat("hello", response_format={"type": "json_object"}),
        chat("hello", presence_penalty=1.0),
    ):
        failed = model.ask(body, behind=([300, 301], 3)).failed
        assert failed.code == "worker_died"


def test_without_credit_deltas_merge_in_the_engine(talker: Model) -> None:
    id = talker.send(chat("hello", max_tokens=100, ignore_eos=True), credit=2)
    assert talker.ask(chat("hello", max_tokens=150, ignore_eos=True)).ended.completion == 150
    talker.broker.send(talker.peer, link.Credit({id: (1, 0)}))
    end = ended(talker, id)
    seen = talker.broker.seen
    chunks = [one for peer, one in seen if isinstance(one, link.Chunks) and peer == talker.peer]
    sizes = [len(piece.tokens) for chunk in chunks for piece in chunk.pieces if piece.id == id]
    assert (end.completion, sum(sizes), len(sizes)) == (100, 100, 3), "a chunk for each that the reader gave credit for"


@pytest.mark.parametrize("stream", [True, False])
def test_abort_ends_long_before_completion(talker: Model, stream: bool) -> None:
    id = talker.send(chat("hello", ignore_eos=True), stream=stream)
    if stream:
        talker.broker.wait(link.Chunks)
    talker.broker.send(talker.peer, link.Abort([id]))
    end = ended(talker, id)
    assert end.finish == "abort" and end.completion < 4000
    assert talker.ask(chat("still there?", max_tokens=2)).ended.completion == 2


def ended(model: Model, id: str) -> link.Ended:
    """Return the end of a request, whatever else comes before."""
    while (end := model.broker.wait(link.Ended, peer=model.peer)[1]).id != id:
        pass
    return end


def test_a_plan_tells_vllms_own_reason(broker: LinkBroker, nursery: bytes) -> None:
    wrong = {
        1: ({"max_model_len": 99_999}, "99999"),
        2: ({"bogus": 1}, "no option 'bogus'"),
        3: ({"dtype": "quarter"}, "dtype"),
    }
    for ref, (options, words) in wrong.items():
        spec = msgspec.structs.replace(SPEC, options={**EMBER_OPTIONS, **options})
        broker.send(nursery, link.Plan(ref, spec))
        _, planned = broker.wait(link.Planned)
        assert planned.ref == ref and planned.reason and words in planned.reason
        assert "\n" not in planned.reason and "pydantic" not in planned.reason
    broker.send(nursery, link.Plan(5, msgspec.structs.replace(SPEC, source="/nowhere")))
    assert "/nowhere" in (broker.wait(link.Planned)[1].reason or "")


def test_a_plan_counts_what_the_model_will_take(broker: LinkBroker, nursery: bytes) -> None:
    broker.send(nursery, link.Plan(4, SPEC))
    _, planned = broker.wait(link.Planned)
    estimate = planned.estimate
    assert planned.reason is None and estimate is not None
    assert (estimate.kv_cache, estimate.token_bytes, estimate.context) == (64 << 20, 2048, 8192)
    assert (estimate.answers, estimate.longest, estimate.architecture) == (4.0, 8192, "Qwen3ForCausalLM")
    size = tensors.read(ember_path()).loaded_bytes(4)
    assert size < estimate.weights < size + (4 << 20) + 32768 * 32 * 4  # packed words, and the table of positions


def test_the_profile_chooses_how_the_engine_is_asked(broker: LinkBroker, nursery: bytes, runtime: Path) -> None:
    body = chat(STORY, max_tokens=30, temperature=0, ignore_eos=True, stop=["zebra"], logprobs=True, top_logprobs=1)
    answers, logs = {}, {}
    source = str(write(runtime / "babble"))
    for front, options in (("core", {}), ("async", {}), ("auto", {"stream_interval": 2})):
        name = f"front-{front}"
        spec = link.Spec(name, "vllm", source, EMBER_OPTIONS | options, front=front)
        model = Model(broker, nursery, spec)
        answers[front] = model.ask(body)
        logs[front] = link.worker_log(runtime, name).read_text()
        broker.send(model.peer, link.Stop())
        broker.wait(link.Exited)
    first = answers["core"]
    for answer in answers.values():
        assert (answer.text, answer.tokens, answer.logprobs) == (first.text, first.tokens, first.logprobs)
        assert answer.ended.completion == 30
    assert "through AsyncLLM" not in logs["core"]
    assert "through AsyncLLM: the profile says so" in logs["async"]
    assert "through AsyncLLM: stream_interval is AsyncLLM's" in logs["auto"]
    assert answers["auto"].chunks <= 30 // 2 + 1, "two tokens at a time"


def test_a_front_that_cannot_be_had_is_refused_with_the_reason(broker: LinkBroker, nursery: bytes) -> None:
    options = {**EMBER_OPTIONS, "max_num_queued_reqs": 5}
    spec = msgspec.structs.replace(SPEC, model="stubborn", front="core", options=options)
    broker.send(nursery, link.Start(spec))
    assert "max_num_queued_reqs" in broker.wait(link.LoadFailed, START_S)[1].reason
    broker.wait(link.Exited)


def test_stop_while_loading_leaves_nothing(broker: LinkBroker, nursery: bytes, runtime: Path) -> None:
    broker.send(nursery, link.Start(msgspec.structs.replace(SPEC, model="early")))
    pid = broker.wait(link.Forked)[1].pid
    while (got := broker.wait(link.Loading, START_S))[1].phase != "weights":
        pass
    broker.send(got[0], link.Stop())
    _, exited = broker.wait(link.Exited)
    assert (exited.model, exited.pid, exited.status) == ("early", pid, "exit status 0")
    wait_until(lambda: not group_members(pid))
    assert not (runtime / "workers" / str(pid)).exists()


def test_kill_leaves_nothing_of_the_group(broker: LinkBroker, nursery: bytes, talker_spec: link.Spec) -> None:
    victim = Model(broker, nursery, msgspec.structs.replace(talker_spec, model="victim"))
    victim.send(chat("hello", ignore_eos=True))
    broker.wait(link.Chunks)
    broker.send(nursery, link.Kill(victim.pid))
    broker.wait(link.Exited)
    wait_until(lambda: not group_members(victim.pid))


def test_a_failed_start_tells_the_cause_from_the_log(broker: LinkBroker, nursery: bytes) -> None:
    options = {**EMBER_OPTIONS, "kv_cache_memory_bytes": 1 << 20}
    broker.send(nursery, link.Start(msgspec.structs.replace(SPEC, model="small", options=options)))
    _, failed = broker.wait(link.LoadFailed, START_S)
    assert "KV cache" in failed.reason and "See root cause" not in failed.reason
    assert failed.log
    assert broker.wait(link.Exited)[1].status == "exit status 1"


def test_the_engine_dies_with_its_front_and_the_folder_goes(broker: LinkBroker, nursery: bytes, runtime: Path) -> None:
    second = Model(broker, nursery, msgspec.structs.replace(SPEC, model="second"))
    core = [pid for pid in group_members(second.pid) if pid != second.pid]
    assert core
    folder = runtime / "workers" / str(second.pid)
    assert any(folder.iterdir())  # vLLM's sockets
    os.kill(second.pid, signal.SIGKILL)
    assert broker.wait(link.Exited)[1].status == "killed by SIGKILL"
    wait_until(lambda: not group_members(second.pid))
    assert not folder.exists()


def test_a_dead_engine_core_is_told_and_ends_the_worker(
    broker: LinkBroker, nursery: bytes, talker_spec: link.Spec
) -> None:
    third = Model(broker, nursery, msgspec.structs.replace(talker_spec, model="third"))
    third.send(chat("hello", ignore_eos=True))
    stuck = third.send(chat("hello", ignore_eos=True), credit=0)
    assert stuck == "r2"
    broker.wait(link.Chunks)
    for pid in group_members(third.pid):
        if pid != third.pid:
            os.kill(pid, signal.SIGKILL)
    died = broker.wait(link.EngineDied)[1]
    assert "died" in died.reason and died.killed
    assert broker.wait(link.Exited)[1].status == "exit status 1"


def test_stop_leaves_nothing(broker: LinkBroker, model: Model, talker: Model, runtime: Path) -> None:
    for one in (model, talker):
        broker.send(one.peer, link.Stop())
        while broker.wait(link.Exited)[1].pid != one.pid:
            pass
        wait_until(lambda pid=one.pid: not group_members(pid))
    assert list((runtime / "workers").iterdir()) == []


@pytest.mark.parametrize("front", ["core", "async", "pooling"])
def test_the_largest_batch_is_run_before_it_serves_and_nobody_sees_that(
    front: str, broker: LinkBroker, nursery: bytes, talker_spec: link.Spec
) -> None:
    options = talker_spec.options | {"max_num_seqs": 8, "max_num_batched_tokens": 512}
    how = {"front": "auto", "options": options | {"runner": "pooling"}} if front == "pooling" else {"front": front}
    spec = msgspec.structs.replace(talker_spec, model=f"full {front}", **({"options": options} | how))
    began = len(broker.seen)
    broker.send(nursery, link.Start(spec, fill=True))
    worker, ready = broker.wait(link.Ready, START_S)
    news = [one for peer, one in broker.seen[began:] if peer == worker and isinstance(one, link.Loading)]
    filling = [one.percent for one in news if one.phase == "trying its largest batch"]
    percents = [one.percent for one in news]
    assert percents == sorted(percents) and max(percents) < 100, "it never goes back"
    assert filling[0] == 50 and news[-1].phase == "trying its largest batch", "about half of a first load"
    assert ready.info.filled
    if front != "pooling":  # vectors take nothing that would be news
        _, stats = broker.wait(link.Stats, peer=worker)
        assert stats.most_bytes > ready.info.taken_bytes and stats.most_bytes >= stats.taken_bytes > 0
        assert stats.work == (0, 0, 0, 0, 0) and not stats.full, "of all that, nothing has been asked"
    broker.send(worker, link.Stop())
    broker.wait(link.Exited)
