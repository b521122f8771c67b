"""Print the tables of a script, and keep them: Markdown and JSON in `bench/results/`."""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import ROOT, describe, sentence
from bench.table import markdown

RESULTS = ROOT / "bench" / "results"


@dataclass
class Record:
    """What one script has to say. Each part is printed as soon as it is there."""

    name: str
    label: str = ""
    """Tells results of one machine apart, such as `before`."""
    machine: dict[str, Any] = field(default_factory=describe)
    data: dict[str, Any] = field(default_factory=dict)
    """For the JSON file, whatever the script measured."""
    _texts: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print a paragraph and keep it."""
        print(f"{text}\n", flush=True)
        self.keep(text)

    def keep(self, text: str) -> None:
        """Keep a paragraph for the file alone."""
        self._texts.append(text)

    def begin(self, title: str, *, aloud: bool = True) -> None:
        """Write the heading and the machine; aloud: print them too."""
        for text in (f"## {title}", sentence(self.machine)):
            self.say(text) if aloud else self.keep(text)

    def table(self, title: str, head: list[str], rows: list[list[str]], texts: int = 1) -> None:
        """Print a table with a line above it; its first columns, so many of them, hold texts."""
        self.say(f"{title}\n\n{markdown(head, rows, texts)}")

    @property
    def stem(self) -> str:
        """Return the name of its files, without what tells their kinds apart."""
        return "-".join(filter(None, (self.name, kind(self.machine), self.label)))

    def write(self, folder: Path = RESULTS) -> Path:
        """Write both files, and return the JSON one. Results of another kind of machine have another name."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.stem}.md").write_text("\n\n".join(self._texts) + "\n")
        file = folder / f"{self.stem}.json"
        file.write_text(json.dumps({"machine": self.machine} | self.data, indent=1) + "\n")
        return file


def kind(machine: dict[str, Any]) -> str:
    """Return a short name of a kind of machine, for files."""
    first = machine["gpus"][0].partition(",")[0] if machine["gpus"] else f"{machine['cores']}-cores"
    return "".join(letter if letter.isalnum() else "-" for letter in first.lower())


def options(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all scripts have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds and short ones: to see that it works")
    parser.add_argument("--label", default="", help="a part of the names of the result files, such as `before`")
    return parser
