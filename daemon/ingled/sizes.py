"""Sizes of memory as people write them: `512MiB`, `1.5 GiB`, or a number of bytes. Pure."""

import re

UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def read(value: int | str) -> int:
    """Return the bytes of a size. Raises ValueError with what is allowed."""
    if isinstance(value, int):
        number, unit = str(value), ""
    else:
        found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)\s*", value)
        number, unit = (found[1], found[2]) if found else ("", "?")
    if unit not in UNITS or not number or float(number) < 0:
        raise ValueError("expected bytes, or a size such as '512MiB' or '1.5GiB'")
    return int(float(number) * UNITS[unit]) if "." in number else int(number) * UNITS[unit]
