"""What a fresh interpreter may load for each part: the run-time side of the import rules in docs/architecture.md.

A name that is None in `sys.modules` cannot be imported, so a part that needs it fails here with its own traceback.
"""

import subprocess
import sys

import pytest
from ingle.cli import VERBS

HEAVY = ("torch", "vllm", "transformers", "huggingface_hub")
PURE = ("zmq", "asyncio", "logging", "sqlite3", "pluggy", "watchdog", "ingled.broker", *HEAVY)
CLIENT = ("ingled", "ingle_plugins", "pluggy", "watchdog", *HEAVY)

RULES = {
    "ingle": ("asyncio", "msgspec", *CLIENT),
    "ingle.wire": ("asyncio", "msgspec", "zmq", *CLIENT),
    "ingle.wire.schema": ("asyncio", "zmq", *CLIENT),
    "ingle.session": ("asyncio", "msgspec", "zmq", *CLIENT),
    "ingle.zmtp": ("asyncio", "msgspec", "zmq", *CLIENT),
    "ingle.client": ("asyncio", *CLIENT),
    "ingle.hooks": ("asyncio", "msgspec", "zmq", *CLIENT),
    "ingle.cli": ("asyncio", "msgspec", "zmq", *CLIENT),
    "ingle.aio": CLIENT,
    "ingled.core": PURE,
    "ingled.link": PURE,
    "ingled.broker": ("pluggy", "ingled.worker", "ingled.nursery", "ingle_plugins", *HEAVY),
    "ingled.broker.run": ("jeepney", "pluggy", "ingled.worker", "ingled.nursery", "ingle_plugins", *HEAVY),
    "ingled.line": ("zmq", "asyncio", "pluggy", "ingled.broker", "ingled.core", *HEAVY),
    "ingled.hooks": (
        "zmq",
        "asyncio",
        "sqlite3",
        "ingled.broker",
        "ingled.core",
        "ingled.worker",
        "ingled.nursery",
        "ingled.config",
        "ingled.models",
        "ingle_plugins",
        *HEAVY,
    ),
    "ingled.models": ("zmq", "pluggy", "ingled.broker", "ingled.worker", *HEAVY),
    "ingled.nursery": ("pluggy", "sqlite3", "ingled.broker", "ingled.core", "ingle_plugins", *HEAVY),
    "ingled.worker": ("pluggy", "sqlite3", "ingled.broker", "ingled.core", "ingle_plugins", *HEAVY),
}

# Modules of a part that must obey the part's rule as well, because the part itself may import little.
SUBMODULES = ("ingled.core", "ingled.broker", "ingled.hooks", "ingle.cli")

OPTIONAL = ("jeepney",)
"""What an installation may lack: the modules that need it are imported only where it is there."""

PROGRAM = f"""
import importlib, pkgutil, sys
part, deep, banned = sys.argv[1], sys.argv[2] == "deep", sys.argv[3:]
sys.modules.update(dict.fromkeys(banned))
module = importlib.import_module(part)
if deep:
    for found in pkgutil.walk_packages(module.__path__, part + "."):
        if not found.name.endswith(".__main__"):
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if error.name not in {OPTIONAL}:
                    raise
"""


@pytest.mark.parametrize("part", RULES)
def test_a_part_loads_without_what_it_must_not_know(part: str) -> None:
    done = run(part, "flat", *RULES[part])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("part", SUBMODULES)
def test_so_does_each_of_its_modules(part: str) -> None:
    banned = CLIENT if part == "ingle.cli" else RULES[part]
    done = run(part, "deep", *banned)
    assert done.returncode == 0, done.stderr


def test_the_rule_bites() -> None:
    assert "import of zmq halted" in run("zmq", "flat", "zmq").stderr


SLOW = ("typing", "re", "json", "msgpack", "collections", "enum")
"""What takes longer to import than most verbs to be done."""
SLOWER = ("config", "hook", "hooks", "verify")
"""Verbs that run programs, compare texts or read files, and so import some of it."""


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in SLOWER])
def test_a_verb_starts_without_what_is_slow_to_import(verb: str) -> None:
    program = "import sys; sys.path[:] = sys.argv[2:]; __import__(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", program, f"ingle.cli.{verb}", *sys.path]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert f"ingle.cli.{verb}" in loaded
    assert not {*SLOW} & {*loaded}


def run(part: str, depth: str, *banned: str) -> subprocess.CompletedProcess[str]:
    """Import a part in a fresh interpreter from which the banned modules are missing."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM, part, depth, *banned]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
