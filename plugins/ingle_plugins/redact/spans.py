"""Where in a text something stands that has to go, and what becomes of places that overlap. Pure."""

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """A place in a text."""

    start: int
    end: int
    kind: str


def merged(spans: Iterable[Span], ranks: dict[str, int]) -> list[Span]:
    """Join places that overlap into one, of the kind with the lowest rank: nothing that any detector saw stays."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.start < result[-1].end:
            last = result[-1]
            kind = min(last.kind, span.kind, key=lambda kind: ranks.get(kind, 0))
            result[-1] = Span(last.start, max(last.end, span.end), kind)
        else:
            result.append(span)
    return result
