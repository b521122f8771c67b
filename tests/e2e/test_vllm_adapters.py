"""LoRA adapters on vLLM: loaded at run time, each its own answers, in one batch with others; bad ones harm nobody."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ingle import Client, DaemonFailed
from ingled.testing import DaemonFixture
from ingled.testing_link import wait_until
from ingled.testing_model import write, write_adapter

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

PROFILE = """
[models.base]
source = "{folder}/model"
kv_cache = "16MiB"
context = 512
dtype = "float32"
default = true
"""
BAD = {
    "missing": "there is no such folder",
    "torn": "cut off",
    "garbage": "no safetensors file",
    "foreign": "an adapter of another model",
    "pickled": "adapter_model.safetensors",
    "dora": "DoRA",
    "odd": "n_proj",
}
"""Adapters that cannot be loaded, and what of their faults is told."""
ASK = {"max_tokens": 24, "temperature": 0.0, "ignore_eos": True}


def _spoil(good: Path, folder: Path, kind: str) -> None:
    if kind == "missing":
        return
    shutil.copytree(good, folder)
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    said = json.loads(config.read_text())
    match kind:
        case "torn":
            weights.write_bytes(weights.read_bytes()[:3000])
        case "garbage":
            weights.write_bytes(b"garbage" * 100)
        case "foreign":
            data = weights.read_bytes().replace(b'"shape":[8,64]', b'"shape":[16,32]')
            weights.write_bytes(data)
        case "pickled":
            weights.rename(folder / "adapter_model.bin")
        case "dora":
            config.write_text(json.dumps(said | {"use_dora": True}))
        case "odd":
            weights.write_bytes(weights.read_bytes().replace(b"q_proj", b"n_proj"))
            config.write_text(json.dumps(said | {"target_modules": ["n_proj", "v_proj"]}))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as name:
        folder = Path(name)
        write(folder / "model")
        for index, adapter in enumerate(("one", "two")):
            write_adapter(folder / adapter, index + 1, rank=8 * (index + 1))
        for kind in BAD:
            _spoil(folder / "one", folder / kind, kind)
        yield folder


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[DaemonFixture]:
    names = ("one", "two", *BAD)
    adapters = "".join(f'[models.{name}]\nbase = "base"\nadapter = "{folder / name}"\n' for name in names)
    with DaemonFixture(PROFILE.format(folder=folder) + adapters, engine="vllm") as running:
        yield running


@pytest.fixture
def client(daemon: DaemonFixture) -> Iterator[Client]:
    with Client(str(daemon.socket), timeout=60) as client:
        yield client


def say(daemon: DaemonFixture, model: str, text: str) -> str:
    with Client(str(daemon.socket), timeout=60) as client:
        return client.complete(text, model=model, **ASK).text  # type: ignore[arg-type]


def test_each_has_answers_of_its_own_also_in_one_batch(daemon: DaemonFixture, client: Client) -> None:
    asked = [(model, text) for model in ("base", "one", "two") for text in ("The keeper", "Every old fox", "My cat")]
    alone = [say(daemon, *one) for one in asked]
    assert len(set(alone)) == len(asked), "other weights say other things"
    with ThreadPoolExecutor(len(asked)) as pool:
        for _ in range(3):
            assert list(pool.map(lambda one: say(daemon, *one), asked)) == alone
    models = {one.name: one for one in client.models()}
    assert {models[name].pid for name in ("base", "one", "two")} == {models["base"].pid}
    assert models["one"].state == models["two"].state == "ready"


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_one_says_what_is_wrong_and_harms_nobody(daemon: DaemonFixture, client: Client, kind: str) -> None:
    before, pid = say(daemon, "one", "The keeper"), client.show("base").pid
    with pytest.raises(DaemonFailed) as failed:
        client.chat("hi", model=kind)
    assert failed.value.code == "load_failed"
    assert BAD[kind] in str(failed.value), str(failed.value)
    assert (say(daemon, "one", "The keeper"), client.show("base").pid) == (before, pid)


def test_new_weights_in_the_same_folder_are_taken_when_it_is_loaded_again(
    daemon: DaemonFixture, client: Client, folder: Path
) -> None:
    story = "The keeper opens the door, and the child follows the fox home. " * 12
    before, pid = say(daemon, "two", story), client.show("base").pid
    assert say(daemon, "two", story) == before, "from the prefix cache"
    write_adapter(folder / "two", 77, rank=16)
    client.unload("two")
    wait_until(lambda: client.show("two").state == "cold")
    after = say(daemon, "two", story)
    assert after != before and client.show("base").pid == pid
    write_adapter(folder / "two", 2, rank=16)
    client.unload("two")
    wait_until(lambda: client.show("two").state == "cold")
    assert say(daemon, "two", story) == before
