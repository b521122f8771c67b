"""redact: secrets and personal data do not reach the model, and come back in its answer (docs/plugins/redact.md).

Placeholders such as `[EMAIL_1]` go to the model. What they stand for travels as the request's state, in the memory of
the daemon only, and is put back into the answer.
"""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import msgspec
from ingle.wire.hook_schema import Hold
from ingle.wire.limits import HOOK_STATE_BYTES
from ingled.hooks import Answer, Call, Handler, Hook, Message, Verdict, changed, hookimpl, refuse

from ingle_plugins.redact.find import RANKS, Finder
from ingle_plugins.redact.options import KINDS, Options, check
from ingle_plugins.redact.spans import Span, merged
from ingle_plugins.redact.vault import Vault, restorer

__all__ = ["HOOK", "VERSION", "Finder", "Options", "check", "without"]

VERSION = "1.0"
HOOK = Hook(
    order=50,  # before whatever else looks at or stores the messages
    deadline_ms=5000,  # the first request reads the rules and lists
    on_error="refuse",
    # Only what may be the beginning of a placeholder is held, so seldom anything: better late than a broken one.
    hold=Hold(chars=64, ms=5000),
    security=True,
)


@hookimpl
def ingled_prompt(messages: list[Message], call: Call, options: Options) -> Verdict | None:
    """Put placeholders in the place of everything found."""
    finder = finder_for(msgspec.msgpack.encode(options))
    texts = [message["content"] for message in messages]
    places = everywhere(texts, [finder.find(text) for text in texts])
    vault = Vault(texts)
    counts: Counter[str] = Counter()
    result: list[Message] = []
    for message, found in zip(messages, places, strict=True):
        text, at, out = message["content"], 0, []
        for start, end, kind in found:
            counts[kind] += 1
            out += [text[at:start], vault.placeholder(kind, text[start:end])]
            at = end
        result.append({"role": message["role"], "content": "".join([*out, text[at:]])})
    if not counts:
        return None
    if options.reversible:
        state = vault.state()
        if len(state) > HOOK_STATE_BYTES:
            reason = (
                f"redact: {len(vault.originals)} values to keep are {len(state)} bytes, and a request can carry "
                f"{HOOK_STATE_BYTES}; send less at once, or set reversible = false"
            )
            return refuse(reason, **counts)
        call.state = state
    return changed(result, **counts)


@hookimpl
def ingled_chunk(call: Call) -> Handler | None:
    """Put the originals back into a stream."""
    return restorer(call.state) if call.state else None


@hookimpl
def ingled_answer(answer: Answer, call: Call) -> Verdict | None:
    """Put the originals back into an answer that was not streamed."""
    if call.stream or not call.state:
        return None
    handler = restorer(call.state)
    text = handler.feed(answer["text"]) + handler.flush()
    return changed(text) if text != answer["text"] else None


@lru_cache(maxsize=8)
def finder_for(encoded: bytes) -> Finder:
    """Return the finder of these options, made once."""
    return Finder(msgspec.msgpack.decode(encoded, type=Options))


def without(texts: list[str], finder: Finder, put: str) -> list[str]:
    """Return the texts with everything that is found in them replaced, for good: for what is to be kept."""
    cleaned = []
    for text, found in zip(texts, everywhere(texts, [finder.find(text) for text in texts]), strict=True):
        at, out = 0, []
        for start, end, _ in found:
            out += [text[at:start], put]
            at = end
        cleaned.append("".join([*out, text[at:]]))
    return cleaned


def everywhere(texts: list[str], places: list[list[Span]]) -> list[list[Span]]:
    """Add where the secrets that were found stand once more, without what gave them away there."""
    secrets = {
        text[start:end]: kind
        for text, found in zip(texts, places, strict=True)
        for start, end, kind in found
        if kind not in PERSONAL and end - start >= SHORTEST
    }
    if not secrets:
        return places
    return [merged([*found, *occurrences(text, secrets)], RANKS) for text, found in zip(texts, places, strict=True)]


def occurrences(text: str, secrets: dict[str, str]) -> Iterator[Span]:
    """Yield each place of a secret in a text; `secrets` have their kinds."""
    if len(secrets) * len(text) < MANY:
        for secret, kind in secrets.items():
            at = text.find(secret)
            while at >= 0:
                yield Span(at, at + len(secret), kind)
                at = text.find(secret, at + len(secret))
        return
    by_begin: dict[str, list[str]] = {}
    for secret in secrets:
        by_begin.setdefault(secret[:SHORTEST], []).append(secret)
    for at in range(len(text) - SHORTEST + 1):
        for secret in by_begin.get(text[at : at + SHORTEST], ()):
            if text.startswith(secret, at):
                yield Span(at, at + len(secret), secrets[secret])


PERSONAL = frozenset(KINDS) - {"secret"}
MANY = 500_000_000
"""Secrets times characters, from which on one pass over the text is quicker than one for each secret."""
SHORTEST = 6
"""Characters from which on a secret is looked for by itself; shorter ones are parts of other words."""
