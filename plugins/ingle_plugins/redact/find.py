"""Everything in a text that has to go, by the options."""

from collections.abc import Callable, Iterator

from ingle_plugins.linear import compiled
from ingle_plugins.redact import names, personal, rules
from ingle_plugins.redact.known import Known
from ingle_plugins.redact.options import Options
from ingle_plugins.redact.spans import Span, merged

RANKS = {kind: rank for rank, kind in enumerate(("secret", "iban", "card", "email", "phone", "ip", "name"), 1)}
"""Which kind a place is of that several detectors claim; own patterns go first."""

PIECE = 200_000
"""Characters that are looked at in one go. Longer texts are cut, with an overlap, so that memory stays bounded."""
OVERLAP = 5_000


class Finder:
    """Finds by one set of options."""

    def __init__(self, options: Options) -> None:
        self._detectors = list(detectors(options))
        self._allowed = {text.casefold() for text in options.allow}
        self._allowed_patterns = [compiled(pattern) for pattern in options.allow_patterns]
        self._known = Known()

    def find(self, text: str) -> list[Span]:
        """Return where in the text something has to go, in order and without overlaps."""
        return self._known.find(text, self._look)

    def _look(self, text: str) -> list[Span]:
        spans: set[Span] = set()
        for offset in range(0, max(len(text) - OVERLAP, 1), PIECE - OVERLAP):
            piece = text[offset : offset + PIECE]
            for detect in self._detectors:
                for start, end, kind in detect(piece):
                    if end > start and not self._allows(piece[start:end]):
                        spans.add(Span(offset + start, offset + end, kind))
        return merged(spans, RANKS)

    def _allows(self, found: str) -> bool:
        return found.casefold() in self._allowed or any(each.fullmatch(found) for each in self._allowed_patterns)


def detectors(options: Options) -> Iterator[Callable[[str], Iterator[Span]]]:
    """Yield what to look with."""
    for kind, pattern in options.patterns.items():
        yield lambda text, kind=kind, pattern=pattern: own(text, kind, pattern)  # type: ignore[misc]
    if options.secret:
        yield rules.find_secrets
        if options.entropy:
            yield lambda text: rules.find_random(text, options.entropy)
    if options.email:
        yield personal.find_emails
    if options.card:
        yield personal.find_cards
    if options.iban:
        yield personal.find_ibans
    if options.phone:
        yield lambda text: personal.find_phones(text, options.regions)
    if options.ip:
        yield personal.find_addresses
    if options.name:
        yield names.find_names


def own(text: str, kind: str, pattern: str) -> Iterator[Span]:
    """Yield what a pattern of the configuration finds: its first group where it has one, else all."""
    for match in compiled(pattern).finditer(text):
        group = 1 if match.groups() else 0
        yield Span(match.start(group), match.end(group), kind)
