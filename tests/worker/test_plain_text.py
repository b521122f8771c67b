"""Text from the decode stream alone is what vLLM's detokenizer makes, whatever the tokens are."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import random, tempfile
from pathlib import Path
from types import SimpleNamespace
from ingled.testing_model import write
from ingled.worker.core_answer import plain
from ingled.worker.plain_text import PlainText
from transformers import AutoTokenizer
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

with tempfile.TemporaryDirectory(prefix="ig") as folder:
    tokenizer = AutoTokenizer.from_pretrained(str(write(Path(folder))))
chance = random.Random(SEED)
wide = tokenizer("äöü € 😀 日本語 ë\u0301 \ufffd")["input_ids"]
several = 0
for turn in range(300):
    prompt = [chance.randrange(len(tokenizer)) for _ in range(chance.randrange(1, 9))]
    params = SamplingParams(skip_special_tokens=chance.random() < 0.7)
    told = SimpleNamespace(sampling_params=params, prompt_token_ids=prompt, prompt_embeds=None, request_id="r")
    theirs = IncrementalDetokenizer.from_new_request(tokenizer, told)
    ours = plain(IncrementalDetokenizer.from_new_request(tokenizer, told))
    assert isinstance(ours, PlainText)
    kinds = (lambda: chance.choice(wide), lambda: chance.randrange(300), lambda: chance.randrange(len(tokenizer)))
    for step in range(100):
        kind = chance.choice(kinds)
        tokens = [kind() for _ in range(chance.randrange(1, 4))]
        if chance.random() < 0.01:
            tokens.append(1 << 40)  # no token at all
        last = chance.random() < 0.02
        theirs.update(tokens, last), ours.update(tokens, last)
        got = ours.get_next_output_text(False, True)
        assert got == theirs.get_next_output_text(False, True), (turn, step, tokens)
        several += len(got) > 1
assert several > 100
for more in ({"stop": ["x"]}, {"include_stop_str_in_output": True}):
    told.sampling_params = SamplingParams(**more)
    assert not isinstance(plain(IncrementalDetokenizer.from_new_request(tokenizer, told)), PlainText)
print("same")
"""


@pytest.mark.vllm
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_vllms_text(seed: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT.replace("SEED", str(seed))]
    environ = os.environ | {"VLLM_LOGGING_LEVEL": "CRITICAL"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environ)
    assert done.stdout.splitlines()[-1:] == ["same"], done.stderr[-3000:]
