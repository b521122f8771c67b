"""Hook hosts that cannot be started, or end before they have said what they offer."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ingled import link
from ingled.broker.host_children import HostChildren
from ingled.broker.host_processes import Told
from ingled.broker.hosts import MAIN, TRIES, Group, Hosts
from ingled.broker.judge import import_that_ended
from ingled.core import events as on


def test_plugins_whose_host_cannot_be_started_are_broken_and_those_of_another_host_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()

    def no_process(*_: Any, **__: Any) -> None:
        raise OSError("no processes left")

    monkeypatch.setattr(subprocess, "Popen", no_process)
    loop, events = asyncio.new_event_loop(), []
    setup = link.Setup({"guard": link.Choice(), "other": link.Choice(), "off": link.Choice(enabled=False)})
    nobody = HostChildren(tmp_path)
    hosts = Hosts(loop, tmp_path, setup, nobody, send=lambda peer, message: None, dispatch=events.append)
    hosts.groups["solo:guard"] = Group()  # it runs, and the one of the others has died
    for _ in range(TRIES):
        hosts.want(MAIN)
    (offered,) = events
    assert isinstance(offered, on.PluginsOffered)
    assert [(entry.name, "no processes left" in entry.broken) for entry in offered.entries] == [("other", True)]
    events.clear()
    for _ in range(TRIES):
        hosts.want("solo:guard")
    (offered,) = events
    assert (offered.provider, [entry.name for entry in offered.entries]) == ("group:solo:guard", ["guard"])
    loop.close()


class Elsewhere:
    """Starts hosts that end so soon that they are not there any more when it is told of them."""

    expects = False

    def __init__(self) -> None:
        self.asked: list[Told] = []
        self.starts = 0
        self.started: Callable[[str, int], None] = lambda group, pid: None
        self.failed: Callable[[str, str], None] = lambda group, why: None
        self.renewed: Callable[[], None] = lambda: None

    def start(self, group: str) -> None:
        self.starts += 1
        self.started(group, NOBODY)

    def ended(self, pid: int, then: Told) -> None:
        self.asked.append(then)

    def kill(self, pid: int) -> None: ...

    def dismiss(self) -> None: ...


NOBODY = (1 << 22) + 1
"""No process has this number: the kernel's largest is 2^22."""


def test_a_host_that_was_gone_before_it_could_be_watched_has_its_last_words_heard(tmp_path: Path) -> None:
    loop, elsewhere = asyncio.new_event_loop(), Elsewhere()
    setup = link.Setup({"bad": link.Choice(), "good": link.Choice()})
    hosts = Hosts(loop, tmp_path, setup, elsewhere, send=lambda peer, message: None, dispatch=lambda event: None)
    hosts.want(MAIN)
    hosts.want(MAIN)
    assert elsewhere.starts == 1, "one is on its way until it is known how it ended"
    (tell,) = elsewhere.asked
    tell("exit status 3", [f"12:00 INFO ingled.hooks {NOBODY}: loading plugin 'bad'", "so long"])
    assert hosts.broken.why == {"bad": "its import ends the hook host (exit status 3)"}
    hosts.want(MAIN)
    assert elsewhere.starts == 2
    loop.close()


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], None),
        (["t INFO r 7: loading plugin 'a'", "t INFO r 7: loading plugin 'b'"], "b"),
        (["t INFO r 7: loading plugin 'a'", "what it printed", "t INFO r 8: loading plugin 'b'"], "a"),
        (["t INFO r 7: loading plugin 'a'", "t INFO h 7: host 'main': 1 plugins, 0 of them unfit, in 3 ms"], None),
        (["t INFO r 17: loading plugin 'a'"], None),
    ],
)
def test_whose_import_ended_a_host_is_told_by_its_own_lines_of_the_log(lines: list[str], found: str | None) -> None:
    assert import_that_ended(7, lines) == found
