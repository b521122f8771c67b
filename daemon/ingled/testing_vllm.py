"""For tests: does a vLLM that cannot run here have the names that we use? Its sources are read, never imported.

    python -m ingled.testing_vllm > tests/worker/vllm-0.26.0.json

writes down what the oldest version has, as far as it concerns us: its modules without their code. So every run of the
tests compares with that version, and only the slow ones fetch its wheel. A module that is used for the first time is
not in there yet.
"""

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ingled.worker.vllm_names import CORE_USES, GPU_USES, OBJECT_USES, SOCKET_USES, USES, split

OLDEST = "0.26.0"
"""The oldest version that is promised, and the one that fits a GPU machine with torch 2.11 (docs/gpu.md)."""
NEWEST = "0.33.0"
"""The newest version that has been looked at. Whether a newer one fits says `python -m ingled.testing_vllm newest`."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_31_x86_64", "manylinux_2_35_x86_64", "manylinux1_x86_64")
OURS = (*USES, *CORE_USES, *SOCKET_USES, *OBJECT_USES, *GPU_USES)
OPTIONS = ("vllm.engine.arg_utils", "vllm.entrypoints.openai.cli_args", "vllm.entrypoints.launchers.cli_args")
"""Where the options of `vllm serve` are, in one version or another."""
MORE = (*OPTIONS, "vllm.envs", "vllm.platforms", "vllm.entrypoints.cli.main")
"""Modules that belong to a skeleton though nothing is imported from them."""

Read = Callable[[str], str | None]


class NoWheel(RuntimeError):
    """The wheel cannot be had; the text says why."""


class Sources:
    """Python modules as syntax trees."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.trees: dict[str, ast.Module | None] = {}

    def module(self, name: str) -> ast.Module | None:
        """Return a module; None where there is none."""
        if name not in self.trees:
            path = name.replace(".", "/")
            text = self._read(f"{path}.py") or self._read(f"{path}/__init__.py")
            self.trees[name] = ast.parse(text) if text is not None else None
        return self.trees[name]

    def lookup(self, module: str, name: str) -> ast.AST | None:
        """Return the definition of a name of a module, followed through its imports."""
        tree = self.module(module)
        for node in ast.walk(tree) if tree else ():
            match node:
                case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
                    return node
                case ast.Assign() if any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
                    return node
                case ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                    return node
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.lookup(node.module, alias.name)
        return None

    def attribute(self, module: str, owner: ast.ClassDef, name: str) -> ast.AST | None:
        """Return the definition of a class's attribute, its bases included."""
        for node in ast.walk(owner):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
                    return node
                case ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                    return node
                case ast.Assign() | ast.AnnAssign():
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    for target in targets:
                        if isinstance(target, ast.Name | ast.Attribute) and name == (
                            target.id if isinstance(target, ast.Name) else target.attr
                        ):
                            return node
        inherited = (self.attribute(module, base, name) for base in self.bases(module, owner))
        return next((one for one in inherited if one is not None), None)

    def bases(self, module: str, owner: ast.ClassDef) -> list[ast.ClassDef]:
        """Return the classes that a class is made from."""
        names = [base.value if isinstance(base, ast.Subscript) else base for base in owner.bases]
        found = [self.lookup(module, base.id) for base in names if isinstance(base, ast.Name)]
        return [one for one in found if isinstance(one, ast.ClassDef)]

    def parameters(self, module: str, node: ast.AST) -> set[str]:
        """Return the parameters of a function, or those with which a class is made."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            return {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
        assert isinstance(node, ast.ClassDef), ast.dump(node)[:80]
        for one in node.body:
            if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                return self.parameters(module, one)
        own = {
            one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        }
        return own.union(*(self.parameters(module, base) for base in self.bases(module, node)))

    def missing(self, uses: Iterable[str] = OURS) -> list[str]:
        """Return what of these names the sources do not have."""
        wrong = []
        for use in uses:
            module, (first, *rest), wanted = split(use)
            node = self.lookup(module, first)
            for name in rest:
                node = self.attribute(module, node, name) if isinstance(node, ast.ClassDef) else None
            if node is None:
                wrong.append(f"{use}: no such name")
            elif wanted and (absent := set(wanted) - self.parameters(module, node)):
                wrong.append(f"{use}: no parameter {', '.join(sorted(absent))}")
        return wrong

    def options(self) -> set[str]:
        """Return the options of `vllm serve`, `--no-` forms included."""
        found: set[str] = set()
        for name in OPTIONS:
            tree = self.module(name)
            for node in ast.walk(tree) if tree else ():
                match node:
                    case ast.Constant(value=str(text)) if re.fullmatch(r"--[a-z][a-z0-9-]*", text):
                        found.add(text)
                    case ast.ClassDef() if node.name.endswith("FrontendArgs"):
                        found |= {f"--{field.replace('_', '-')}" for field in self.parameters(name, node)}
        return found | {f"--no-{one[2:]}" for one in found if not one.startswith("--no-")}


def skeleton(read: Read, uses: Iterable[str] = OURS) -> dict[str, str]:
    """Return the sources of all modules that these names lead through, by path, without what they do."""
    seen: dict[str, str] = {}

    def remember(path: str) -> str | None:
        text = read(path)
        if text is not None:
            seen[path] = ast.unparse(bare(ast.parse(text)))
        return text

    sources = Sources(remember)
    sources.missing(uses)
    for name in MORE:
        sources.module(name)
    return dict(sorted(seen.items()))


def bare(tree: ast.Module) -> ast.Module:
    """Return a module with its names alone: imports, classes, parameters, attributes, and texts that are options."""
    return ast.fix_missing_locations(ast.Module(list(_names(tree.body)), []))


def _names(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        match node:
            case ast.ImportFrom(module=str(module), level=0) if module.partition(".")[0] == "vllm":
                yield node
            case ast.ClassDef():
                bases: list[ast.expr] = [one for one in node.bases if isinstance(one, ast.Name | ast.Subscript)]
                inner = list(_names(node.body)) or [ast.Pass()]
                yield ast.ClassDef(node.name, bases, [], inner, [])
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                given = node.args
                names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
                arguments = ast.arguments([], [ast.arg(one) for one in names], None, [], [], None, [])
                yield ast.FunctionDef(node.name, arguments, list(_said(node)) or [ast.Pass()], [])
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield ast.AnnAssign(ast.Name(name), ast.Constant(...), None, 1)
            case ast.Assign():
                targets: list[ast.expr] = [one for one in node.targets if isinstance(one, ast.Name)]
                if targets:
                    yield ast.Assign(targets, ast.Constant(...))
            case ast.If() | ast.Try():
                yield from _names([*node.body, *node.orelse])
                for handler in getattr(node, "handlers", ()):
                    yield from _names(handler.body)


def _said(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.stmt]:
    """Return a function's attributes of `self`, and the options that it names."""
    seen: set[str] = set()
    for node in ast.walk(function):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()) if name not in seen:
                yield ast.Assign([ast.Attribute(ast.Name("self"), name)], ast.Constant(...))
                seen.add(name)
            case ast.Constant(value=str(text)) if text not in seen and re.fullmatch(r"--[a-z][a-z0-9-]*", text):
                yield ast.Expr(ast.Constant(text))
                seen.add(text)


