"""No path around the chain, and the truth in the reply: what hooks are promised, on a real daemon."""

from pathlib import Path
from typing import Any

from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

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
HEAD = "from ingled.hooks import Hook, Stop, answered, changed, hookimpl, note, refuse\nimport os, time\n"


def write(folder: Path, name: str, text: str) -> None:
    fresh = folder / f".{name}.new"
    fresh.write_text(HEAD + text)
    fresh.rename(folder / f"{name}.py")


def daemon_with(folder: Path, more: str = "", **plugins: str) -> DaemonFixture:
    for name, text in plugins.items():
        write(folder, name, text)
    return DaemonFixture(CONFIG.format(folder=folder, more=more))


def hooks(client: Wire) -> dict[str, Any]:
    return {hook["name"]: hook for hook in client.call("hooks")["hooks"]}


def told(end: dict[str, Any], name: str) -> dict[str, Any]:
    """What the reply says of a hook that was met once."""
    (one,) = (hook for hook in end["hooks"] if hook["name"] == name)
    return dict(one)


RAISES = """
HOOK = Hook(on_error="refuse")

@hookimpl
def ingled_prompt(messages):
    raise RuntimeError("always")
"""
NOTHING = """
@hookimpl
def ingled_prompt(messages):
    return None
"""


def test_a_plugin_that_has_tripped_stays_so_until_it_has_changed(tmp_path: Path) -> None:
    with daemon_with(tmp_path, bad=RAISES, other=NOTHING) as daemon, Wire(daemon.socket) as client:
        for _ in range(5):
            assert told(client.read(client.ask("x"))[1], "bad")["verdict"] == "error"
        assert hooks(client)["bad"]["state"] == "tripped"
        before = hooks(client)["other"]["pid"]
        write(tmp_path, "other", NOTHING + "\n# saved again\n")
        wait_until(lambda: hooks(client)["other"]["pid"] not in (None, before))
        assert hooks(client)["bad"]["state"] == "tripped", "a fresh host changes nothing"
        end = client.read(client.ask("x"))[1]
        assert end["code"] == "hook_failed"
        assert told(end, "bad")["verdict"] == "skipped" and "tripped" in told(end, "bad")["why"]
        write(tmp_path, "bad", NOTHING)
        wait_until(lambda: hooks(client)["bad"]["state"] == "active")
        assert told(client.read(client.ask("x"))[1], "bad")["verdict"] == "unchanged"
