"""What a changed configuration changes, and when."""

from pathlib import Path

from ingled.broker.reload import Changes, changes
from ingled.config import load


def between(folder: Path, old: str, new: str) -> Changes:
    found = []
    for text in (old, new):
        file = folder / "ingled.toml"
        file.write_text(text)
        found.append(load(file, environ={"HOME": str(folder)}))
    return changes(*found)


def test_only_places_wait_for_the_next_start(tmp_path: Path) -> None:
    old = f'[daemon]\nsocket = "{tmp_path}/a"\nstate_dir = "{tmp_path}/b"\n[models.one]\nsource = "/x"\n'
    found = between(tmp_path, old, "[daemon]\nstuck = 7\nplugin_folder = '/p'\n[models.two]\nsource = '/x'\n")
    assert found.later == ["daemon.socket", "daemon.state_dir"]
    assert found.now == ["daemon.stuck", "models.one", "models.two", "daemon.plugin_folder"]


def test_the_same_text_changes_nothing(tmp_path: Path) -> None:
    assert between(tmp_path, "[models.one]\nsource = '/x'\n", "[models.one]\nsource = '/x'\n") == Changes([], [], [])
