"""A daemon with plugins in its folder, for tests, and what it tells of hooks."""

from pathlib import Path
from typing import Any

from ingled.testing import DaemonFixture, Wire

CONFIG = """
[daemon]
plugin_folder = "{folder}"
{more}
[models.fast]
source = "builtin:ember"
aliases = ["quick"]
preload = true

[models.other]
source = "builtin:ember"
"""
HEAD = (
    "from ingled.hooks import Hook, Stop, answered, changed, hookimpl, note, refuse\n"
    "import functools, os, re, time; Hook = functools.partial(Hook, deadline_ms=30_000); HOOK = Hook()\n"
)
"""Before the text of each plugin. Whatever else the machine does, none is late, unless it is to be."""


def write_plugin(folder: Path, name: str, text: str, head: str = HEAD) -> None:
    """Save a plugin, so that nobody sees half of it."""
    fresh = folder / f".{name}.new"
    fresh.write_text(head + text)
    fresh.rename(folder / f"{name}.py")


def daemon_with(folder: Path, more: str = "", **plugins: str) -> DaemonFixture:
    """Return a daemon that has these plugins; `more` is for its configuration."""
    for name, text in plugins.items():
        write_plugin(folder, name, text)
    return DaemonFixture(CONFIG.format(folder=folder, more=more))


def hooks(client: Wire) -> dict[str, Any]:
    """Return what the daemon tells of its hooks, by name."""
    return {hook["name"]: hook for hook in client.call("hooks")["hooks"]}


def told(end: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what the end of a request says of a hook that it met once."""
    (one,) = (hook for hook in end["hooks"] if hook["name"] == name)
    return dict(one)
