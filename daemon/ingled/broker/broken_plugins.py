"""Plugins that cannot run as they are now, and why."""

import logging
from collections.abc import Callable, Iterable

from ingled import link
from ingled.journal import about

log = logging.getLogger(__name__)


class BrokenPlugins:
    """What is known of them, of all hosts."""

    def __init__(self) -> None:
        self.why: dict[str, str] = {}
        """By name, as it is told to whoever asks."""
        self.at_import: set[str] = set()
        """Those whose import ends their host: they are left out of the one that others share."""

    def told(self, plugins: Iterable[link.Plugin], elsewhere: Callable[[str], bool]) -> set[str]:
        """Take note of what a host says of its plugins, and return those that cannot run; `elsewhere`: another host
        tells of a plugin.
        """
        bad = {one.name: one.problem for one in plugins if one.problem}
        for name, problem in bad.items():
            log.error("plugin '%s': %s", name, problem, extra=about(hook=name))
        kept = {name: why for name, why in self.why.items() if elsewhere(name) or name in self.at_import}
        self.why = kept | bad
        return set(bad)

    def ended_its_host(self, name: str, words: str) -> None:
        """The import of a plugin ended its host."""
        log.error("plugin '%s' ends the hook host at its import: it is left out", name, extra=about(hook=name))
        self.at_import.add(name)
        self.why[name] = f"its import ends the hook host ({words})"

    def have_no_host(self, names: Iterable[str], why: str) -> None:
        """A host of these cannot be started."""
        self.why |= dict.fromkeys(names, why)
