"""Where plugins come from: installed ones by entry point, and files of the drop-in folder. Runs their modules' code."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from ingled import link
from ingled.folder import drop_ins
from ingled.hooks.blame import Unfit
from ingled.hooks.specs import PROJECT

PRIVATE = "_ingled_plugin_"
"""Files of the folder are imported under this and their own name, so that they hide no other module."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plugin that is wanted, not imported yet."""

    name: str
    source: str
    """As `link.Plugin` has it."""
    home: str
    """Beginning of the paths of its own files; empty when unknown."""
    version: str
    """Of the distribution that it came with."""
    importing: Callable[[], object]
    """Returns the module."""


def candidates(setup: link.Setup) -> Iterator[Candidate]:
    """Yield the plugins that this host is to run; a file of the folder goes before an installed plugin of its name."""
    files = drop_ins(setup.folder)
    for name, path in files.items():
        if wanted(setup, name):
            yield Candidate(name, str(path), str(path), "", lambda n=name, p=path: _from_file(n, p))  # type: ignore[misc]
    named = [name for name in setup.plugins if name not in files and wanted(setup, name)]
    if named:
        yield from _installed(named, list(files))


def wanted(setup: link.Setup, name: str) -> bool:
    """Return whether a plugin of this name is to run here, if there is one."""
    choice = setup.plugins.get(name)
    if choice is not None and not choice.enabled:
        return False
    return name not in setup.without and (setup.only is None or name in setup.only)


def _installed(names: list[str], files: list[str]) -> Iterator[Candidate]:
    from importlib.metadata import entry_points  # looks at every installed distribution: only where one is wanted

    points = {point.name: point for point in entry_points(group=PROJECT)}
    for name in names:
        point = points.get(name)
        if point is None:
            near = get_close_matches(name, [*points, *files], n=1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            why = f"plugins.{name}: no installed plugin and no file of the plugin folder has this name{guess}"
            yield Candidate(name, "", "", "", lambda why=why: _nowhere(why))  # type: ignore[misc]
        else:
            version = point.dist.version if point.dist is not None else ""
            yield Candidate(name, f"entry point {point.value}", _home(point.module), version, point.load)


def _nowhere(why: str) -> ModuleType:
    raise Unfit(why)


def _home(module: str) -> str:
    """Return where a package's files are, without running any of them."""
    try:
        spec: ModuleSpec | None = PathFinder.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    places = spec.submodule_search_locations
    return f"{next(iter(places), '')}{os.sep}" if places is not None else spec.origin or ""


class _Source(SourceFileLoader):
    """Reads the source each time: byte code goes by size and whole seconds, and a quick edit would not be seen."""

    def get_code(self, fullname: str) -> CodeType | None:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _from_file(name: str, path: Path) -> ModuleType:
    private = PRIVATE + name
    spec = spec_from_file_location(private, path, loader=_Source(private, str(path)))
    assert spec is not None and spec.loader is not None, "a loader was given"
    module = module_from_spec(spec)
    sys.modules[private] = module  # dataclasses and msgspec look there for the names in annotations
    spec.loader.exec_module(module)
    return module
