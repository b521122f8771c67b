"""What an engine refuses is told in one sentence, for values that no engine of this machine can be asked about, too."""

from typing import Any

import pytest
from ingled.worker.refusals import refusal


class Invalid(ValueError):
    """Stands for what pydantic raises."""

    def __init__(self, *details: dict[str, Any]) -> None:
        super().__init__(f"{len(details)} validation errors")
        self._details = list(details)

    def errors(self) -> list[dict[str, Any]]:
        """Return all of it."""
        return self._details


def wrong(loc: tuple[str, ...], type: str, input: object, msg: str = "Bad", **ctx: object) -> dict[str, Any]:
    return {"loc": loc, "type": type, "input": input, "msg": msg, "ctx": ctx}


def test_of_what_a_value_may_be_a_choice_says_most() -> None:
    one = wrong(("dtype", "is-instance[dtype]"), "is_instance_of", "float99")
    other = wrong(("dtype", "literal['auto']"), "literal_error", "float99", expected="'auto' or 'half'")
    assert refusal(Invalid(one, other), {}) == "dtype is 'float99': expected 'auto' or 'half'"


def test_what_somebody_has_said_comes_before_what_follows_from_it() -> None:
    follows = wrong(("max_num_batched_tokens",), "greater_than_equal", 0, ge=1)
    said = wrong(("max_num_seqs",), "greater_than_equal", 0, ge=1)
    error = Invalid(follows, said)
    assert refusal(error, {"max_num_seqs": 0}) == "max_sequences (max_num_seqs) is 0: expected at least 1"
    assert refusal(error, {}).startswith("max_num_batched_tokens is 0: expected at least 1; max_sequences")


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        (wrong(("cache_dtype",), "literal_error", 7, expected="'fp8'"), "kv_cache_dtype is 7: expected 'fp8'"),
        (wrong(("seed",), "int_parsing", "x"), "seed is 'x': expected a whole number"),
        (wrong(("gpu_memory_utilization",), "less_than_equal", 7, le=1.0), "is 7: expected at most 1.0"),
        (wrong(("swap",), "value_error", 7, "Value error, Too much of it"), "swap is 7: too much of it"),
        (wrong((), "value_error", {}, "Value error, A and B exclude one another"), "A and B exclude one another"),
    ],
)
def test_one_sentence_names_option_value_and_rule(detail: dict[str, Any], words: str) -> None:
    assert refusal(Invalid(detail), {}).endswith(words)


def test_more_gpus_than_there_are() -> None:
    text = "World size (3) is larger than the number of available GPUs (1) in this node. If this is\nintentional and"
    words = "tensor_parallel (tensor_parallel_size) is 3: expected at most 1, the number of GPUs here"
    assert refusal(ValueError(text), {}) == words
    nested = wrong((), "value_error", {}, f"Value error, {text}")
    assert refusal(Invalid(nested), {}) == words


def test_what_is_not_known_is_told_as_it_is() -> None:
    assert refusal(ValueError("something\nelse"), {}) == "something else"
