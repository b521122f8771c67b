"""Sizes of memory as people write and read them."""

import pytest
from ingle.bytesize import parse, spell


@pytest.mark.parametrize(
    ("text", "bytes"),
    [(5, 5), ("7", 7), ("512MiB", 512 << 20), (" 1.5 GiB ", 3 << 29), ("2GB", 2_000_000_000), ("0.5KiB", 512)],
)
def test_a_size_is_read(text: int | str, bytes: int) -> None:
    assert parse(text) == bytes


@pytest.mark.parametrize("text", ["", "MiB", "-1", -2, "1 mib", "1e3", "1..5GiB", ".5GiB", "1GiB!", "²", "9" * 40])
def test_what_is_no_size_is_refused(text: int | str) -> None:
    with pytest.raises(ValueError, match="expected bytes"):
        parse(text)


def test_a_size_is_written() -> None:
    counts = (None, 0, 1023, 2048, 3 << 20, 5 << 30, 3 << 42)
    assert [spell(n) for n in counts] == ["-", "0 B", "1023 B", "2 KiB", "3 MiB", "5.0 GiB", "12.0 TiB"]