def from_folder(folder: Path) -> Read:
    """Return what reads the sources in a folder."""

    def read(path: str) -> str | None:
        file = folder / path
        return file.read_text() if file.is_file() else None

    return read


def from_wheel(wheel: Path) -> Read:
    """Return what reads the sources in a wheel."""
    archive = zipfile.ZipFile(wheel)
    names = set(archive.namelist())
    return lambda path: archive.read(path).decode() if path in names else None


def from_skeleton(file: Path) -> Read:
    """Return what reads a skeleton."""
    return dict(json.loads(file.read_text())).get


def newest() -> str:
    """Return the newest version of vLLM that there is. Raises NoWheel."""
    listed = _pip("index", "versions", "vllm")
    found = re.match(r"vllm \(([\w.]+)\)", listed.stdout)
    if not found:
        raise NoWheel(f"pip cannot list the versions of vllm: {listed.stderr.strip()[-200:]}")
    return found[1]


def wheel(version: str) -> Path:
    """Return the wheel of a version, from the user's cache or from the package index. Raises NoWheel."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ingle" / "wheels"
    if kept := sorted(cache.glob(f"vllm-{version}-*.whl")):
        return kept[0]
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    python = ("--python-version", "3.12", "--only-binary", ":all:")
    got = _pip("download", "--no-deps", *python, *platforms, "-d", str(cache), f"vllm=={version}")
    kept = sorted(cache.glob(f"vllm-{version}-*.whl"))
    if not kept:
        raise NoWheel(f"the wheel of vllm {version} cannot be downloaded: {got.stderr.strip()[-200:]}")
    return kept[0]


def _pip(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired as error:
        raise NoWheel(f"pip {arguments[0]} does not end") from error


if __name__ == "__main__":
    if sys.argv[1:] == ["newest"]:
        version = newest()
        print(f"vllm {version} lacks {Sources(from_wheel(wheel(version))).missing() or 'nothing that is used'}")
        sys.exit()
    print(json.dumps(skeleton(from_wheel(wheel(OLDEST))), indent=0))
