"""The shipped plugins in a real daemon, found by their entry points, over a real socket; the model echoes."""

import json
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ingle_plugins.provenance.keys import make
from ingled.config import load
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

ROOT = Path(__file__).parents[2]
CONFIG = """
[plugins]
guard.deadline_ms = 30_000
context.deadline_ms = 30_000
provenance.deadline_ms = 30_000
transcript.deadline_ms = 30_000
[plugins.guard.options]
commands = "refuse"
[plugins.guard.options.rules.weapons]
keywords = ["pipe bomb"]
action = "refuse"
message = "Not here."
[plugins.context.options]
bytes = 2000
[plugins.provenance.options]
key = "{folder}/key"
line = "Written by {{model}}."
[plugins.transcript.options]
folder = "{folder}/log"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonFixture]:
    folder = tmp_path_factory.mktemp("daemon")
    make(str(folder / "key"))
    with DaemonFixture(CONFIG.format(folder=folder)) as running:
        running.log_folder = folder / "log"  # type: ignore[attr-defined]
        running.public = folder / "key.pub"  # type: ignore[attr-defined]
        yield running


def ask(daemon: DaemonFixture, text: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Ask, and return the text that came and the message that ended it."""
    with closing(Wire(daemon.socket)) as wire:
        wire.ask(text, **{"credit": 256} | fields)  # nobody gives more, and how it is cut is not known
        messages = wire.until("done", "failed")
    text = "".join(message.get("x", "") for message in messages)
    return text or (messages[-1].get("result") or {}).get("text", ""), messages[-1]


def said(end: dict[str, Any], name: str, point: str) -> dict[str, Any]:
    return next(hook for hook in end["hooks"] if (hook["name"], hook["point"]) == (name, point))


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_is_marked_and_verified(daemon: DaemonFixture, tmp_path: Path, stream: bool) -> None:
    extra = [] if stream else ["--no-stream"]
    done = daemon.cli("ask", "--json", *extra, "a story about a fire, please")
    assert done.returncode == 0, done.stderr
    (tmp_path / "a.json").write_text(done.stdout)
    verified = daemon.cli("verify", str(tmp_path / "a.json"), "--key", str(daemon.public))  # type: ignore[attr-defined]
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.startswith("unchanged\nmodel      ember")
    assert "signature  good, by ed25519:" in verified.stdout
    (tmp_path / "text").write_text(daemon.cli("ask", *extra, "a story about a fire, please").stdout)
    assert "\n\nWritten by ember." in (tmp_path / "text").read_text()
    assert daemon.cli("verify", str(tmp_path / "text"), "--record", str(tmp_path / "a.json")).returncode == 0
    (tmp_path / "text").write_text("a story about a flood, please\n\nWritten by ember.\n")
    assert daemon.cli("verify", str(tmp_path / "text"), "--record", str(tmp_path / "a.json")).returncode == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_dangerous_answer_is_stopped(daemon: DaemonFixture, stream: bool) -> None:
    text, end = ask(daemon, "Do this:\n```sh\nls\nX=rm; $X -rf /\necho never said\n```\n", stream=stream)
    assert text.startswith("Do this:\n```sh\nls\n# guard: stopped here: a command in the answer deletes / ")
    assert "never said" not in text and "$X" not in text
    assert end["finish"] == "content_filter"
    assert said(end, "guard", "chunk")["verdict"] == "stop"


def test_a_forbidden_topic_is_refused(daemon: DaemonFixture) -> None:
    _, end = ask(daemon, "how to build a pipe bomb")
    assert (end["t"], end["code"]) == ("failed", "refused_by_hook")
    assert "Not here." in end["message"]


def test_context_is_shown_and_told(daemon: DaemonFixture) -> None:
    items = [{"kind": "file", "name": "a.py", "text": "x = 1\n" * 1000}, {"kind": "selection", "text": "x = 1"}]
    text, end = ask(daemon, "what is this?", context=items)
    assert "selection\n```\nx = 1\n```" in text and "the middle is left out" in text
    told = said(end, "context", "prompt")["note"]
    assert [taken["kind"] for taken in told["taken"]] == ["selection", "file"]


def test_much_context_is_told_in_a_note_that_has_room(daemon: DaemonFixture) -> None:
    items = [{"kind": "\U0001f600" * 60, "name": "\U0001f600" * 200, "text": f"{n} " * 50} for n in range(64)]
    _, end = ask(daemon, "what is this?", context=items)
    note = said(end, "context", "prompt")["note"]
    assert len(note["taken"]) + len(note["left_out"]) == 64


def test_a_long_schema_does_not_cost_the_record(daemon: DaemonFixture) -> None:
    schema = {"type": "object", "properties": {f"field{n}": {"type": "string"} for n in range(1500)}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    _, end = ask(daemon, "{}", body={"response_format": form})
    if end["t"] == "done":  # an engine that knows schemas
        assert (
            len(said(end, "provenance", "answer")["note"]["provenance"]["options"]["response_format"]["sha256"]) == 64
        )


def test_all_is_written_down_once(daemon: DaemonFixture) -> None:
    text, end = ask(daemon, "remember 4711")
    folder: Path = daemon.log_folder  # type: ignore[attr-defined]

    def written() -> list[dict[str, Any]]:
        lines = [line for file in folder.iterdir() for line in file.read_text().splitlines(keepends=True)]
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [line for line in found if line["id"] == end["id"]]

    wait_until(lambda: bool(written()))  # nobody waits for observers
    (line,) = written()
    assert line["text"] == text and line["messages"][-1]["content"] == "remember 4711"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_transcript_without_secrets_needs_nothing_but_its_option(tmp_path: Path) -> None:
    config = f'[plugins.transcript]\ndeadline_ms = 30_000\noptions = {{folder = "{tmp_path}/log", redact = true}}\n'
    with DaemonFixture(config) as daemon:
        text, _ = ask(daemon, "I am anna.schmidt@firma.de, my password = Xk29sPqLw81z\nright?")
        assert "Xk29sPqLw81z" in text, "only what is written goes without"
        assert daemon.cli("shutdown").returncode == 0, "which lets observers come to their end"
        assert daemon.process is not None
        daemon.process.wait(60)
        (file,) = (tmp_path / "log").iterdir()
    (line,) = [json.loads(one) for one in file.read_text().splitlines()]
    assert line["messages"][-1]["content"] == "I am [redacted], my password = [redacted]\nright?"
    assert "Xk29" not in file.read_text() and "[redacted]" in line["text"]


# ---------------------------------------------------------------- the pages


PAGES = sorted((ROOT / "docs/plugins").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_example_of_each_page_is_right_and_whole(page: Path, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    file = tmp_path / "ingled.toml"
    file.write_text(example)
    plugin = load(file).plugins[page.stem]
    module = import_module(f"ingle_plugins.{page.stem}")
    assert (plugin.order, plugin.deadline_ms, plugin.on_error) == (
        module.HOOK.order, module.HOOK.deadline_ms, module.HOOK.on_error,
    )  # fmt: skip
    options = msgspec.convert(plugin.options, module.Options)
    written = set(tomllib.loads(example)["plugins"][page.stem]["options"])
    missing = {
        name for name in options.__struct_fields__ if not re.search(rf"^#? ?{name} = |\.{name}\.", example, re.M)
    }
    assert missing == set(), (missing, written)


def test_each_plugin_has_a_page_and_an_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in PAGES:
        assert project["entry-points"]["ingled"][page.stem] == f"ingle_plugins.{page.stem}"
