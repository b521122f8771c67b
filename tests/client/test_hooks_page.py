"""What docs/hooks.md shows of hooks from outside can be done."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ingle import hooks
from ingle.cli import VERBS, verb

PAGE = (Path(__file__).parents[2] / "docs/hooks.md").read_text().split("\n## From outside\n")[1].split("\n## ")[0]
HI = {"messages": [{"role": "user", "content": "hi"}]}


def blocks(kind: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for found, text in fences if found == kind]


def test_every_option_of_the_page_exists() -> None:
    known = {name for each in VERBS for option in verb(each).options for name in option.names}
    assert set(re.findall(r"(?<=[ `])--[a-z-]+\b", PAGE)) - {"--help"} <= known


def test_the_pages_python_is_right(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block is run, with a `run` that does not wait, and what it offers is called."""
    programs = [block for block in blocks("python") if not block.startswith("#!")]
    monkeypatch.setenv("INGLE_SOCKET", daemon.path)
    monkeypatch.setattr(hooks, "run", lambda: None)
    monkeypatch.setattr(hooks, "_marked", {})  # else hooks of these names would be those of other tests from now on
    names: dict[str, Any] = {}
    for program in programs:
        exec(program, names)  # raises where it is wrong
    with hooks.Provider(names["shout"], names["Plain"], names["brake"]):
        assert daemon.hook_call("prompt", HI, "shout")["value"]["messages"][0]["content"] == "HI"
        reply = daemon.hook_call("chunk", {"text": "**rm** *"}, "plain")
        assert (reply["value"], reply["results"][0]["held"]) == ({"text": "rm "}, 1)
        reply = daemon.hook_call("chunk", {"text": "rm -rf /"}, "brake")
        assert (reply["value"], reply["results"][0]["verdict"]) == ({"text": "[cut off]"}, "stop")


def test_the_pages_programs_are_hooks(ingle: Any, daemon: Any, folder: Path) -> None:
    (guard,) = (block for block in blocks("sh") if block.startswith("#!"))
    (ping,) = (block for block in blocks("python") if block.startswith("#!"))
    (loud,) = (block for block in blocks("sh") if "tr a-z A-Z" in block)
    said = {}
    patient = ["--deadline-ms", "10000"]  # the machine may be busy
    for name, text, options in (("guard", guard, [*patient, "--text"]), ("ping", ping, patient)):
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
        said[name] = ingle.start("hook", "run", "--point", "prompt", *options, "--", str(path))
    first, second, *words = loud.split()[1:]
    said["loud"] = ingle.start(first, second, *patient, *words)
    try:
        daemon.wait_for("hook_offer", 3)
        for content, name, verdict in (
            ("hunter2", "guard", "refuse"), ("hi", "guard", None), ("hi", "loud", "changed"),
            ("ping", "ping", "answer"), ("hi", "ping", "changed"), ("x " * 1001, "ping", "refuse"),
        ):  # fmt: skip
            reply = daemon.hook_call("prompt", {"messages": [{"role": "user", "content": content}]}, name)
            assert reply["results"][0].get("verdict") == verdict, (content, name, reply)
    finally:
        for process in said.values():
            process.kill()
            process.communicate()


def test_a_filter_needs_nothing_of_the_daemons_package(daemon: Any, ingle: Any) -> None:
    program = "import sys; sys.modules['ingled'] = sys.modules['msgspec'] = None; import ingle.hooks"
    assert subprocess.run([sys.executable, "-c", program], env=ingle.environment | os.environ).returncode == 0
