"""What a model takes of memory, part by part; how it is known; and what would make it fit. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ingled.core.placement import Device, Resident

Source = Literal["configured", "measured", "estimated", "bound", "unknown"]
"""By what is known: the profile says so; it was loaded before; the engine's plan; the headers of its weights."""

STEP = 256
"""Tokens in which a shorter context is proposed."""
MIB = 1 << 20
SHORT = 1.1
"""Who ran out of memory is taken to need so many times as much as it was given."""
BITS = {8: 1.0, 4: 0.5625}
"""Quantized weights and the bytes of one, the scales of groups of 32 included."""


@dataclass(frozen=True, slots=True)
class Parts:
    """In bytes."""

    weights: int = 0
    kv_cache: int = 0
    activations: int = 0
    process: int = 0

    @property
    def total(self) -> int:
        """Return all together."""
        return self.weights + self.kv_cache + self.activations + self.process


@dataclass(frozen=True, slots=True)
class Need:
    """What one model takes."""

    bytes: int = 0
    source: Source = "unknown"
    parts: Parts = Parts()
    token_bytes: int = 0
    """Of a token in the KV cache."""
    context: int = 0
    least_cache: int = 0
    """A shorter context makes the KV cache no smaller than this: all of it, where its size is configured."""
    width: int = 2
    """Bytes of a number of the weights."""
    quantized: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What an earlier load took: when it was ready, of that the KV cache, and the most since."""

    taken: int
    kv_cache: int
    most: int
    full: bool = False
    """Its largest batch has run: more than `most` is not to be expected."""
    short: int = 0
    """With so many bytes it ran out of memory."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that would make a model fit."""

    what: Literal["context", "kv_cache", "dtype", "quantization", "unload"]
    value: int | str | tuple[str, ...]
    need: int
    """What it takes then."""
    say: str
    """For people."""


def known(planned: Need, measured: Measured | None = None, configured: int = 0) -> Need:
    """Return what is known best of a model that has been planned, or whose headers have been read."""
    if configured:
        return replace(planned, bytes=configured, source="configured")
    found = planned if measured is None or not measured.taken else _learned(planned, measured)
    if measured is None or not measured.short or found.bytes > measured.short:
        return found
    parts = replace(found.parts, activations=found.parts.activations + int(measured.short * SHORT) - found.bytes)
    return replace(found, bytes=parts.total, source="measured", parts=parts)


def _learned(planned: Need, measured: Measured) -> Need:
    guess = planned.parts
    weights = min(guess.weights, max(0, measured.taken - measured.kv_cache))
    process = measured.taken - measured.kv_cache - weights
    grown = max(0, measured.most - measured.taken)
    activations = grown if measured.full else max(guess.activations, grown)
    parts = Parts(weights, measured.kv_cache, activations, process)
    return replace(planned, bytes=parts.total, source="measured", parts=parts)


def changes(need: Need, device: Device, residents: Sequence[Resident]) -> list[Change]:
    """Return what would make a model fit that does not; each by itself is enough."""
    if device.budget is None:
        return []
    room = device.budget - sum(one.terms.need for one in residents if one.pinned)
    fixed = need.bytes - need.parts.kv_cache
    found: list[Change] = []
    if need.parts.kv_cache and need.context:
        found += _less_cache(need, room - fixed)
    if need.width == 4 and not need.quantized:
        cache = need.parts.kv_cache
        smaller = max(cache // 2, min(cache, need.least_cache))
        less = need.bytes - need.parts.weights // 2 - cache + smaller  # what a batch takes hardly changes
        if less <= room:
            found.append(Change("dtype", "bfloat16", less, "dtype = bfloat16"))
    if not need.quantized and need.parts.weights:
        for bits, width in BITS.items():
            less = need.bytes - need.parts.weights + int(need.parts.weights * width / need.width)
            if less <= room and less < need.bytes:
                found.append(Change("quantization", f"{bits} bit", less, f"a variant of it with {bits} bits a weight"))
                break
    if need.bytes <= device.budget and (away := _away(need.bytes, device.budget, residents)):
        found.append(Change("unload", away, need.bytes, f"without {', '.join(away)}"))
    return found


def _less_cache(need: Need, room: int) -> list[Change]:
    """Return a context, and a KV cache, that so many bytes hold."""
    found: list[Change] = []
    fixed, cache = need.bytes - need.parts.kv_cache, need.parts.kv_cache
    context = room * need.context // cache // STEP * STEP if room > 0 else 0
    if STEP <= context < need.context and cache * context // need.context >= need.least_cache:
        less = fixed + cache * context // need.context
        found.append(Change("context", context, less, f"context = {context}"))
    size = room // MIB
    if need.token_bytes and need.token_bytes * need.context <= size * MIB < cache:
        found.append(Change("kv_cache", f"{size}MiB", fixed + size * MIB, f'kv_cache = "{size}MiB"'))
    return found


def _away(need: int, budget: int, residents: Sequence[Resident]) -> tuple[str, ...]:
    """Return those that would have to go, the fewest: the largest first."""
    excess = need + sum(one.terms.need for one in residents if not one.leaving) - budget
    away: list[str] = []
    for one in sorted(residents, key=lambda one: one.terms.need, reverse=True):
        if excess > 0 and not one.leaving and one.terms.need:
            away.append(one.name)
            excess -= one.terms.need
    return tuple(away) if excess <= 0 else ()
