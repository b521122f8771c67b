"""What a machine without internet lacks: resolved, fetched from an index of files, cut, joined again and installed."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bench.machine import ROOT
from bench.pieces import cut
from bench.resolution import Demand, NoSolution, Wheel, read_installed, resolve
from bench.wheelhouse import MIB, Pip, Target, main, ours

MARKERS = Target("3.12").markers
GPU_MACHINE = ROOT / "bench" / "gpu" / "installed-python3.12-torch2.11.0-cu130.txt"


class Index:
    """Implements `Look` over a list of wheels, the newest last."""

    def __init__(self, *wheels: Wheel) -> None:
        self.wheels = wheels
        self.asked: list[str] = []

    def __call__(self, requirements: Sequence[str]) -> dict[str, Wheel]:
        found = {}
        for text in requirements:
            self.asked.append(text)
            wanted = Requirement(text)
            fitting = [one for one in self.wheels if one.name == wanted.name and one.version in wanted.specifier]
            if not fitting:
                raise NoSolution(f"no {text}")
            found[wanted.name] = fitting[-1]
        return found


def test_what_is_there_and_suits_is_left_alone_with_what_it_needs() -> None:
    index = Index(
        Wheel("engine", "1", requires=("torch==2.11.0", "small>=2", "any", "other; python_version < '3.12'")),
        Wheel("small", "3"),
    )
    chosen, _ = resolve(["engine"], {"torch": "2.11.0+cu130", "small": "1.9", "any": None}, MARKERS, index)
    assert {name: wheel.version for name, wheel in chosen.items()} == {"engine": "1", "small": "3"}


def test_a_package_of_unknown_version_is_carried_where_a_certain_one_is_asked_for() -> None:
    index = Index(Wheel("engine", "1", requires=("numba==0.65.0", "tqdm")), Wheel("numba", "0.65.0"))
    chosen, _ = resolve(["engine"], {"numba": None, "tqdm": None}, MARKERS, index)
    assert sorted(chosen) == ["engine", "numba"]


def test_extras_bring_what_they_ask_for() -> None:
    index = Index(
        Wheel("engine", "1", requires=("web[standard]",)),
        Wheel("web", "1", requires=("base", "fast; extra == 'standard'", "slow; extra == 'all'")),
        Wheel("base", "1"),
        Wheel("fast", "1"),
    )
    assert sorted(resolve(["engine"], {}, MARKERS, index)[0]) == ["base", "engine", "fast", "web"]


def test_who_asks_for_an_older_one_later_gets_it_and_what_only_the_newer_one_needed_goes() -> None:
    index = Index(
        Wheel("engine", "1", requires=("a", "b")),
        Wheel("a", "1"),
        Wheel("a", "2", requires=("only-for-a2",)),
        Wheel("only-for-a2", "1"),
        Wheel("b", "1", requires=("a<2",)),
    )
    chosen, wanted = resolve(["engine"], {}, MARKERS, index)
    assert {name: wheel.version for name, wheel in chosen.items()} == {"engine": "1", "a": "1", "b": "1"}
    assert wanted["a"].told == {"engine 1": "any version", "b 1": "<2"}


def test_a_version_that_is_too_new_for_what_others_insist_on_is_taken_older() -> None:
    index = Index(
        Wheel("engine", "1", requires=("dsl==4.6", "kernels>=0.4")),
        Wheel("dsl", "4.6"),
        Wheel("dsl", "4.8"),
        Wheel("kernels", "0.4", requires=("dsl>=4.5",)),
        Wheel("kernels", "0.5", requires=("dsl>=4.7",)),
        Wheel("kernels", "0.6", requires=("dsl>=4.8",)),
    )
    chosen, _ = resolve(["engine"], {}, MARKERS, index)
    assert {name: wheel.version for name, wheel in chosen.items()} == {"engine": "1", "dsl": "4.6", "kernels": "0.4"}


def test_what_cannot_be_had_says_who_asks_for_it() -> None:
    index = Index(
        Wheel("engine", "1", requires=("torch==2.11.0", "new==1")), Wheel("new", "1", requires=("torch>=2.12",))
    )
    with pytest.raises(NoSolution, match=r"torch: new 1 wants >=2\.12, engine 1 wants ==2\.11\.0"):
        resolve(["engine"], {"torch": "2.11.0"}, MARKERS, index)


def test_lists_of_pip_are_read() -> None:
    text = "# a machine\nTorch==2.11.0+cu130\nhuggingface_hub==1.33.0\nninja\nlocal @ file:///x\n"
    expected = {"torch": "2.11.0+cu130", "huggingface-hub": "1.33.0", "ninja": None, "local": None}
    assert read_installed(text) == expected
    installed = read_installed(GPU_MACHINE.read_text())
    assert installed["torch"] == "2.11.0+cu130" and len(installed) > 150


def test_what_ingle_needs_itself_is_read_from_the_project() -> None:
    assert needed() >= {"pyzmq", "msgspec", "pluggy"}


def needed() -> set[str]:
    """Return the names of what the project itself needs on a GPU machine."""
    return {Requirement(one).name for one in ours((ROOT / "pyproject.toml").read_text())}


def test_a_demand_is_written_as_a_requirement() -> None:
    demand = Demand()
    demand.add("a", Requirement("x[cu13]>=2"))
    demand.add("b", Requirement("x<3"))
    assert Requirement(demand.line("x")) == Requirement("x[cu13]>=2,<3")


def test_the_same_wheels_give_the_same_pieces_none_larger_than_asked(tmp_path: Path) -> None:
    files = [tmp_path / "b-1-py3-none-any.whl", tmp_path / "a-1-py3-none-any.whl"]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * 70_000)
    outs = [tmp_path / "one", tmp_path / "two"]
    pieces = []
    for out, order in zip(outs, (files, files[::-1]), strict=True):
        out.mkdir()
        pieces.append(cut(order, out, 50_000))
    assert [one.read_bytes() for one in pieces[0]] == [one.read_bytes() for one in pieces[1]]
    sizes = [one.stat().st_size for one in pieces[0]]
    assert len(sizes) > 2 and set(sizes[:-1]) == {50_000} and 0 < sizes[-1] <= 50_000


def wheel(folder: Path, name: str, version: str, requires: Sequence[str] = (), weight: int = 0) -> None:
    """Write a real wheel with one module."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n" + "#" * weight)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Wheels in a folder, which is all that pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel(folder, "engine", "1.0", ["part>=2", "there==1.5"], weight=3 * MIB)
    wheel(folder, "part", "2.5")
    for name in sorted(needed()):
        wheel(folder, name.replace("-", "_"), "99.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheelhouse_is_resolved_fetched_cut_joined_and_installed(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "installed.txt"
    listed.write_text("there==1.5\nmsgpack==1.1.0\n")
    out = tmp_path / "house"
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    command = ["engine", "--python", python, "--installed", str(listed), "--out", str(out), "--piece", "1"]
    assert main(command) == 0
    wheels = len({"engine", "part"} | needed() - {"msgpack"})
    assert f"{wheels} wheels, 3 MiB in 4 pieces" in capsys.readouterr().out
    assert all(piece.stat().st_size <= MIB for piece in out.glob("wheels.tar.*"))
    told = {one["name"]: one for one in json.loads((out / "plan.json").read_text())["wheels"]}
    assert told["part"]["for"] == {"engine 1.0": ">=2"}
    assert "there" not in told and "msgpack" not in told
    installed = subprocess.run(
        ["sh", str(out / "install.sh")], env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}, capture_output=True
    )
    assert installed.returncode == 0, installed.stderr.decode()
    code = "import engine, part; print(engine.VERSION, part.VERSION)"
    seen = subprocess.run([sys.executable, "-c", code], cwd=out / "site", capture_output=True, text=True, check=True)
    assert seen.stdout == "1.0 2.5\n"


