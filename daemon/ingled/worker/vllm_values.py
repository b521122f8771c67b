"""Our values as vLLM's and vLLM's as ours; without importing vLLM."""

from typing import Any

from ingle.wire.schema import Sampling

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot carry."""
SAMPLED = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "stop",
    "ignore_eos",
)
"""Fields of `Sampling` that `SamplingParams` has under the same name and with the same meaning."""


def named(sampling: Sampling) -> dict[str, Any]:
    """Return the options that are set, as arguments of `SamplingParams`."""
    found = {name: getattr(sampling, name) for name in SAMPLED}
    return {name: value for name, value in found.items() if value is not None and value is not False}


def readable(positions: Any, tokens: list[int], most: int) -> list[dict[str, Any]]:
    """Return vLLM's logprobs as text, the chosen token first and the likeliest `most` beside it."""
    found = []
    for position, token in zip(positions, tokens, strict=False):
        ranked = sorted(position.values(), key=lambda one: one.rank or 0)
        top = [_logprob(one) for one in ranked if one.rank is not None and one.rank <= most]
        found.append(_logprob(position[token]) | {"top": top})
    return found


def _logprob(one: Any) -> dict[str, Any]:
    return {"token": one.decoded_token or "", "logprob": max(float(one.logprob), LEAST_LOGPROB)}
