"""Wheels in pieces that can be carried, with checksums and what joins them again."""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

INSTALL = """#!/bin/sh
# Checks the pieces, joins them and installs the wheels into `site`: then PYTHONPATH=$PWD/site has them.
set -eu
cd "$(dirname "$0")"
sha256sum --check --quiet SHA256SUMS
cat wheels.tar.* | tar -x
(cd wheels && sha256sum --check --quiet SHA256SUMS)
"${PYTHON:-python3}" -m pip install --quiet --no-index --no-deps --upgrade --target site wheels/*.whl
rm -r wheels
echo "installed: export PYTHONPATH=$PWD/site"
"""


class Pieces(io.RawIOBase):
    """A file that is written in pieces of at most so many bytes."""

    def __init__(self, folder: Path, stem: str, most: int) -> None:
        self._folder, self._stem, self._most, self._left = folder, stem, most, 0
        self._file: io.BufferedWriter | None = None
        self.files: list[Path] = []

    def writable(self) -> bool:
        """Return that it can be written."""
        return True

    def write(self, data: Any) -> int:
        """Write, into further pieces where one is full."""
        rest = memoryview(data).cast("B")
        while len(rest):
            if not self._left:
                self._next()
            assert self._file is not None
            part = rest[: self._left]
            self._file.write(part)
            self._left -= len(part)
            rest = rest[len(part) :]
        return memoryview(data).nbytes

    def _next(self) -> None:
        if self._file is not None:
            self._file.close()
        path = self._folder / f"{self._stem}.{len(self.files):03}"
        self.files.append(path)
        self._file, self._left = path.open("wb"), self._most

    def close(self) -> None:
        """Close the last piece."""
        if self._file is not None:
            self._file.close()
        super().close()


def cut(wheels: Sequence[Path], out: Path, most: int) -> list[Path]:
    """Write wheels as one archive in pieces of at most so many bytes, with checksums and what joins them again.

    The same wheels give the same bytes. Returns the pieces.
    """
    sums = "".join(f"{sha256(file)}  {file.name}\n" for file in sorted(wheels))
    with Pieces(out, "wheels.tar", most) as pieces, tarfile.open(fileobj=pieces, mode="w|") as archive:
        for file in sorted(wheels):
            with file.open("rb") as content:
                archive.addfile(_entry(f"wheels/{file.name}", file.stat().st_size), content)
        archive.addfile(_entry("wheels/SHA256SUMS", len(sums)), io.BytesIO(sums.encode()))
    (out / "SHA256SUMS").write_text("".join(f"{sha256(file)}  {file.name}\n" for file in pieces.files))
    (out / "install.sh").write_text(INSTALL)
    (out / "install.sh").chmod(0o755)
    return pieces.files


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
