"""Sizes of memory as people write and read them: `512MiB`, `1.5 GiB`. Pure."""

UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse(value: int | str) -> int:
    """Return the bytes of a size. Raises ValueError with what is allowed."""
    text = str(value).strip()
    number = text.rstrip("BKMGTi").rstrip()
    unit = text[len(number) :].strip()
    digits, _, part = number.partition(".")
    plain = number.replace(".", "", 1)
    if unit not in UNITS or not (plain.isascii() and plain.isdigit() and digits) or len(digits) > 15 or len(part) > 6:
        raise ValueError("expected bytes, or a size such as '512MiB' or '1.5GiB'")
    return int(float(number) * UNITS[unit]) if "." in number else int(number) * UNITS[unit]


def spell(count: float | None) -> str:
    """Return a number of bytes for people; one that is not known is a dash."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB" if count < 1024 else f"{count / 1024:.1f} TiB"
