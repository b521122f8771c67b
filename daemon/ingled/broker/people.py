"""Who the accounts are: users and groups from the system's database, which may be slow, and is not waited for.

A new connection waits until the system has told who its peer is (`router.py`), so that the first message finds it
known. What was told is looked up again when it is older than a minute.
"""

import asyncio
import grp
import logging
import os
import pwd
from collections.abc import Callable

from ingled.core.accounts import Accounts, Person, Rights

log = logging.getLogger(__name__)

STALE_S = 60.0
"""Seconds for which what the system told of somebody is taken to be true."""


def look_up(uid: int) -> Person:
    """Ask the system who this is; a uid that it does not know has no name and no groups."""
    account = f"uid:{uid}"
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Person(account)
    groups = set()
    for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        try:
            groups.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            groups.add(str(gid))
    return Person(account, entry.pw_name, frozenset(groups))


class People:
    """The people that have come, and what they may do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, accounts: Accounts) -> None:
        self._loop, self._accounts = loop, accounts
        self._people: dict[int, Person] = {}
        self._rights: dict[int, Rights] = {}
        self._asked_at: dict[int, float] = {}
        self._asking: dict[int, list[Callable[[], None]]] = {}

    def person(self, uid: int) -> Person:
        """Return what is known of somebody."""
        return self._people.get(uid) or Person(f"uid:{uid}")

    def decide_by(self, accounts: Accounts) -> None:
        """From now on these rules decide."""
        self._accounts = accounts
        self._rights.clear()

    def rights(self, uid: int) -> Rights:
        """Return what somebody may do now."""
        found = self._rights.get(uid)
        if found is None:
            found = self._rights[uid] = self._accounts.rights(self.person(uid))
        return found

    def meet(self, uid: int, then: Callable[[], None]) -> None:
        """Call `then` as soon as it is known who this is: at once, unless nobody of this uid has come before."""
        known = uid in self._people
        if known:
            then()
        if uid in self._asking:
            if not known:
                self._asking[uid].append(then)
        elif not known or self._loop.time() - self._asked_at[uid] > STALE_S:
            self._asking[uid] = [] if known else [then]
            self._loop.run_in_executor(None, look_up, uid).add_done_callback(lambda told: self._told(uid, told))

    def _told(self, uid: int, told: "asyncio.Future[Person]") -> None:
        self._asked_at[uid] = self._loop.time()
        if told.cancelled():
            return
        error = told.exception()
        if error is not None:
            log.warning("the system does not tell who uid %d is: %s", uid, error)
        self._people[uid] = self.person(uid) if error is not None else told.result()
        self._rights.pop(uid, None)
        for then in self._asking.pop(uid):
            then()
