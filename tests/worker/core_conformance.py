"""Run by test_core_client.py in a process of its own: the same requests through `CoreClient` and `AsyncLLM.generate`.

One engine for both, one request at a time, so that no batch rounds differently. Prints JSON: for each case what came of
each way: deltas as [tokens, text], logprobs, finish, stop, and tokens of prompt, cache and answer.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from ingled.worker.environment import set_environment

set_environment()
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

from ingle.wire.schema import ChatBody, ChatMessage, CompleteBody, TextPart
from ingled.link import Spec
from ingled.models.builtin import EMBER_OPTIONS
from ingled.testing_model import write
from ingled.worker import core_client
from ingled.worker.async_client import AsyncClient, Counter
from ingled.worker.engine import Answer, Delta, EngineDead, EngineRefused, Request
from ingled.worker.vllm_config import engine_config, use_folder
from ingled.worker.vllm_prompts import Prompts
from ingled.worker.vllm_requests import Prepared, Requests
from vllm.renderers import chat_utils, hf
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM

PROMPT = "Tell me a long story about the fire in the house by the river. "
WIDE = "äöü € 😀 日本語"


class Given(Requests):
    """Takes sampling parameters as they are, also those that no client can ask for."""

    params: Any = None

    def prepared(self, request: Request, prompt: Any) -> Prepared:
        prepared = super().prepared(request, prompt)
        if self.params is not None:
            prepared.params = self.params
        return prepared


class Asked:
    """One answer, taken delta by delta."""

    def __init__(self, client: Any, request: Request) -> None:
        self._news = asyncio.Event()
        self.answer: Answer = client.run(request, self._news.set)

    async def next(self) -> Delta:
        while (delta := self.answer.take()) is None:
            await self._news.wait()
            self._news.clear()
        return delta

    async def all(self) -> dict[str, Any]:
        deltas: list[Delta] = []
        try:
            while not deltas or deltas[-1].end is None:
                deltas.append(await self.next())
        except (EngineRefused, EngineDead) as error:
            return {"error": type(error).__name__, "says": str(error)}
        end = deltas[-1].end
        assert end is not None
        return {
            "deltas": [[delta.tokens, delta.text] for delta in deltas],
            "logprobs": [one for delta in deltas for one in delta.logprobs or []],
            "end": [end.finish, end.stop, end.prompt, end.cached, end.completion],
            "first": end.first_ms > 0,
        }


def cases(tokens: list[int], text: str, eos: int) -> dict[str, dict[str, Any]]:
    """Return sampling parameters by case; `tokens` and `text` are the greedy answer."""
    greedy = {"temperature": 0.0, "max_tokens": 40, "ignore_eos": True}
    across = text[8:17]
    forced = {"max_tokens": 60, "temperature": 0.0, "structured_outputs": StructuredOutputsParams(choice=[WIDE])}
    special = greedy | {"logit_bias": {eos: 100.0}, "max_tokens": 6}
    found: dict[str, dict[str, Any]] = {
        "greedy": greedy,
        "one token": greedy | {"max_tokens": 1},
        "seed": {"seed": 7, "temperature": 1.0, "top_p": 0.9, "max_tokens": 40, "ignore_eos": True},
        "penalties": greedy | {"presence_penalty": 1.0, "frequency_penalty": 0.5, "repetition_penalty": 1.2},
        "to its own end": {"seed": 3, "temperature": 1.0, "max_tokens": 200},
        "stop across tokens": greedy | {"stop": [across]},
        "stop included": greedy | {"stop": [across], "include_stop_str_in_output": True},
        "stops": greedy | {"stop": ["zebra", across, text[30:33]]},
        "stop that never comes": greedy | {"stop": ["zebra and " * 3]},
        "stop not before": greedy | {"stop": [across[:1]], "min_tokens": 20},
        "stop token": greedy | {"stop_token_ids": [tokens[12]]},
        "stop token included": greedy | {"stop_token_ids": [tokens[12]], "include_stop_str_in_output": True},
        "eos": special | {"ignore_eos": False},
        "special tokens": special | {"skip_special_tokens": False},
        "special tokens close": special | {"skip_special_tokens": False, "spaces_between_special_tokens": False},
        "special tokens skipped": special,
        "logprobs": greedy | {"logprobs": 0},
        "logprobs and others": greedy | {"logprobs": 3},
        "logprobs and stop": greedy | {"logprobs": 2, "stop": [across]},
        "wide characters": forced,
        "wide characters with logprobs": forced | {"logprobs": 2},
        "wide stop": forced | {"stop": ["😀"]},
        "half a character at the end": forced | {"max_tokens": 1},
        "grammar": {
            "max_tokens": 60,
            "temperature": 0.0,
            "structured_outputs": StructuredOutputsParams(json_object=True, disable_any_whitespace=True),
        },
        "bad words": greedy | {"bad_words": [text.split()[3]]},
        "refused": greedy | {"logprobs": 3000},
    }
    return found


async def run_all(client: Any, requests: Given, wanted: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run every case, streamed and whole, each with a prefix cache of its own."""
    found: dict[str, Any] = {}
    for name, params in wanted.items():
        for stream in (True, False):
            kind = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY
            requests.params = SamplingParams(**params, output_kind=kind)
            logprobs = params.get("logprobs")
            body = CompleteBody(prompt=PROMPT, logprobs=logprobs is not None, top_logprobs=min(logprobs or 0, 20))
            request = Request(f"{name} {stream}", body, stream, salt=f"{type(client).__name__} {name} {stream}")
            found[f"{name}, {'streamed' if stream else 'whole'}"] = await Asked(client, request).all()
    requests.params = None
    return found


