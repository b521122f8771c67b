"""Numbers that both sides of the public socket agree on (docs/protocol.md, Limits)."""

from __future__ import annotations

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Final

PROTOCOL: Final = (1, 9)
"""The newest protocol that this code speaks: (major, minor)."""

FRAME_BYTES: Final = 4 << 20
"""Largest message that the daemon accepts, and largest that it sends, in bytes."""

DEPTH: Final = 32
"""Deepest nesting of maps and arrays in a message."""

CREDIT: Final = 256
"""Most chunks (or events) that may be outstanding on one stream."""

DEFAULT_CREDIT: Final = 16
"""Credit of a request that names none."""

CHUNK_BYTES: Final = 64 << 10
"""Most text in one chunk, in UTF-8 bytes; longer text is cut into several chunks."""

SCHEMA_BYTES: Final = 64 << 10
"""Largest JSON schema of a `response_format`, in bytes as packed."""

OPEN_REQUESTS: Final = 256
"""Most open requests of one account."""

STRING: Final = 256
"""Longest name, tag, id, verb or topic, in characters."""

MAX_REF: Final = (1 << 53) - 1
"""Largest `ref`, so that every language can hold it exactly."""

INTEGERS: Final = range(-(1 << 63), 1 << 64)
"""Whole numbers that MessagePack can carry."""

HOOK_DEADLINE_MS: Final = 60_000
"""Longest deadline of one call of a hook."""

HOOK_HOLD_CHARS: Final = 65_536
HOOK_HOLD_MS: Final = 60_000
"""Most text that a chunk handler may hold back, and longest time."""

HOOK_STATE_BYTES: Final = 256 << 10
"""Most that one hook may keep for one request."""

HOOKS: Final = 64
"""Most hooks that one connection may offer."""

CONTEXT_ITEMS: Final = 64
"""Most items of context that come with a request."""

EMBED_INPUTS: Final = 2048
"""Most texts that one request makes vectors of."""
