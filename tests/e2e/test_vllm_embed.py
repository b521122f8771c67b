"""A model that talks and one that makes vectors, both of vLLM, both there at once; the vectors are the right ones."""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ingle import Client, Refused
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until
from ingled.testing_model import write

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

PROFILE = '[models.{name}]\nsource = "{source}"\nkv_cache = "16MiB"\ncontext = 512\ndtype = "float32"\n{more}\n'
TEXTS = ["The keeper opens the door.", "fire", "The keeper opens the door, and the child follows the fox home. " * 9]
REFERENCE = """
import json, sys, torch
from transformers import AutoModel, AutoTokenizer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)
found = []
for text in texts:
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        last = model(input_ids=ids).last_hidden_state[0, -1]
    found.append((ids.shape[1], (last / last.norm()).tolist()))
print(json.dumps(found))
"""
"""The same by another library, text by text: the last token's state, made of length one."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as name:
        yield write(Path(name))


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[DaemonFixture]:
    models = PROFILE.format(name="talker", source=folder, more="default = true")
    models += PROFILE.format(name="mini", source=folder, more='runner = "pooling"')
    models += PROFILE.format(name="narrow", source=folder, more='runner = "pooling"\nmax_sequences = 2')
    with DaemonFixture(models, engine="vllm") as running:
        yield running


def close(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and math.dist(one, other) < 1e-4


def test_vectors_are_those_of_another_library(daemon: DaemonFixture, folder: Path) -> None:
    script = [sys.executable, "-c", REFERENCE, str(folder), json.dumps(TEXTS)]
    ran = subprocess.run(script, capture_output=True, text=True, check=True)
    counts, wanted = zip(*json.loads(ran.stdout), strict=True)
    with Client(str(daemon.socket)) as client:
        found = client.embed(TEXTS, model="mini")
        assert found.usage.prompt == sum(counts)
        assert all(close(*pair) for pair in zip(found.vectors, wanted, strict=True))
        assert [client.embed([text], model="mini").vectors[0] for text in TEXTS[:2]] == [
            pytest.approx(one, abs=1e-4) for one in found.vectors[:2]
        ], "alone as among others"
        assert client.embed([TEXTS[2]], model="mini").usage.cached > 0, "what was computed once is not computed again"


def test_it_stands_beside_a_model_that_talks(daemon: DaemonFixture) -> None:
    many = [f"door number {number}" for number in range(40)]
    with Client(str(daemon.socket)) as client, Client(str(daemon.socket)) as other, ThreadPoolExecutor() as pool:
        talk = pool.submit(lambda: client.chat("tell me", max_tokens=60, ignore_eos=True).usage.completion)
        narrow = other.embed(many, model="narrow").vectors
        assert talk.result() == 60
        assert all(close(*pair) for pair in zip(narrow, other.embed(many, model="mini").vectors, strict=True))
        models = {one.name: one for one in client.models()}
        assert {name: one.state for name, one in models.items()} == dict.fromkeys(models, "ready")
        assert all(one.need_bytes and one.pid for one in models.values()), "each is counted"
        assert len({one.pid for one in models.values()}) == 3


def test_what_cannot_be_done_is_refused_in_true_words(daemon: DaemonFixture) -> None:
    with Client(str(daemon.socket)) as client:
        with pytest.raises(Refused, match=r"input\[1\] has \d+ tokens, and the model takes 512"):
            client.embed(["short", TEXTS[2] * 9], model="mini")
        with pytest.raises(Refused, match=r"[Mm]atryoshka") as refused:
            client.embed(["short"], model="mini", dimensions=8)
        assert (refused.value.code, refused.value.at) == ("bad_value", "body.dimensions")
        with pytest.raises(Refused, match="makes vectors"):
            client.chat("hi", model="mini")
        with pytest.raises(Refused, match="makes text"):
            client.embed(["hi"])
        assert client.embed(["still there"], model="mini").vectors


def test_a_cancelled_request_leaves_nothing_running(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as wire:
        wire.call("load", model="narrow")
        texts = [f"{number} {TEXTS[2]}" for number in range(2000)]
        wire.send({"t": "request", "ref": 900, "op": "embed", "body": {"input": texts}, "model": "narrow"})
        id = wire.until("accepted")[-1]["id"]
        wait_until(lambda: wire.call("show", model="narrow")["running"] > 0)
        wire.send({"t": "cancel", "ref": 901, "id": id})
        assert wire.until("failed")[-1]["code"] == "cancelled"
        wait_until(lambda: wire.call("show", model="narrow")["running"] == 0)
    with Client(str(daemon.socket)) as client:
        assert client.embed(["still there"], model="narrow").vectors
