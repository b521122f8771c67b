"""The end of a log file."""

from pathlib import Path

from ingled.log_end import read_lines, tail


def test_progress_bars_are_lines_and_colours_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\x1b[36mstart\x1b[0m\n\n1%\r2% \nend")
    assert read_lines(log) == ["start", "1%", "2%", "end"]
    assert read_lines(log, most=4) == ["end"]
    assert read_lines(log, start=log.stat().st_size) == []
    assert read_lines(tmp_path / "none") == []


def test_the_tail_is_twenty_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(map(str, range(100))))
    assert tail(log) == tuple(map(str, range(80, 100)))
    assert tail(tmp_path / "none") == ()