async def others(client: Any) -> dict[str, Any]:
    """Run what is not about sampling parameters."""
    kind = type(client).__name__
    found: dict[str, Any] = {}
    long = CompleteBody(prompt=PROMPT * 20, temperature=0.0, max_tokens=4)
    for turn in range(2):
        found[f"cached, turn {turn}"] = await Asked(client, Request(f"long {turn}", long, salt=kind)).all()
    body = CompleteBody(prompt=PROMPT, temperature=0.0, max_tokens=60, ignore_eos=True)
    whole = await Asked(client, Request("whole", body, salt=kind)).all()
    tokens = [token for some, _ in whole["deltas"] for token in some]
    text = "".join(text for _, text in whole["deltas"])
    for done in (1, 17, 59, 60):
        for sent in (0, len(text[:10].encode())):
            resumed = Request(f"rest {done} {sent}", body, salt=kind, tokens=tuple(tokens[:done]), offset=sent)
            found[f"behind {done} tokens and {sent} bytes"] = await Asked(client, resumed).all()
    found["not pulled"] = merged = await not_pulled(client, kind)
    merged["deltas"] = [["".join(text for _, text in merged["deltas"]), sum(len(ids) for ids, _ in merged["deltas"])]]
    found["refused"] = await Asked(client, Request("no", CompleteBody(prompt=" the" * 9000), salt=kind)).all()
    endless = CompleteBody(prompt=PROMPT, ignore_eos=True)
    early = Asked(client, Request("early", endless, salt=kind))
    early.answer.abort()
    found["aborted before it began"] = {"finish": await finish(early)}
    late = Asked(client, Request("late", endless, salt=kind))
    await late.next()
    late.answer.abort()
    found["aborted"] = {"finish": await finish(late)}
    for name, deltas in (("closed before it began", 0), ("closed", 1)):
        closed = Asked(client, Request(name, endless, salt=kind))
        for _ in range(deltas):
            await closed.next()
        closed.answer.close()
        found[name] = {"others in the engine": await company(client, name)}
    batch = [Asked(client, Request(f"batch {number}", body, salt=kind)).all() for number in range(8)]
    found["at once"] = {"ends": [one["end"] for one in await asyncio.gather(*batch)]}
    return found


async def company(client: Any, name: str) -> int:
    """Return with how many others, at least, the engine had a request in one step."""
    body = CompleteBody(prompt=PROMPT, temperature=0.0, max_tokens=60, ignore_eos=True)
    running: list[int] = []
    while not running:  # all of an answer may come at once
        asked = Asked(client, Request(f"beside {name}", body, salt=type(client).__name__))
        while (await asked.next()).end is None:
            running.append(client.load_now().running)
    return min(running) - 1


async def not_pulled(client: Any, kind: str) -> dict[str, Any]:
    """Take an answer long after it was made: all of it has merged, but for what was pulled ahead."""
    body = CompleteBody(prompt=PROMPT, temperature=0.0, max_tokens=50, ignore_eos=True)
    asked = Asked(client, Request("slow", body, salt=kind))
    first = await asked.next()
    await Asked(client, Request("meanwhile", CompleteBody(prompt="x", max_tokens=90, ignore_eos=True), salt=kind)).all()
    found = await asked.all()
    return found | {"few": len(found["deltas"]) <= 2, "deltas": [[first.tokens, first.text], *found["deltas"]]}


TEXTS = (
    PROMPT,
    "",
    WIDE,
    "  spaces  and\nlines\t\r\n ",
    "<|im_start|>system\n<|im_end|><s></s><|endoftext|>",
    "e\u0301\u200d\ufeff \ufffd",
    "word " * 400,
)
TOO_LONG = (PROMPT * 40, "word " * 410)


async def prompts(made: Prompts) -> dict[str, list[Any]]:
    """Make prompts at once and by vLLM's threads; returns the two by case, of long ones too."""
    bodies: list[ChatBody | CompleteBody] = [CompleteBody(prompt=text) for text in (*TEXTS, *TOO_LONG)]
    for text in (*TEXTS, *TOO_LONG):
        system = ChatMessage(role="system", content=text[:50])
        user = ChatMessage(role="user", content=text)
        bodies += [ChatBody(messages=[user]), ChatBody(messages=[system, user, ChatMessage("assistant", "so"), user])]
    bodies.append(ChatBody(messages=[ChatMessage("user", [TextPart("in parts")])]))
    bodies.append(ChatBody(messages=[ChatMessage("user", "x")] * 40))
    found = {}
    for number, body in enumerate(bodies):
        for salt in ("", "salt"):
            both = [made.now(body, salt), await made.render(body, salt)]
            for one in both:
                if one is not None:
                    one.pop("arrival_time", None)
                    one.pop("prompt", None)  # the text, which nobody reads
            found[f"{number} {salt} {type(body).__name__}"] = both
    return found


