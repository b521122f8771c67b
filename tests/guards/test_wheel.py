"""The wheel holds exactly the three packages, with their data."""

import re
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of all files in a wheel that is built here and now, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_top_level_is_the_three_packages_and_the_command(names: list[str]) -> None:
    top = {name.split("/")[0] for name in names}
    packages = {name for name in top if not re.fullmatch(r"ingle-.*\.(dist-info|data)", name)}
    assert packages == {"ingle", "ingled", "ingle_plugins"}
    assert len(top) == 5
    assert [name.partition(".data/")[2] for name in names if ".data/" in name] == ["scripts/ingle"]


def test_every_file_of_the_packages_is_inside(names: list[str]) -> None:
    missing = []
    for package in ("client/ingle", "daemon/ingled", "plugins/ingle_plugins"):
        folder = ROOT / package
        for path in folder.rglob("*"):
            name = path.relative_to(folder.parent).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and name not in names:
                missing.append(name)
    assert missing == []


def test_the_models_that_ship_with_ingle_have_their_data(names: list[str]) -> None:
    data = [name for name in names if name.startswith("ingled/models/") and not name.endswith(".py")]
    assert data != []


def test_both_commands_and_the_license_are_there(names: list[str]) -> None:
    endings = ("entry_points.txt", "licenses/LICENSE")
    assert all(any(name.endswith(ending) for name in names) for ending in endings)
