"""Ask ember the held-out, the fresh and the handwritten requests through vLLM, greedily, and print the figures.

python -m bench.ember.evaluate [--model FOLDER] [--json FILE] [--card FILE]     (make ember-eval)
"""

import argparse
import json
import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ingled.models.builtin import EMBER_OPTIONS, ember_path

from bench.ember import sandbox
from bench.ember.examples import SEED, fresh, held_out
from bench.ember.templates import DOES_NOT_KNOW, intents, regex

HANDWRITTEN: Final = Path(__file__).parent / "handwritten.txt"
MAX_TOKENS: Final = 160
UNKNOWN: Final = "?"
SOURCES: Final = ("held out", "fresh", "handwritten")


@dataclass(frozen=True)
class Case:
    """A request, what it should be answered with, and where it comes from."""

    request: str
    reference: str
    source: str
    arguments: dict[str, str]
    runs: bool

    @property
    def known(self) -> bool:
        """Say whether ember should have an answer."""
        return self.reference != DOES_NOT_KNOW


@dataclass(frozen=True)
class Judged:
    """A case with its answer."""

    case: Case
    answer: str
    equal: bool
    tried: bool
    right: bool
    """Equal, or the same outcome in the sandbox; for what ember should not know: no command."""


def cases() -> list[Case]:
    """Return the held-out requests, the fresh ones and the handwritten ones."""
    runs = {intent.name: intent.runs for intent in intents()}
    found = [(one, "held out") for one in held_out()]
    found += [(one, "fresh") for one in fresh()]
    cases = [Case(one.request, one.answer, source, one.arguments, runs.get(one.intent, False)) for one, source in found]
    return cases + handwritten()


def handwritten() -> list[Case]:
    """Return the requests that were written by hand, with the arguments that their commands show."""
    found = []
    for line in HANDWRITTEN.read_text().splitlines():
        if line.startswith("#"):
            continue
        request, _, reference = line.partition("\t")
        if reference == UNKNOWN:
            found.append(Case(request, DOES_NOT_KNOW, "handwritten", {}, False))
            continue
        arguments = arguments_of(reference)
        found.append(Case(request, reference, "handwritten", arguments or {}, arguments is not None))
    return found


def arguments_of(command: str) -> dict[str, str] | None:
    """Return the arguments of a command that an intent with a sandbox could have made, or None."""
    for intent in intents():
        if intent.command is None or not intent.runs:
            continue
        names: set[str] = set()

        def group(found: re.Match[str], names: set[str] = names) -> str:
            name = found[1]
            if name in names:
                return f"(?P={name})"
            names.add(name)
            return rf"(?P<{name}>{SHAPES.get(name, r'[^ ]+')})"

        parts = re.split(r"(\{\w+\})", intent.command)
        pattern = "".join(re.sub(r"\{(\w+)\}", group, part) if part[:1] == "{" else re.escape(part) for part in parts)
        if match := re.fullmatch(pattern, command):
            return match.groupdict()
    return None


SHAPES: Final = {"ext": r"\w+", "n": r"\d+", "days": r"\d+", "col": r"\d+", "size": r"\d+[kMG]", "word": "[^']+",
                 "word2": "[^'/]+", "msg": "[^']+", "tgz": r"[^ ]+\.(?:tar\.gz|tgz)", "zip": r"[^ ]+\.zip",
                 "gz": r"[^ ]+\.gz", "file": r"[^ ]*[^ /]", "mode": "[^ ]*[0-9rwx]"}  # fmt: skip


@cache
def sentences() -> re.Pattern[str]:
    """Return an expression for all answers that are no command."""
    replies = {regex(intent.reply) for intent in intents() if intent.reply is not None}
    return re.compile("|".join(f"(?:{reply})" for reply in sorted(replies)))


def is_command(answer: str) -> bool:
    """Say whether an answer is a command, or anything else that ember was not taught to say."""
    return not sentences().fullmatch(answer.replace(" ", ""))


