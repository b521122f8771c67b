"""Several files of configuration: which wins, what is said of an error, and which are read at all."""

from pathlib import Path

import pytest
from ingled.config import ConfigError, load
from ingled.config.layers import default_files, line, origin, read


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
    with pytest.raises(ConfigError, match=rf"^{high}:2: daemon.queue is 0"):
        load([low, high])
    write(high, "[models.m]\nsource = '/m'\nkontext = 5\n")
    with pytest.raises(ConfigError, match=rf"^{high}:3: models.m.kontext: unknown key; did you mean 'context'"):
        load([low, high])
    write(high, "nonsense")
    with pytest.raises(ConfigError, match=rf"^{high}: not TOML"):
        load([low, high])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[models.m]\nsource = '/m'\n\n# why\n[demon]\n", ":5: demon: unknown key"),
        ("daemon = {drain = 1,  drian = 2}", ":1: daemon.drian: unknown key"),
        ("models.m = {source = '/m'}\nmodels.n.kontext = 5", ":2: models.n.kontext: unknown key"),
        ("[models.m]\r\nsource = '/m'\r\naliases = [\r\n 'a',\r\n 5]\r\n", ":3: models.m.aliases[1] is 5"),
        ("[models.m]\nlicense = '''\n[demon]\n'''\nsource = 5\n", ":5: models.m.source is 5"),
        ("[models.'a.b']\nsource = '/m'\n[models.'a.b'.engine]\nmodel = 'y'\n", ":4: models.a.b.engine.model: "),
        ("[[rules]]\naccounts = ['*']\n[[rules]]\naccounts = ['*']\nmay = ['fly']\n", ":5: rules[1].may[0] is 'fly'"),
        ("[models.m]\n[models.m.engine]\nx = 1\n", ":1: models.m.source is missing"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, text: str, place: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text, newline="")
    with pytest.raises(ConfigError) as raised:
        load(file)
    assert str(raised.value).startswith(f"{file}{place}")


def test_a_file_that_has_changed_meanwhile_has_no_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", "[models.m]\nsource = '/m'\n")
    assert line(file, "models.m.source") == 2
    assert line(file, "models.m.other") == 1, "the table around it"
    assert line(file, "other") is None
    for text in ("", "nonsense"):
        write(file, text)
        assert line(file, "models.m.source") is None
    assert line(tmp_path / "none", "models") is None


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
