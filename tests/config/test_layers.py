"""Several files of configuration: which wins, what is said of an error, and which are read at all."""

from pathlib import Path

import pytest
from ingled.config import ConfigError, load
from ingled.config.layers import default_files, origin, read


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_later_files_win_key_by_key_and_lists_come_whole(tmp_path: Path) -> None:
    low = write(tmp_path / "a.toml", "[daemon]\ndrain = 1\nqueue = 7\n[[rules]]\naccounts = ['*']\n")
    high = write(tmp_path / "b.toml", "[daemon]\ndrain = 2\n[[rules]]\naccounts = ['uid:1']\n")
    table, origins = read([low, high])
    assert table == {"daemon": {"drain": 2, "queue": 7}, "rules": [{"accounts": ["uid:1"]}]}
    assert (origins["daemon.drain"], origins["daemon.queue"], origins["rules"]) == (high, low, high)


def test_a_value_that_takes_the_place_of_a_table_leaves_nothing_of_it(tmp_path: Path) -> None:
    low = write(tmp_path / "a.toml", "[x]\na = 1\n")
    high = write(tmp_path / "b.toml", "x = 5\n")
    table, origins = read([low, high])
    assert (table, origins) == ({"x": 5}, {"x": high})
    assert origin("x.y.z", origins) == high
    assert origin("nothing", origins) is None


def test_an_error_names_the_file_that_the_key_is_in(tmp_path: Path) -> None:
    low = write(tmp_path / "a.toml", "[daemon]\ndrain = 1\n")
    high = write(tmp_path / "b.toml", "[daemon]\nqueue = 0\n")
    with pytest.raises(ConfigError, match=rf"^{high}: daemon.queue is 0"):
        load([low, high])
    write(high, "[models.m]\nsource = '/m'\nkontext = 5\n")
    with pytest.raises(ConfigError, match=rf"^{high}: models.m.kontext: unknown key; did you mean 'context'"):
        load([low, high])
    write(high, "nonsense")
    with pytest.raises(ConfigError, match=rf"^{high}: not TOML"):
        load([low, high])


def test_a_relative_source_is_beside_the_file_that_names_it(tmp_path: Path) -> None:
    low = write(tmp_path / "etc/a.toml", "[models.m]\nsource = 'weights'\n")
    high = write(tmp_path / "home/b.toml", "[models.m]\ncontext = 64\n")
    assert load([low, high]).spec("m").source == str(tmp_path / "etc/weights")


def test_files_are_the_machines_then_its_drop_ins_then_the_users(tmp_path: Path) -> None:
    machine = tmp_path / "etc/ingle"
    files = [
        write(machine / "ingled.toml", ""),
        write(machine / "ingled.d/10-a.toml", ""),
        write(machine / "ingled.d/20-b.toml", ""),
        write(tmp_path / "home/.config/ingle/ingled.toml", ""),
    ]
    write(machine / "ingled.d/.hidden.toml", "")
    write(machine / "ingled.d/notes.txt", "")
    assert default_files({"HOME": str(tmp_path / "home")}, machine) == files
    assert default_files({"XDG_CONFIG_HOME": str(tmp_path / "etc")}, machine) == files[:3], "once, and not twice"
    assert default_files({"HOME": "/nowhere"}, tmp_path / "none") == []