def test_a_damaged_piece_is_found_before_anything_is_installed(index: Path, tmp_path: Path) -> None:
    out = tmp_path / "house"
    assert main(["engine", "there==1.5", "--out", str(out)]) == 1, "there is no wheel of `there`"
    listed = tmp_path / "installed.txt"
    listed.write_text("there==1.5\n")
    assert main(["engine", "--installed", str(listed), "--out", str(out)]) == 0
    piece = out / "wheels.tar.000"
    data = bytearray(piece.read_bytes())
    data[1000] ^= 1
    piece.write_bytes(data)
    done = subprocess.run(
        ["sh", str(out / "install.sh")], env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}, capture_output=True
    )
    assert done.returncode != 0 and b"wheels.tar.000" in done.stdout + done.stderr
    assert not (out / "site").exists()


def test_pieces_that_cannot_be_carried_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["engine", "--piece", "64"])
    assert "a piece has less than 64 MiB" in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        main(["engine", "--out", str(tmp_path)])
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vllm_is_resolved_for_a_gpu_machine_that_has_torch() -> None:
    target = Target("3.12", (2, 39))
    installed = read_installed(GPU_MACHINE.read_text())
    try:
        chosen, wanted = resolve(["vllm==0.26.0"], installed, target.markers, Pip(target).look)
    except NoSolution as error:
        if "No matching distribution found for vllm" in str(error):
            pytest.skip(f"no network: {error}")
        raise
    assert chosen["vllm"].version == "0.26.0"
    assert not {"torch", "torchvision", "torchaudio", "triton", "transformers"} & set(chosen), "these are there"
    for name, demand in wanted.items():
        version = chosen[name].version if name in chosen else installed[name]
        assert demand.suits(version), f"{name} {version}: {demand.told}"
