"""What the comparisons ask of vLLM is there: in the version that is installed, and in the one of a GPU machine."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from ingled.testing_vllm import OLDEST, Sources, from_folder, from_skeleton
from ingled.worker.vllm_names import split

from bench.contenders import Serve
from bench.gpu.house import CPU, GPU
from bench.gpu.steps import weighty
from bench.machine import ROOT
from bench.shapes import Model, make
from bench.vllm_names import USES

SKELETON = ROOT / "tests" / "worker" / f"vllm-{OLDEST}.json"
READERS = ("bench/contenders.py", "bench/raw.py", "bench/rust_front.py", "daemon/ingled/worker")
"""Files and folders that set what vLLM reads of the environment."""


@pytest.fixture(params=["oldest", pytest.param("installed", marks=pytest.mark.vllm)])
def sources(request: pytest.FixtureRequest) -> Sources:
    if request.param == "oldest":
        return Sources(from_skeleton(SKELETON))
    found = find_spec("vllm")
    assert found and found.origin, "vllm is not installed"
    return Sources(from_folder(Path(found.origin).parents[1]))


@pytest.fixture
def models(tmp_path: Path) -> list[Model]:
    """Models as the steps have them."""
    made = [place.model(place.small, tmp_path / "a", eager=eager) for place in (CPU, GPU) for eager in (False, True)]
    return [*made, weighty(CPU, tmp_path / "b"), make(CPU.middle, tmp_path / "c", 1024, eager=False)]


def test_every_name_is_there(sources: Sources) -> None:
    assert sources.missing(USES) == []


def test_every_import_is_in_the_list() -> None:
    tree = ast.parse((ROOT / "bench" / "raw.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    imported = {(node.module, one.name) for node in imports for one in node.names if node.module.startswith("vllm")}
    assert len(imported) > 3
    assert imported <= {(module, path[0]) for module, path, _ in map(split, USES)}


def test_vllm_serve_has_every_option(sources: Sources, models: list[Model]) -> None:
    known = sources.options()
    assert "--no-such-option" not in known
    for model in models:
        used = {word.partition("=")[0] for word in Serve(model).command(1) if word.startswith("--")}
        assert len(used) > 8
        assert used - known == set()


def test_the_engine_has_every_option(sources: Sources, models: list[Model]) -> None:
    for model in models:
        assert sources.missing([f"vllm.engine.arg_utils:EngineArgs({', '.join(['model', *model.options])})"]) == []


def test_vllm_reads_every_variable_that_is_set_for_it(sources: Sources) -> None:
    files = [file for one in READERS for file in ([ROOT / one] if one.endswith(".py") else (ROOT / one).glob("*.py"))]
    names = {name for file in files for name in re.findall(r'"(VLLM_[A-Z0-9_]+)"', file.read_text())}
    assert {"VLLM_USE_RUST_FRONTEND", "VLLM_RPC_BASE_PATH"} <= names
    assert sources.missing(f"vllm.envs:{name}" for name in sorted(names)) == []
