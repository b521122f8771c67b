"""`python -m ingled.worker plan`: what models would take, by a process of its own."""

import json
import subprocess
import sys
from fnmatch import fnmatchcase
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


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dtype": "float99"}, "dtype is 'float99': expected 'auto', 'half', 'float16', 'bfloat16', 'float' or 'float32'"),
    ({"quantization": "magic"}, "quantization is 'magic': expected *awq*fp8*"),
    ({"quantization": "fp8"}, "quantization is 'fp8': expected dtype bfloat16 or float16 with it, and it is float32"),
    ({"kv_cache_dtype": "fp99"}, "kv_cache_dtype is 'fp99': expected 'auto', *'fp8', *"),
    ({"max_model_len": 0}, "context (max_model_len) is 0: expected at least 1"),
    (
        {"max_model_len": 99_999_999},
        "context (max_model_len) is 99999999: expected at most 32768, for which the model was made",
    ),
    ({"max_model_len": "many"}, "context (max_model_len) is 'many': expected a whole number"),
    (
        {"tensor_parallel_size": 3},
        "tensor_parallel (tensor_parallel_size) is 3: expected a number by which the model's 2 attention heads can be "
        "divided",
    ),
    ({"max_num_seqs": 0}, "max_sequences (max_num_seqs) is 0: expected at least 1"),
    ({"bogus": 1}, "vLLM has no option 'bogus'"),
]


@pytest.mark.vllm
@pytest.mark.timeout(500)
def test_what_vllm_refuses_is_told_with_option_value_and_what_is_allowed(tmp_path: Path) -> None:
    source = str(write(tmp_path / "babble"))
    specs = [Spec(str(number), "vllm", source, EMBER_OPTIONS | said) for number, (said, _) in enumerate(REFUSED)]
    for planned, (said, words) in zip(plan(*specs), REFUSED, strict=True):
        assert fnmatchcase(planned.reason or "", words), (said, planned)
        assert planned.estimate is None and "\n" not in (planned.reason or "")


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
    halves = msgspec.structs.replace(plain, options={**plain.options, "tensor_parallel_size": 2})
    answers = msgspec.structs.replace(sized, options={**sized.options, "tensor_parallel_size": 2})
    found = plan(plain, sized, small, variant("tied", tie_word_embeddings=True), odd, wide, few, halves, answers)
    first, three, short, tied, _, much, little, two, enough = (one.estimate for one in found)
    assert first and three and short and tied and much and little and two and enough
    assert two.kv_cache == first.kv_cache, "a size is that of the whole cache, on however many devices"
    assert (two.devices, two.answers) == (2, 2.0), "its one head is kept on both"
    assert enough.kv_cache == 2 * three.kv_cache and enough.answers == three.answers
    assert two.process > first.process, "there are more processes"
    assert little.activations < first.activations < much.activations, "the largest batch is smaller, and larger"
    assert (first.token_bytes, first.answers) == (512, 4.0)
    assert three.kv_cache == 512 * 128 * (256 * 3 + 1) and three.answers == pytest.approx(3.0, 0.01)
    assert short.answers == 0.25 and short.longest == 8192
    assert tied.weights == first.weights
    assert found[4].estimate is None and "Odd" in (found[4].reason or "")
