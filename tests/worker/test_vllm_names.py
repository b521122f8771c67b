"""Every name of vLLM that ingle uses exists, with the parameters it passes: here, and in the sources of other versions.

The sources are read, never imported: the wheels of versions that cannot run here are downloaded once into the cache.
"""

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from ingled.worker.vllm_names import CORE_USES, PLAIN_USES, USES, split

OLDEST = "0.26.0"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_31_x86_64", "manylinux_2_35_x86_64", "manylinux1_x86_64")

Read = Callable[[str], str | None]


class Sources:
    """Python modules as syntax trees."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._trees: dict[str, ast.Module | None] = {}

    def module(self, name: str) -> ast.Module | None:
        if name not in self._trees:
            path = name.replace(".", "/")
            text = self._read(f"{path}.py") or self._read(f"{path}/__init__.py")
            self._trees[name] = ast.parse(text) if text is not None else None
        return self._trees[name]

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
        for base in self.bases(module, owner):
            if (found := self.attribute(module, base, name)) is not None:
                return found
        return None

    def bases(self, module: str, owner: ast.ClassDef) -> list[ast.ClassDef]:
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


def missing(read: Read) -> list[str]:
    """Return what of `USES` the sources do not have."""
    sources = Sources(read)
    wrong = []
    for use in (*USES, *CORE_USES, *PLAIN_USES):
        module, (first, *rest), wanted = split(use)
        node = sources.lookup(module, first)
        for name in rest:
            node = sources.attribute(module, node, name) if isinstance(node, ast.ClassDef) else None
        if node is None:
            wrong.append(f"{use}: no such name")
        elif wanted and (absent := set(wanted) - sources.parameters(module, node)):
            wrong.append(f"{use}: no parameter {', '.join(sorted(absent))}")
    return wrong


def from_folder(folder: Path) -> Read:
    def read(path: str) -> str | None:
        file = folder / path
        return file.read_text() if file.is_file() else None

    return read


def from_wheel(wheel: Path) -> Read:
    archive = zipfile.ZipFile(wheel)
    names = set(archive.namelist())
    return lambda path: archive.read(path).decode() if path in names else None


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def newest() -> str:
    listed = pip("index", "versions", "vllm")
    found = re.match(r"vllm \(([\w.]+)\)", listed.stdout)
    if not found:
        pytest.skip(f"no network: pip cannot list the versions of vllm: {listed.stderr.strip()[-200:]}")
    return found[1]


def wheel(version: str) -> Path:
    """Return the wheel of a version, from the cache or from the package index."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ingle" / "wheels"
    if kept := sorted(cache.glob(f"vllm-{version}-*.whl")):
        return kept[0]
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    python = ("--python-version", "3.12", "--only-binary", ":all:")
    got = pip("download", "--no-deps", *python, *platforms, "-d", str(cache), f"vllm=={version}")
    kept = sorted(cache.glob(f"vllm-{version}-*.whl"))
    if not kept:
        pytest.skip(f"no network: the wheel of vllm {version} cannot be downloaded: {got.stderr.strip()[-200:]}")
    return kept[0]


@pytest.mark.vllm
def test_the_installed_vllm_has_every_name_that_is_used() -> None:
    found = find_spec("vllm")
    assert found and found.origin, "vllm is not installed"
    assert missing(from_folder(Path(found.origin).parents[1])) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_oldest_and_the_newest_vllm_have_every_name_that_is_used(which: str) -> None:
    version = OLDEST if which == "oldest" else newest()
    assert missing(from_wheel(wheel(version))) == [], version


LOOK = (
    "import sys, json; from ingled.worker.vllm_names import absent; print(json.dumps(absent(json.loads(sys.argv[1]))))"
)


def looked_up(uses: tuple[str, ...]) -> object:
    """Return what a process of its own finds absent: this one does not import vLLM."""
    command = [sys.executable, "-W", "ignore", "-c", LOOK, json.dumps(uses)]
    environ = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environ)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.vllm
@pytest.mark.timeout(400)
def test_names_are_looked_up_at_start_too() -> None:
    gone = (
        "vllm.v1.engine:NoSuchThing",
        "vllm.v1.engine:EngineCoreOutput(request_id, no_such_field)",
        "vllm.v1.no_such_module:EngineCoreOutput",
        "vllm.v1.engine.detokenizer:IncrementalDetokenizer.no_such_call()",
    )
    assert looked_up((*CORE_USES, *gone)) == list(gone)


def test_what_is_gone_is_found(tmp_path: Path) -> None:
    assert f"{USES[0]}: no such name" in missing(from_folder(tmp_path))
    file = tmp_path / "vllm" / "renderers" / "params.py"
    file.parent.mkdir(parents=True)
    file.write_text("class ChatParams:\n    other: int\n")
    use = "vllm.renderers.params:ChatParams(chat_template_kwargs)"
    assert f"{use}: no parameter chat_template_kwargs" in missing(from_folder(tmp_path))
