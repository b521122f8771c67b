"""`python -m ingled.worker plan`: what models would take, by a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ingled.link import Estimate, Planned, Spec
from ingled.models.builtin import EMBER_OPTIONS
from ingled.testing_model import write


def plan(*specs: Spec) -> list[Planned]:
    command = [sys.executable, "-P", "-m", "ingled.worker", "plan"]
    done = subprocess.run(command, input=msgspec.json.encode(specs), capture_output=True, timeout=400, check=True)
    return msgspec.json.decode(done.stdout, type=list[Planned])


def test_each_spec_has_an_answer_by_its_place() -> None:
    good = Spec("a", "echo", "", echo={"memory": {"weights": 7, "kv_cache": 3}})
    bad = Spec("b", "echo", "", echo={"oops": 1})
    first, second = plan(good, bad)
    assert first == Planned(0, estimate=Estimate(weights=7, kv_cache=3))
    assert second.ref == 1 and second.estimate is None and "oops" in (second.reason or "")


def test_what_is_no_list_of_specs_is_said() -> None:
    done = subprocess.run([sys.executable, "-m", "ingled.worker", "plan"], input=b"{", capture_output=True, timeout=100)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"no list of specs" in done.stderr


@pytest.mark.vllm
@pytest.mark.timeout(500)
def test_vllm_counts_each_kind_of_attention(tmp_path: Path) -> None:
    """By concurrency, with less cache than context, an output matrix that is there whatever is said, one unknown."""
    base = write(tmp_path / "babble")
    config = json.loads((base / "config.json").read_text())

    def variant(name: str, **changes: Any) -> Spec:
        folder = tmp_path / name
        folder.mkdir()
        for file in base.iterdir():
            (folder / file.name).symlink_to(file)
        (folder / "config.json").unlink()
        (folder / "config.json").write_text(json.dumps(config | changes))
        return Spec(name, "vllm", str(folder), {**EMBER_OPTIONS, "max_model_len": 32768})

    plain = variant("plain")
    sized = msgspec.structs.replace(plain, options={**plain.options, "kv_cache_memory_bytes": None}, concurrency=3)
    small = msgspec.structs.replace(plain, options={**plain.options, "kv_cache_memory_bytes": 4 << 20})
    wide = msgspec.structs.replace(plain, options={**plain.options, "max_num_batched_tokens": 8192})
    few = msgspec.structs.replace(plain, options={**plain.options, "max_num_seqs": 2})
    odd = variant("odd", architectures=["Odd"])
    found = plan(plain, sized, small, variant("tied", tie_word_embeddings=True), odd, wide, few)
    first, three, short, tied, _, much, little = (one.estimate for one in found)
    assert first and three and short and tied and much and little
    assert little.activations < first.activations < much.activations, "the largest batch is smaller, and larger"
    assert (first.token_bytes, first.answers) == (512, 4.0)
    assert three.kv_cache == 512 * 128 * (256 * 3 + 1) and three.answers == pytest.approx(3.0, 0.01)
    assert short.answers == 0.25 and short.longest == 8192
    assert tied.weights == first.weights
    assert found[4].estimate is None and "Odd" in (found[4].reason or "")