def judge(case: Case, answer: str) -> Judged:
    """Compare an answer with the reference, in the sandbox too where that can be."""
    equal = answer == case.reference
    if not case.known:
        return Judged(case, answer, equal, False, not is_command(answer))
    tried = same = False
    if case.runs and (wanted := sandbox.run(case.reference, case.arguments, case.reference)):
        tried = True
        got = sandbox.run(answer, case.arguments, case.reference)
        same = got == wanted
    return Judged(case, answer, equal, tried, equal or same)


def ask(folder: Path, requests: Sequence[str]) -> list[str]:
    """Return the greedy answers of the model in a folder, in one start of vLLM."""
    from ingled.worker.environment import set_environment

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # who asks for figures wants to find them
    set_environment()
    from vllm import LLM, SamplingParams

    engine: Any = LLM(model=str(folder), **EMBER_OPTIONS)
    chats = [[{"role": "user", "content": request}] for request in requests]
    outputs = engine.chat(chats, SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS), use_tqdm=False)
    return [output.outputs[0].text for output in outputs]


def share(found: Sequence[Judged], holds: Callable[[Judged], bool]) -> dict[str, Any]:
    """Return how many there are, and for how many it holds."""
    good = sum(map(holds, found))
    return {"of": len(found), "good": good, "percent": round(100 * good / len(found), 1) if found else None}


def figures(judged: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """Return all figures by name."""
    found: dict[str, dict[str, Any]] = {}
    for source in SOURCES:
        mine = [one for one in judged if one.case.source == source]
        known = [one for one in mine if one.case.known]
        unknown = [one for one in mine if not one.case.known]
        with_arguments = [one for one in known if one.case.arguments]
        tried = [one for one in known if one.tried]
        found |= {
            f"{source}: answer equal to the reference": share(known, lambda one: one.equal),
            f"{source}: the same, of requests with arguments": share(with_arguments, lambda one: one.equal),
            f"{source}: tried in the sandbox, right result": share(tried, lambda one: one.right),
            f"{source}: equal or right result": share(known, lambda one: one.right),
            f"{source}: known, but 'I do not know'": share(known, lambda one: one.answer == DOES_NOT_KNOW),
            f"{source}: unknown, and a command invented": share(unknown, lambda one: not one.right),
        }
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown."""
    rows = [f"| {name} | {one['good']} of {one['of']} | {one['percent']} % |" for name, one in found.items()]
    return "\n".join(["| figure | count | share |", "|---|---|---|", *rows])


def samples(judged: Sequence[Judged], good: bool, count: int = 10) -> str:
    """Return some held-out examples, picked at random with the seed."""
    pool = [one for one in judged if one.case.source == "held out" and one.right == good]
    picked = random.Random(SEED).sample(pool, min(count, len(pool)))
    rows = []
    for one in picked:
        wanted = "" if good else f" (wanted: `{one.case.reference}`)"
        rows.append(f"- {one.case.request!r}\n  `{one.answer}`{wanted}")
    return "\n".join(rows)


def main() -> None:
    """Ask, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ember_path())
    parser.add_argument("--json", type=Path, help="write every request with its answer here")
    parser.add_argument("--card", type=Path, help="write the model card here")
    arguments = parser.parse_args()
    asked = cases()
    answers = ask(arguments.model, [case.request for case in asked])
    judged = [judge(case, answer) for case, answer in zip(asked, answers, strict=True)]
    found = figures(judged)
    print(table(found))
    print(f"\nGood, picked at random:\n{samples(judged, True)}\n\nBad, picked at random:\n{samples(judged, False)}")
    if arguments.json:
        rows = [asdict(one) for one in judged]
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.card:
        from bench.ember.card import card

        sizes = {file.name: file.stat().st_size for file in sorted(arguments.model.iterdir())}
        words = json.loads((arguments.model / "config.json").read_text())["vocab_size"]
        arguments.card.write_text(card(table(found), samples(judged, True), samples(judged, False), sizes, words))


if __name__ == "__main__":
    main()
