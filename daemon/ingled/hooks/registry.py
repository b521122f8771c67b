"""The plugins of a host: imported, checked against the specs, and ready to be called one by one."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pluggy
from ingle.wire.hook_schema import HookOffer, Point

from ingled import link
from ingled.hooks.blame import Unfit, at_load, line_of, one_line
from ingled.hooks.finding import Candidate, candidates
from ingled.hooks.options import explained
from ingled.hooks.options import read as read_options
from ingled.hooks.specs import POINTS, PROJECT, Hook, Specs

log = logging.getLogger(__name__)

PARAMETERS = {
    name: function.__code__.co_varnames[1 : function.__code__.co_argcount]
    for name, function in vars(Specs).items()
    if name in POINTS.values()
}
"""What each spec offers to its implementations."""
COROUTINE = 0x80 | 0x200
"""Flags of the code of `async def`."""

Caller = Callable[..., list[Any]]
"""Takes all parameters of a spec by name; returns the implementation's answer in a list, or an empty one for None."""


@dataclass(slots=True)
class Plugin:
    """A plugin that can run."""

    name: str
    module: ModuleType
    offer: HookOffer
    options: Any
    home: str
    """Beginning of the paths of its files."""
    callers: dict[Point, Caller] = field(default_factory=dict)


class Registry:
    """Loads what a Setup names; whatever is wrong with a plugin is told, and is no error of the host."""

    def __init__(self, setup: link.Setup) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Specs)
        self.plugins: dict[str, Plugin] = {}
        """Those that can run, by name."""
        self.told: list[link.Plugin] = []
        """All that are wanted, as the daemon is told of them."""
        for candidate in candidates(setup):
            log.info("loading plugin '%s'", candidate.name)  # the last words, if its import ends the process
            self._load(candidate, setup.plugins.get(candidate.name, link.Choice()))
        for plugin in self.plugins.values():
            others = [other.module for other in self.plugins.values() if other is not plugin]
            plugin.callers = {
                point: self._manager.subset_hook_caller(POINTS[point], others) for point in plugin.offer.points
            }

    def _load(self, candidate: Candidate, choice: link.Choice) -> None:
        version = candidate.version or "0"
        offer, problem, digest = None, "", ""
        try:
            module = _imported(candidate)
            digest = _digest(module)
            version = one_line(str(vars(module).get("VERSION", version)))[:256] or "0"
            plugin = self._checked(candidate, module, version, choice)
        except Unfit as unfit:
            problem = str(unfit)
        else:
            self.plugins[plugin.name] = plugin
            offer = plugin.offer
        self.told.append(link.Plugin(candidate.name, version, candidate.source, offer, problem, digest))

    def _checked(self, candidate: Candidate, module: ModuleType, version: str, choice: link.Choice) -> Plugin:
        name = candidate.name
        if any(other.module is module for other in self.plugins.values()):
            raise Unfit(f"{line_of(module, '')}: this module runs already under another name")
        points = _points(module)
        offer = _offer(name, module, version, points, choice)
        options = read_options(name, module, choice.options, candidate.home)
        try:
            self._manager.register(module, name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            # What pluggy alone knows; the usual mistakes have been found by `_points`, with their line.
            if self._manager.is_registered(module):
                self._manager.unregister(module)
            raise Unfit(one_line(f"{line_of(module, '')}: {error}")) from error
        return Plugin(name, module, offer, options, candidate.home)


def _imported(candidate: Candidate) -> ModuleType:
    try:
        module = candidate.importing()
    except Unfit:
        raise
    except BaseException as error:
        raise Unfit(at_load(error, candidate.home)) from error
    if not isinstance(module, ModuleType):
        place = candidate.source.removeprefix("entry point ")
        raise Unfit(f"{place} is a {type(module).__name__}: a plugin is a module")
    return module


def _digest(module: ModuleType) -> str:
    try:
        return hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest()
    except OSError:
        return ""


def _points(module: ModuleType) -> list[Point]:
    """Return the points that a module takes part in. Raises Unfit for what looks like a hook and is none."""
    specs = list(PARAMETERS)
    found: list[str] = []
    for name, value in list(vars(module).items()):
        marked = getattr(value, f"{PROJECT}_impl", None) if callable(value) else None
        if marked is None and not (callable(value) and name.startswith(f"{PROJECT}_")):
            continue
        if name not in specs:
            near = get_close_matches(name, specs, n=1)
            guess = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(specs)}"
            raise Unfit(f"{line_of(module, name)}: {name} is no hook; {guess}")
        if not isinstance(marked, dict):
            raise Unfit(f"{line_of(module, name)}: {name} is not marked with @hookimpl")
        if marked.get("wrapper") or marked.get("hookwrapper"):
            raise Unfit(
                f"{line_of(module, name)}: {name} is a wrapper, and there is nothing to wrap: a hook runs alone"
            )
        if marked.get("specname") not in (None, name):
            raise Unfit(f"{line_of(module, name)}: {name} says specname: a function is called as its hook is")
        _signature(module, name, value)
        found.append(name)
    if not found:
        raise Unfit(f"{line_of(module, '')}: it implements no hook; there are {', '.join(specs)}")
    return [point for point, spec in POINTS.items() if spec in found]


def _signature(module: ModuleType, name: str, function: Any) -> None:
    """Raise Unfit for a function that would not be called as its author thinks."""
    code = getattr(function, "__code__", None)
    if code is None:
        return
    if code.co_flags & COROUTINE:
        raise Unfit(f"{line_of(module, name)}: {name} is async; hooks are plain functions, and may block")
    allowed = PARAMETERS[name]
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    defaults = len(getattr(function, "__defaults__", None) or ())
    for parameter in names[: code.co_argcount - defaults]:
        if parameter not in allowed:
            near = get_close_matches(parameter, allowed, n=1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            text = f"{name} has no parameter '{parameter}'{guess} (there are {', '.join(allowed)})"
            raise Unfit(f"{line_of(module, name)}: {text}")
    for parameter in names[code.co_argcount - defaults :]:
        if parameter in allowed:  # pluggy leaves it out
            raise Unfit(f"{line_of(module, name)}: parameter '{parameter}' of {name} has a default or is keyword-only")


def _offer(name: str, module: ModuleType, version: str, points: list[Point], choice: link.Choice) -> HookOffer:
    """Return what the daemon is told: what the configuration does not say is as the plugin has it. Raises Unfit."""
    hook = vars(module).get("HOOK", Hook())
    if not isinstance(hook, Hook):
        raise Unfit(f"{line_of(module, 'HOOK')}: HOOK is no ingled.hooks.Hook(...)")
    said: dict[str, Any] = msgspec.to_builtins(hook)
    for key in ("order", "deadline_ms", "on_error", "security"):
        if (own := getattr(choice, key)) is not None:
            said[key] = own
    more = {"t": "hook_offer", "ref": 0, "name": name, "version": version, "points": points, "scope": "all"}
    more |= {"trial": choice.trial, "select": msgspec.to_builtins(choice.select)}
    try:
        return msgspec.convert(said | more, HookOffer)
    except msgspec.ValidationError as error:
        text = explained(error, said | more, "HOOK")
        if text.startswith("HOOK.name "):
            text = f"the plugin's name is {name!r}: it has small letters, digits, '_', '.' and '-', at most 64 of them"
        raise Unfit(one_line(f"{line_of(module, 'HOOK')}: {text}")) from error
