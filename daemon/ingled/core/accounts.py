"""Who may do what: the rules of the configuration, of which the first that fits decides. Pure.

docs/configuration.md, Accounts, is the promise; `broker/people.py` asks the system who somebody is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

Right = Literal["hook", "load", "requests", "shutdown"]
"""`hook`: offer hooks for its own requests. `load`: load and unload models, and see how they run. `requests`: see, end
and read requests and hooks of others. `shutdown`: end the daemon."""
RIGHTS: tuple[Right, ...] = get_args(Right)

Class = Literal["interactive", "normal", "batch"]
BATCH = 50
"""From this `priority` on a request is of class `batch`; below 0 it is of class `interactive`."""


def order(asked: int, of: Class) -> int:
    """Return the `priority` of a request whose account is of a class, so that it is in no earlier one."""
    if of == "interactive":
        return asked if asked >= BATCH else asked - 100
    return max(asked, BATCH if of == "batch" else 0)


@dataclass(frozen=True, slots=True)
class Person:
    """An account, and what the system knows of it."""

    account: str
    """`uid:N`."""
    user: str | None = None
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rights:
    """What an account may do, and how much of it; a limit of None is the daemon's own."""

    models: tuple[str, ...] = ("*",)
    may: frozenset[Right] = frozenset({"hook"})
    priority: Class = "normal"
    open_requests: int | None = None
    waiting: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    why: str = "what everybody may"
    """Which rule says so."""

    def uses(self, model: str) -> bool:
        """Return whether it may ask the model of this name."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def describe(self) -> dict[str, Any]:
        """Return what `whoami` tells of it."""
        return {
            "rule": self.why,
            "may": [right for right in RIGHTS if right in self.may],
            "priority": self.priority,
            "limits": {
                "open_requests": self.open_requests,
                "waiting": self.waiting,
                "tokens_per_minute": self.tokens_per_minute,
                "tokens_per_day": self.tokens_per_day,
            },
        }


MEMBER = Rights()
ADMIN = Rights(may=frozenset(RIGHTS), priority="interactive", why="root and the daemon's own user may everything")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a connection, the account that the kernel vouches for, and what it may do."""

    conn: int
    account: str
    rights: Rights = MEMBER

    def sees(self, account: str) -> bool:
        """Return whether it may see, end and read requests of this account."""
        return account == self.account or "requests" in self.rights.may


@dataclass(frozen=True, slots=True)
class Rule:
    """Rights, and for whom: `uid:N`, the name of a user, `group:NAME` or `*`."""

    accounts: tuple[str, ...]
    rights: Rights

    def fits(self, person: Person) -> bool:
        """Return whether this rule is about this person."""
        names = {"*", person.account, *(f"group:{group}" for group in person.groups)}
        if person.user is not None:
            names.add(person.user)
        return not names.isdisjoint(self.accounts)


@dataclass(slots=True)
class Accounts:
    """The rules; `owners` are accounts that no rule can lock out."""

    owners: frozenset[str]
    rules: Sequence[Rule] = field(default_factory=tuple)

    def rights(self, person: Person) -> Rights:
        """Return what somebody may do."""
        if person.account in self.owners:
            return ADMIN
        return next((rule.rights for rule in self.rules if rule.fits(person)), MEMBER)


def lacking(right: Right, account: str, what: str) -> tuple[str, str]:
    """Return message and hint for an account that lacks a right."""
    return (
        f"account {account} may not {what}: it has no right '{right}'",
        f'an administrator can add "{right}" to `may` of a rule; `ingle whoami` tells what you may',
    )


def forbidden(account: str, asked: str | None, rights: Rights) -> tuple[str, str]:
    """Return message and hint for an account that may not use a model, by the name that it asked for."""
    model = "the default model" if asked is None else f"model '{asked}'"
    return (
        f"account {account} may not use {model}: {rights.why}",
        "`ingle whoami` tells which models you may use",
    )


def visible(names: Iterable[str], rights: Rights) -> list[str]:
    """Return the models of these that somebody may use."""
    return [name for name in names if rights.uses(name)]
