"""What the configuration can say about redact."""

from functools import lru_cache

import msgspec

from ingle_plugins.linear import compiled

KINDS = ("secret", "email", "phone", "card", "iban", "ip", "name")
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "SE", "BR", "IN")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which kinds go, what stays all the same, and whether originals come back."""

    secret: bool = True
    email: bool = True
    phone: bool = True
    card: bool = True
    iban: bool = True
    ip: bool = True
    name: bool = True
    reversible: bool = True
    """Put the originals back into the answer. Without it nothing is kept of them."""
    entropy: float = 4.5
    """Bits for each character from which on a word of 20 or more letters and digits is a secret by itself; 0: none."""
    allow: list[str] = []
    """What is never taken out, in any case of its letters."""
    allow_patterns: list[str] = []
    """RE2 patterns; what one matches as a whole is never taken out."""
    patterns: dict[str, str] = {}
    """More to take out: a name in lower case letters, and an RE2 pattern (its first group, if it has one)."""
    regions: list[str] = msgspec.field(default_factory=lambda: list(REGIONS))
    """Countries whose telephone numbers are known without the country's code."""


def check(options: Options) -> None:
    """Raise ValueError if these options cannot work, with what is wrong."""
    for pattern in [*options.allow_patterns, *options.patterns.values()]:
        try:
            compiled(pattern)
        except ValueError as error:
            raise ValueError(f"redact: the pattern {error}") from None
    for name, pattern in options.patterns.items():
        if not (name.isascii() and name.isalpha() and name.islower() and 2 <= len(name) <= 16):
            raise ValueError(f"redact: patterns.{name}: a name has 2 to 16 small letters")
        if name in KINDS:
            raise ValueError(f"redact: patterns.{name}: that is a kind of its own; take another name")
        if compiled(pattern).search(""):
            raise ValueError(f"redact: patterns.{name} matches the empty text")
    if not 0 <= options.entropy <= 8:
        raise ValueError("redact: entropy is between 0 (off) and 8")
    unknown = set(options.regions) - known_regions() if options.phone else set()
    if unknown:
        raise ValueError(f"redact: regions: {', '.join(sorted(unknown))}: not a country of two capital letters")


@lru_cache(maxsize=1)
def known_regions() -> frozenset[str]:
    """Return the countries that have a numbering plan."""
    import phonenumbers

    return frozenset(phonenumbers.SUPPORTED_REGIONS)
