"""A plugin that somebody else has written, built and installed is found by its entry point."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from ingled import link

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "ingle-shout"
version = "2.5"
[project.entry-points.ingled]
shout = "ingle_shout"
murmur = "ingle_shout.murmur"
broken = "ingle_shout.broken"
part = "ingle_shout:ingled_prompt"
"""
SHOUT = """
from ingled.hooks import changed, hookimpl

@hookimpl
def ingled_prompt(messages):
    return changed([one | {"content": one["content"].upper()} for one in messages])
"""
BROKEN = "import json\n\njson.loads('{')\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of such a plugin has been installed."""
    project, target = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("installed")
    package = project / "ingle_shout"
    package.mkdir()
    (project / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").write_text(SHOUT)
    (package / "murmur.py").write_text(SHOUT.replace("upper", "lower") + "VERSION = 'own'\n")
    (package / "broken.py").write_text(BROKEN)
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *options, "-w", str(project / "dist"), str(project)], check=True, timeout=100)
    (wheel,) = (project / "dist").glob("*.whl")
    subprocess.run([*pip, "install", *options, "--target", str(target), str(wheel)], check=True, timeout=100)
    return target


def check(path: Path, *names: str) -> dict[str, link.Plugin]:
    """Return what a fresh process tells of these plugins."""
    where = os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])])
    setup = link.Setup({name: link.Choice() for name in names})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ingled.hooks", "--check"],
        input=msgspec.msgpack.encode(setup), capture_output=True, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": where},
    )  # fmt: skip
    return {one.name: one for one in msgspec.msgpack.decode(done.stdout, type=link.Offers).plugins}


def test_a_plugin_of_an_installed_wheel_is_found(installed: Path) -> None:
    found = check(installed, "shout", "murmur")["shout"]
    assert (found.version, found.source, found.problem) == ("2.5", "entry point ingle_shout", "")
    assert found.offer is not None and found.offer.points == ["prompt"]


def test_its_own_version_goes_before_that_of_its_wheel(installed: Path) -> None:
    assert check(installed, "murmur")["murmur"].version == "own"


def test_one_that_is_not_named_does_not_run(installed: Path) -> None:
    assert list(check(installed, "murmur")) == ["murmur"]
    assert check(installed) == {}


def test_what_is_wrong_with_it_is_told_with_its_own_file_and_line(installed: Path) -> None:
    problem = check(installed, "broken")["broken"].problem
    assert problem.startswith(f"{installed}/ingle_shout/broken.py:3: JSONDecodeError: ")


def test_a_plugin_is_a_module(installed: Path) -> None:
    assert check(installed, "part")["part"].problem == "ingle_shout:ingled_prompt is a function: a plugin is a module"


def test_where_it_is_not_installed_it_is_missing(tmp_path: Path) -> None:
    assert (
        "no installed plugin and no file of the plugin folder has this name"
        in check(tmp_path, "shout")["shout"].problem
    )
