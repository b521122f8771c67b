"""What plugins are in the chain: hooks, and stand-ins for those that are configured and cannot run."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from ingle.wire.hook_schema import HookOffer, Point

from ingled import link
from ingled.core.registry import Entry

EVERYWHERE: list[Point] = ["request", "prompt", "chunk", "answer"]
"""Where a request meets what stands for a plugin: nobody knows at which points that would have been."""


def entries(provider: str, plugins: Sequence[link.Plugin], choices: Mapping[str, link.Choice]) -> list[Entry]:
    """Return the hooks that a host offers, which is this provider."""
    found = []
    for one in plugins:
        if one.offer is not None and not one.problem:
            digest = f"{one.digest}.{_digest(choices.get(one.name))}"
            found.append(Entry(one.offer, provider, source=one.source, digest=digest))
        else:
            found += stand_ins(provider, {one.name: one.problem}, choices, one.source)
    return found


def _digest(choice: link.Choice | None) -> str:
    """Return what is another when the configuration says something else of a plugin."""
    return hashlib.sha256(msgspec.json.encode(choice, order="deterministic")).hexdigest()[:16]


def stand_ins(
    provider: str, problems: Mapping[str, str], choices: Mapping[str, link.Choice], source: str = ""
) -> Iterable[Entry]:
    """Yield what stands for plugins that cannot run: they refuse requests, unless they may be skipped.

    A plugin that the configuration does not name has none.
    """
    for name, why in problems.items():
        choice = choices.get(name)
        if choice is None or not choice.enabled:
            continue
        policy = choice.on_error or "refuse"
        offer = HookOffer(
            0, name, EVERYWHERE, select=choice.select, on_error=policy, scope="all", trial=choice.trial,
            security=choice.security or False,
        )  # fmt: skip
        yield Entry(offer, provider, source=source, broken=f"the plugin cannot run: {why}")
