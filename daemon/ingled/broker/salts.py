"""The salt under which the prefix cache knows an account: it tells no account about another's prompts. Pure."""

import hashlib
import hmac
from collections.abc import Callable
from functools import lru_cache

REMEMBERED = 1024
"""Accounts whose salt is at hand."""


def salts(secret: str) -> Callable[[str], str]:
    """Return what makes the salt of an account; it is the same as long as the start-up secret is."""

    @lru_cache(REMEMBERED)
    def salt(account: str) -> str:
        return hmac.new(secret.encode(), account.encode(), hashlib.sha256).hexdigest()[:32]

    return salt
