"""Sizes of memory as people write them."""

import pytest
from ingled.sizes import read


@pytest.mark.parametrize(
    ("text", "bytes"),
    [(5, 5), ("7", 7), ("512MiB", 512 << 20), (" 1.5 GiB ", 3 << 29), ("2GB", 2_000_000_000), ("0.5KiB", 512)],
)
def test_a_size_is_read(text: int | str, bytes: int) -> None:
    assert read(text) == bytes


@pytest.mark.parametrize("text", ["", "MiB", "-1", -2, "1 mib", "1e3", "1..5GiB", "1GiB!", "9" * 40])
def test_what_is_no_size_is_refused(text: int | str) -> None:
    with pytest.raises(ValueError, match="expected bytes"):
        read(text)