TEMPLATES = {
    "plain": "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}",
    "parts": "{% for m in messages %}{{ m.role }}{% for part in m.content %}{{ part.text }}{% endfor %}\n{% endfor %}",
    "names": "{% for m in messages %}{{ m.name if m.name is defined else 'nobody' }}{{ m['content'] }}{% endfor %}",
    "all of it": "{{ bos_token }}{{ messages | tojson }}{{ tools is none }}{{ documents is none }}"
    "{{ unknown is defined }}",
    "refuses": "{% if messages[0].role == 'system' %}{{ raise_exception('no system message here') }}{% endif %}"
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "none": None,
}


def templates(engine: Any) -> dict[str, list[Any]]:
    """Apply templates to conversations directly and by vLLM; returns the texts, or the errors, of both."""
    renderer = engine.renderer
    tokenizer, own = renderer.get_tokenizer(), renderer.get_tokenizer().chat_template
    found: dict[str, list[Any]] = {}
    for name, template in {"its own": own, **TEMPLATES}.items():
        tokenizer.chat_template = template
        hf._CONTENT_FORMATS.clear()
        made = Prompts(engine.vllm_config.model_config, renderer)
        found[name] = []
        for text in TEXTS:
            user, named = ChatMessage("user", text), ChatMessage("user", text, "ann")
            system, assistant = ChatMessage("system", text), ChatMessage("assistant", text)
            for chat in ([user], [named], [system, user], [user, assistant, named], [user, assistant]):
                direct = made._template(chat) if made._template is not None else None
                try:
                    by_vllm = made._by_vllm(chat)
                except Exception as error:
                    by_vllm = f"{type(error).__name__}: {error}"
                found[name].append([direct, by_vllm])
    billed = [
        ChatMessage("system", f"{chat_utils._CLAUDE_CODE_BILLING_HEADER} x\nBe brief."),
        ChatMessage("user", "Hi"),
    ]
    tokenizer.chat_template = own
    hf._CONTENT_FORMATS.clear()
    made = Prompts(engine.vllm_config.model_config, renderer)
    assert made._template is not None and made._template(billed) is None, "vLLM leaves a line of it out"
    assert made._template([ChatMessage("user", [TextPart("in parts")])]) is None
    return found


async def finish(asked: Asked) -> str:
    """Return how an answer ends; at most one delta may come before."""
    delta = await asked.next()
    if delta.end is None:
        delta = await asked.next()
    assert delta.end is not None
    return delta.end.finish


async def main(folder: Path) -> None:
    use_folder(folder)
    spec = Spec("babble", "vllm", str(write(folder / "model")), EMBER_OPTIONS)
    config = engine_config(spec)
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    counters: list[Counter] = []

    def count(config: Any, index: int = 0) -> Counter:
        counters.append(Counter(config, index))
        return counters[-1]

    engine = await asyncio.to_thread(AsyncLLM.from_vllm_config, config, stat_loggers=[count], disable_log_stats=True)
    obstacle = core_client.obstacle(engine)
    assert obstacle is None, obstacle
    requests = Given(spec, engine)
    core = core_client.CoreClient(engine, requests)
    await core.start()
    body = CompleteBody(prompt=PROMPT, temperature=0.0, max_tokens=40, ignore_eos=True)
    greedy = await Asked(core, Request("greedy", body)).all()
    first = core.load_now()
    assert (first.crowd, first.batch) == (1, first.prompt_tokens), first
    tokens = [token for some, _ in greedy["deltas"] for token in some]
    text = "".join(text for _, text in greedy["deltas"])
    wanted = cases(tokens, text, engine.renderer.get_tokenizer().eos_token_id)
    found = {"core": await run_all(core, requests, wanted) | await others(core)}
    idle = core.load_now()
    assert (idle.running, idle.waiting, core._running) == (0, 0, {}), idle
    for task in list(core._tasks):  # both would read the outputs
        task.cancel()
    through = AsyncClient(engine, requests, counters[-1])
    found["prompts"] = await prompts(requests.prompts)
    found["templates"] = templates(engine)
    found["async"] = await run_all(through, requests, wanted) | await others(through)
    busy = through.load_now()
    assert busy.crowd >= 1 and 0 < busy.batch <= busy.prompt_tokens, busy
    assert core_client.obstacle(engine) is not None, "AsyncLLM reads the outputs now"
    print(json.dumps({"wanted": list(wanted), **found}), flush=True)
    await asyncio.to_thread(engine.shutdown, 0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ig") as name:
        asyncio.run(main(Path(name)))
    sys.stdout.flush()
    os._exit(0)
