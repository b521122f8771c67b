"""Renew the lists of names that redact ships beside those of mimesis.

    renew_names.py FOLDER     what `npm pack @faker-js/faker` gave, unpacked; node reads it

Taken are the given names and surnames of one word, of all its languages with capital letters, that mimesis has not:
faker-js has other languages, such as Latvian, Romanian, Turkish and Indonesian.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ingle_plugins.redact import names

DATA = Path(__file__).parent / "ingle_plugins/redact/data"
READ = """
import { allLocales } from %s;
const people = Object.values(allLocales).map(({ person }) => person ?? {});
const of = (...keys) => people.map((person) => keys.map((key) => person[key]));
console.log(JSON.stringify([
  of("first_name", "female_first_name", "male_first_name"), of("last_name", "female_last_name", "male_last_name")]));
"""
LINE = 118
WORDS = frozenset(("block", "costa", "cross", "dia", "law", "server", "trace", "uses", "valid", "vit"))
"""Names that programs and papers have as words ("Transformer Block", "Server Events")."""


def wanted(found: Iterable[str], known: frozenset[str]) -> list[str]:
    """Return names as redact keeps them, in order: folded, of one word that begins with a capital, not yet known."""
    one = {name for name in found if name[:1].isupper() and len(name) > 1 and not set(name) & set(" ./&#{}")}
    return sorted({names.folded(name) for name in one} - known - names.no_names() - WORDS)


def wrapped(words: list[str]) -> str:
    """Write words in lines."""
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) >= LINE:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line, ""])


def main(folder: Path) -> None:
    """Write the files."""
    module = json.dumps(str(folder.resolve() / "dist/index.js"))
    node = ["node", "--input-type=module", "--eval", READ % module]
    given, surnames = json.loads(subprocess.run(node, capture_output=True, check=True, text=True).stdout)
    known = names.of_mimesis()
    (DATA / "given_names.txt").write_text(wrapped(wanted(names.texts(given), known[0])), encoding="utf-8")
    (DATA / "surnames.txt").write_text(wrapped(wanted(names.texts(surnames), known[1])), encoding="utf-8")
    shutil.copyfile(folder / "LICENSE", DATA / "faker_js.LICENSE")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
