"""Through the engine core's own client comes what comes through `AsyncLLM`: token by token and text by text."""

import json
import os
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

SCRIPT = Path(__file__).with_name("core_conformance.py")
WIDE = "äöü € 😀 日本語"
Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def both() -> dict[str, Found]:
    """What came of each case, through the core and through AsyncLLM."""
    command = [sys.executable, "-W", "ignore", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Found] = json.loads(done.stdout.splitlines()[-1])
    return found


def text_of(answer: dict[str, Any]) -> str:
    return "".join(text for _, text in answer["deltas"])


def tokens_of(answer: dict[str, Any]) -> list[int]:
    return [token for tokens, _ in answer["deltas"] for token in tokens]


def steps(answer: dict[str, Any]) -> dict[int, str]:
    """Return the text that was out after so many tokens."""
    counts = accumulate(len(tokens) for tokens, _ in answer["deltas"])
    texts = accumulate(text for _, text in answer["deltas"])
    return dict(zip(counts, texts, strict=True))


def test_every_case_is_the_same_both_ways(both: dict[str, Found]) -> None:
    core, through = both["core"], both["async"]
    assert core.keys() == through.keys() and len(core) > 60
    for name, one in core.items():
        other = through[name]
        if "deltas" not in one or name == "not pulled":
            assert one == other, name
            continue
        assert (text_of(one), tokens_of(one)) == (text_of(other), tokens_of(other)), name
        assert (one["end"], one["logprobs"], one["first"]) == (other["end"], other["logprobs"], other["first"]), name
        mine, theirs = steps(one), steps(other)
        for count in mine.keys() & theirs.keys():  # what came late has merged, here or there
            assert mine[count] == theirs[count], (name, count)


def test_streamed_and_whole_are_the_same(both: dict[str, Found]) -> None:
    for name in both["wanted"]:
        streamed, whole = both["core"][f"{name}, streamed"], both["core"][f"{name}, whole"]
        if name == "refused":
            assert streamed["error"] == whole["error"] == "EngineRefused"
            continue
        assert len(whole["deltas"]) == 1
        assert text_of(streamed) == text_of(whole), name
        assert tokens_of(streamed) == tokens_of(whole) and streamed["end"] == whole["end"], name
        assert streamed["logprobs"] == whole["logprobs"], name


def test_the_cases_are_what_they_say(both: dict[str, Found]) -> None:
    core = both["core"]
    greedy = text_of(core["greedy, streamed"])
    across = greedy[8:17]
    assert core["greedy, streamed"]["end"][0] == "length" and len(core["greedy, streamed"]["deltas"]) > 1
    assert core["stop across tokens, streamed"]["end"][:2] == ["stop", across]
    assert text_of(core["stop across tokens, streamed"]) == greedy[: greedy.index(across)]
    assert text_of(core["stop included, streamed"]) == greedy[: greedy.index(across) + len(across)]
    assert core["stop token, streamed"]["end"][:2] == ["stop", None]
    assert core["eos, streamed"]["end"][0] == "stop" and core["eos, streamed"]["end"][4] == 1
    assert text_of(core["special tokens skipped, streamed"]) == ""
    assert text_of(core["special tokens, streamed"]) != ""
    assert text_of(core["wide characters, streamed"]) == WIDE
    assert len(tokens_of(core["wide characters, streamed"])) > len(WIDE)
    assert text_of(core["wide stop, streamed"]) == WIDE[: WIDE.index("😀")]
    assert core["wide stop, streamed"]["end"][:2] == ["stop", "😀"]
    assert len(core["logprobs and others, streamed"]["logprobs"]) == 40
    assert core["cached, turn 0"]["end"][3] == 0 and core["cached, turn 1"]["end"][3] >= 128
    assert core["not pulled"]["few"] and core["not pulled"]["deltas"][0][1] == 50
    assert core["refused"]["error"] == "EngineRefused"
    assert core["aborted"]["finish"] == core["aborted before it began"]["finish"] == "abort"
    assert core["closed"] == core["closed before it began"] == {"others in the engine": 0}
    assert all(end[0] == "length" and end[4] == 60 for end in core["at once"]["ends"])


def test_a_short_prompt_is_made_at_once_and_is_the_same(both: dict[str, Any]) -> None:
    made = both["prompts"]
    assert [now for now, _ in made.values() if now is not None] == [slow for now, slow in made.values() if now]
    at_once = [slow for now, slow in made.values() if now is not None]
    assert len(at_once) >= 30 and any("cache_salt" in one for one in at_once)
    long = [len(slow["prompt_token_ids"]) for now, slow in made.values() if now is None]
    assert len(long) >= 8, "long ones, and those in parts or of many messages, are left to vLLM's threads"


def test_a_template_applied_directly_makes_the_same_text(both: dict[str, Any]) -> None:
    made = both["templates"]
    for name, pairs in made.items():
        assert [direct for direct, _ in pairs if direct is not None] == [
            by_vllm for direct, by_vllm in pairs if direct is not None
        ], name
    vllm_alone = {name: sum(direct is None for direct, _ in pairs) for name, pairs in made.items()}
    refused = sum("no system message here" in by_vllm for _, by_vllm in made["refuses"])
    assert refused > 0, "vLLM says in its own words what the template refuses"
    assert vllm_alone == dict.fromkeys(made, 0) | {"refuses": refused, "none": len(made["none"])}
    assert "ann" in made["names"][1][0] and made["all of it"][0][0].endswith("TrueTrueFalse")
