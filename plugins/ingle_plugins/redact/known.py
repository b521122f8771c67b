"""What was found in texts before: a conversation comes again with each turn, and only its last texts are new.

No text is kept, only where something was found, under a digest with a key of this process.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable

from ingle_plugins.redact.spans import Span

SHORTEST = 200
"""Characters from which on it is quicker to have a text's digest than to look at it again."""
TEXTS = 4096
SPANS = 100_000
"""Most texts, and places in them, that are remembered; the longest unused go first."""


class Known:
    """Places by text. Safe for threads."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._places: OrderedDict[bytes, list[Span]] = OrderedDict()
        self._spans = 0
        self._lock = threading.Lock()

    def find(self, text: str, look: Callable[[str], list[Span]]) -> list[Span]:
        """Return what `look` finds in a text, or has found."""
        if len(text) < SHORTEST:
            return look(text)
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), key=self._key, digest_size=24).digest()
        with self._lock:
            if (known := self._places.get(digest)) is not None:
                self._places.move_to_end(digest)
                return known
        found = look(text)
        with self._lock:
            if digest not in self._places:
                self._places[digest] = found
                self._spans += len(found)
            while self._spans > SPANS or len(self._places) > TEXTS:
                _, gone = self._places.popitem(last=False)
                self._spans -= len(gone)
        return found
