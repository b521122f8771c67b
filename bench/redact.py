"""Print what redact finds in data that this repository did not write, what it finds wrongly, and what it costs.

Secrets are generated from the formats of three rule sets, gitleaks', CredSweeper's and detect-secrets', which redact
itself uses: their recall says only that nothing gets lost between rule and placeholder. With `--examples FOLDER` those
count too that people have written down in rules of the form of Nosey Parker's (`*.yml`), and with `--without FOLDER`
only where another set has not the same ones.
Personal data comes from faker, false positives from the lines of Python's standard library, of which
`bench/redact_truth.py` says what is true. With `--names FOLDER` popular names count, by country, of the data set
`popular-names-by-country-dataset` (CC0, from Wikipedia's lists), which redact does not use.

None of it is unseen: rules, ranges of numbers and words that are no names were added after looking at what was missed
or found wrongly here. `docs/decisions/0005-how-redact-finds.md` has what data gave that nobody had looked at.
"""

import argparse
import base64
import csv
import importlib
import pkgutil
import random
import re
import sysconfig
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import detect_secrets.plugins
import msgspec
import rstr
from faker import Faker
from ingle_plugins.linear import compiled
from ingle_plugins.redact import Options, names
from ingle_plugins.redact.find import Finder
from ingle_plugins.redact.options import KINDS
from ingle_plugins.redact.rules import entropy, rules
from ingle_plugins.redact.spans import Span

from bench.redact_truth import true

SEED = 5
LOCALES = ["en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "pt_BR", "nl_NL", "pl_PL", "sv_SE", "da_DK", "no_NO"]
LOCALES += ["fi_FI", "cs_CZ", "hu_HU", "hr_HR"]
HARD = ["ru_RU", "uk_UA", "ro_RO", "tr_TR", "en_IN", "id_ID", "ja_JP", "zh_CN"]
CARRIERS = ("Why does this fail: {} ?", "I got '{}' from them.", "{}", 'config = "{}"\nand then?')
NAME_CARRIERS = ("Please write to {} about the offer.", "{} asked for a refund, what now?", "Summarise what {} said.")
PHONE_CARRIERS = ("Call me: {} today", "Tel.: {}", "You can reach us under {} until noon.", "phone {}")
NO_FORMAT = ("ip_public", "private_key", "npm", "keyword")  # these match no token, or only what stands around one
SECOND = {"np.postgres.1": 2, "np.mongodb.1": 2}
"""Examples: in which group the secret is, where that is not the last."""
HEADERS = ("RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PRIVATE KEY")


class Made:
    """Generates secrets by patterns, always the same ones."""

    def __init__(self) -> None:
        self.random = random.Random(SEED)
        self._rstr = rstr.Rstr(self.random)

    def text(self, pattern: str) -> str:
        """Return a text that matches, as a person would write it: no runs of white space, few repeats."""
        plain = re.sub(r"\\s[*+]?|\[\\s.*?\]\{0,\d\}", " ", pattern)
        plain = (
            plain.replace(r"\d+", r"\d{9,13}")
            .replace("[[:alnum:]]", "[a-zA-Z0-9]")
            .replace(r"\z", "")
            .replace("(?i)", "")
        )
        plain = plain.replace(")+", "){1,3}")
        plain = re.sub(r"\(\?[<!=][!=]?[^()]*\)|\(\?[=!][^()]*\)", "", plain)
        return re.sub(r" {2,}", " ", self._rstr.xeger(plain)).strip()

    def of_rules(self, name: str, each: int) -> Iterator[tuple[str, str]]:
        """Yield (carrier text, secret) from a shipped file of rules: what the rule itself, alone, calls a secret."""
        table = tomllib.loads((files("ingle_plugins.redact") / "data" / name).read_text(encoding="utf-8"))
        known = {rule.regex: rule for rule in rules()}
        for entry in table["rules"]:
            rule = known.get(entry.get("regex", ""))
            for _ in range(each if rule else 0):
                try:
                    text = self.text(entry["regex"])
                except (re.error, ValueError, KeyError):
                    break
                match = compiled(entry["regex"]).search(text)
                groups = [group for group in match.groups() if group] if match else []
                secret = groups[0] if groups else match.group() if match else ""
                if secret and entropy(secret) > entry.get("entropy", 0):
                    yield text, secret

    def of_detect_secrets(self, each: int) -> Iterator[tuple[str, str, str]]:
        """Yield (format, text, secret) from detect-secrets, which calls the first group the secret, else all."""
        for module in pkgutil.iter_modules(detect_secrets.plugins.__path__):
            loaded = importlib.import_module(f"detect_secrets.plugins.{module.name}")
            for thing in vars(loaded).values():
                listed = getattr(thing, "denylist", None)
                own = isinstance(thing, type) and thing.__module__ == loaded.__name__
                if not own or not isinstance(listed, list | tuple) or module.name in NO_FORMAT:
                    continue
                for found in listed:
                    pattern = found[0] if isinstance(found, tuple) else found
                    for _ in range(each):
                        text = self.text(pattern.pattern)
                        match = pattern.search(text)
                        if match:
                            groups = [group for group in match.groups() if group]
                            yield module.name, text, groups[-1] if groups else match.group().strip("\"'=: ")

    def private_key(self) -> str:
        """Return a key as PEM files hold it."""
        header = self.random.choice(HEADERS)
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        lines = ["".join(self.random.choices(letters, k=64)) for _ in range(self.random.randint(4, 26))]
        return "\n".join([f"-----BEGIN {header}-----", *lines, f"-----END {header}-----"])


def hidden(finder: Finder, text: str, value: str) -> bool:
    """Tell whether no character of the value stays in the text."""
    start = text.index(value)
    covered = {place for span in finder.find(text) for place in range(span.start, span.end)}
    wanted = [start + offset for offset, sign in enumerate(value) if not sign.isspace()]
    return all(place in covered for place in wanted)


def show(name: str, found: int, of: int, misses: list[str]) -> None:
    """Print a line of a table of recall."""
    print(f"{name:<38}{of:>7}{found / max(of, 1):>9.3f}   {', '.join(misses[:3])[:90]}")


def secrets(finder: Finder) -> None:
    """Print the recall of secrets by source."""
    made = Made()
    print(f"\n{'secrets, by where the format is from':<38}{'made':>7}{'recall':>9}   missed, for example")
    for name, each in (("gitleaks.toml", 10), ("credsweeper.toml", 20)):
        count, total, misses = 0, 0, []
        for number, (text, secret) in enumerate(made.of_rules(name, each)):
            carried = CARRIERS[number % len(CARRIERS)].format(text)
            ok = hidden(finder, carried, secret)
            count, total = count + ok, total + 1
            misses += [] if ok else [secret[:28]]
        show(f"{name} (used)", count, total, misses)
    by: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    for number, (kind, text, secret) in enumerate(made.of_detect_secrets(40)):
        by[kind].append((hidden(finder, CARRIERS[number % len(CARRIERS)].format(text), secret), secret))
    for _ in range(100):
        key = made.private_key()
        by["whole private keys"].append((hidden(finder, f"My key:\n{key}\nWhy?", key), key))
    every = [each for kind in by.values() for each in kind]
    show("detect-secrets (used)", sum(ok for ok, _ in every), len(every), [])
    for kind, results in by.items():
        show(f"  {kind}", sum(ok for ok, _ in results), len(results), [value[:28] for ok, value in results if not ok])


def examples(finder: Finder, folder: Path, without: Path | None) -> None:
    """Print the recall of the examples in a set of rules: what the rule itself calls the secret in each."""
    import yaml

    def read(folder: Path) -> Iterator[dict[str, Any]]:
        for path in sorted(folder.glob("*.yml")):
            yield from yaml.safe_load(path.read_text(encoding="utf-8"))["rules"]

    known = {example.strip() for rule in read(without) for example in rule.get("examples", ())} if without else set()
    results: dict[str, list[tuple[bool, str]]] = {"a format": [], "only a name beside it": []}
    for rule in read(folder):
        kinds = set(rule.get("categories", ()))
        if kinds & {"identifier", "hashed"} and "secret" not in kinds:
            continue
        compiled_rule = _verbose(rule["pattern"])
        for example in rule.get("examples") or ():
            match = compiled_rule.search(example) if compiled_rule and example.strip() not in known else None
            if match is None:
                continue
            group = SECOND.get(rule["id"], match.re.groups)
            start, end = match.span("TOKEN" if "TOKEN" in match.groupdict() else group)
            if start < 0:
                continue
            covered = {place for span in finder.find(example) for place in range(span.start, span.end)}
            ok = all(place in covered for place in range(start, end) if not example[place].isspace())
            named = "fuzzy" in kinds or "generic" in rule["id"]
            results["only a name beside it" if named else "a format"].append(
                (ok, f"{rule['id']}: {example[start:end]}")
            )
    every = [each for some in results.values() for each in some]
    print(f"\n{f'examples in {folder}':<38}{'made':>7}{'recall':>9}   missed, for example")
    for name, some in [*results.items(), ("all", every)]:
        show(f"  {name}", sum(ok for ok, _ in some), len(some), [text[:40] for ok, text in some if not ok])


def _verbose(pattern: str) -> "re.Pattern[str] | None":
    """Compile an expression that may begin with several groups of flags; None where Python has no such expression."""
    pattern = pattern.strip()
    head = re.match(r"(?:\(\?[a-z]+\)\s*)*", pattern)
    assert head is not None, "it matches nothing, too"
    flags = re.NOFLAG
    for letter in re.sub("[^a-z]", "", head[0]):
        flags |= {"x": re.VERBOSE, "i": re.IGNORECASE, "s": re.DOTALL, "m": re.MULTILINE}[letter]
    try:
        return re.compile(re.sub(r"\(\?[a-z]+\)", "", pattern[head.end() :]), flags)
    except re.error:
        return None


def personal(finder: Finder, number: int) -> None:
    """Print the recall of personal data by kind and locale."""
    print(f"\n{'personal data (faker)':<38}{'made':>7}{'recall':>9}   missed, for example")
    total: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for locale in LOCALES + HARD:
        fake = Faker(locale)
        fake.seed_instance(SEED)
        makers: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
            "name": (lambda fake=fake: f"{fake.first_name()} {fake.last_name()}", NAME_CARRIERS),  # type: ignore[misc]
            "phone": (fake.phone_number, PHONE_CARRIERS),
            "email": (fake.email, CARRIERS),  # at example.com and its like
            "email elsewhere": (lambda fake=fake: fake.email(safe=False), CARRIERS),  # type: ignore[misc]
            "card": (fake.credit_card_number, CARRIERS),
            "iban": (fake.iban, CARRIERS),
            "ip": (fake.ipv4_public, CARRIERS),
        }
        for kind, (make, carriers) in makers.items():
            if locale in HARD and kind != "name":
                continue
            values = [make() for _ in range(number)]
            texts = [carriers[place % len(carriers)].format(value) for place, value in enumerate(values)]
            oks = [hidden(finder, text, value) for text, value in zip(texts, values, strict=True)]
            if locale in LOCALES:
                total[kind][0] += sum(oks)
                total[kind][1] += number
            if kind in ("name", "phone"):
                label = f"  {kind} {locale}" + (" (not counted)" if locale in HARD else "")
                show(label, sum(oks), number, [value for value, ok in zip(values, oks, strict=True) if not ok])
    for kind, (found, of) in total.items():
        show(f"{kind}, {len(LOCALES)} locales", found, of, [])


def popular(finder: Finder, folder: Path, number: int) -> None:
    """Print the recall of popular given names with popular surnames of the same country, by country."""

    def read(file: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        with (folder / file).open(encoding="utf-8-sig", newline="") as lines:
            for row in csv.DictReader(lines):
                for name in f"{row['Localized Name']}/{row['Romanized Name']}".split("/"):
                    if name[:1].isupper():
                        found[row["Country"]].add(name.strip())
        return found

    given, surnames = read("common-forenames-by-country.csv"), read("common-surnames-by-country.csv")
    some, count, total = random.Random(SEED), 0, 0
    print(f"\n{'popular names by country':<38}{'made':>7}{'recall':>9}   missed, for example")
    for country in sorted(given.keys() & surnames.keys()):
        first, last = sorted(given[country]), sorted(surnames[country])
        if min(len(first), len(last)) < FEWEST:
            continue
        values = [f"{some.choice(first)} {some.choice(last)}" for _ in range(number)]
        texts = [NAME_CARRIERS[place % len(NAME_CARRIERS)].format(value) for place, value in enumerate(values)]
        misses = [value for text, value in zip(texts, values, strict=True) if not hidden(finder, text, value)]
        count, total = count + number - len(misses), total + number
        show(f"  {country}", number - len(misses), number, misses)
    show("all", count, total, [])


FEWEST = 5
"""Names that a country has at least, to be counted."""


def only(kind: str) -> Finder:
    """Return a finder of one kind."""
    return Finder(msgspec.structs.replace(Options(), **{each: each == kind for each in KINDS}))


def false_positives(shown: bool) -> None:
    """Print how many lines of the standard library have something that redact would take out, and has it wrongly."""
    library = Path(sysconfig.get_paths()["stdlib"])
    texts: dict[str, list[str]] = {"without its tests": [], "its tests": []}
    for path in sorted(library.rglob("*.py")):
        if not {"site-packages", "dist-packages"} & set(path.parts):
            inside = path.relative_to(library).parts
            tests = inside[0] in ("test", "idlelib") or "test" in inside or "tests" in inside
            texts["its tests" if tests else "without its tests"].append(path.read_text(errors="replace"))
    for part, each in texts.items():
        lines = sum(text.count("\n") for text in each)
        size = sum(map(len, each))
        print(f"\nstandard library, {part}: {lines} lines, {size // 1000} kB")
        print(f"{'kind':<10}{'lines':>7}{'of all':>10}{'wrong':>7}{'of all':>10}{'us/kB':>8}   wrong, most frequent")
        places: set[tuple[int, int]] = set()
        wrong: set[tuple[int, int]] = set()
        for kind in KINDS:
            finder = only(kind)
            finder.find("warm up: key = 1, Anna Schmidt, +49 30 901820")
            start = time.perf_counter()
            spans = [(number, text, span) for number, text in enumerate(each) for span in finder.find(text)]
            micros = (time.perf_counter() - start) / size * 1e9
            found = {(number, text.count("\n", 0, span.start)) for number, text, span in spans}
            no = [(number, text, span) for number, text, span in spans if not true(kind, *with_around(text, span))]
            untrue = {(number, text.count("\n", 0, span.start)) for number, text, span in no}
            most = Counter(text[span.start : span.end] for _, text, span in no).most_common(None if shown else 4)
            print(
                f"{kind:<10}{len(found):>7}{len(found) / lines:>10.4%}{len(untrue):>7}{len(untrue) / lines:>10.4%}"
                f"{micros:>8.1f}   {[text for text, _ in most]}"
            )
            places |= found
            wrong |= untrue
        print(f"{'all':<10}{len(places):>7}{len(places) / lines:>10.4%}{len(wrong):>7}{len(wrong) / lines:>10.4%}")
    print("What tests have is invented; only rules were asked whether it is true.")


def with_around(text: str, span: Span) -> tuple[str, str]:
    """Return what was found, and its line and the ones before and behind without it."""
    first = text.rfind("\n", 0, max(text.rfind("\n", 0, span.start), 0)) + 1
    end = text.find("\n", span.end)
    last = text.find("\n", end + 1) if end >= 0 else -1
    return text[span.start : span.end], text[first : span.start] + text[span.end : last if last >= 0 else len(text)]


def start_up() -> None:
    """Print what the first request pays."""
    rules.cache_clear()
    compiled.cache_clear()
    begin: Any = time.perf_counter()
    finder = Finder(Options())
    finder.find("api_key = hello, Anna Schmidt, +49 30 901820")
    print(f"first use: {(time.perf_counter() - begin) * 1000:.0f} ms, {sum(map(len, names.lists()))} names")
    text = ("Dear team, the server of Anna Schmidt at 10.0.0.1 says: token expired, see the key. " * 13)[:1024]
    begin = time.perf_counter()
    for number in range(200):
        finder.find(f"{number} {text}")  # each is new
    print(f"a message of 1 kB afterwards: {(time.perf_counter() - begin) / 200 * 1e6:.0f} us")


def long_prompts() -> None:
    """Print what a prompt of 3.2 MB takes, and the same one with a turn more."""
    some, size = random.Random(SEED), 3_200_000
    library = Path(sysconfig.get_paths()["stdlib"])
    programs = "".join(path.read_text(errors="replace") for path in sorted(library.glob("*.py")))
    line = "2026-11-{:02}T{:02}:{:02}:07.{:03}Z api[{}] user=anna@example.com ip=192.168.{}.{} key={:016x} GET /v1/{}\n"
    makers: dict[str, Callable[[], str]] = {
        "programs": lambda: programs,
        "a log": lambda: line.format(*(some.randint(10, 28) for _ in range(7)), some.getrandbits(64), some.random()),
        "a table of numbers": lambda: (
            ",".join(str(some.randint(0, 10 ** some.randint(1, 12))) for _ in range(12)) + "\n"
        ),
        "base64": lambda: base64.encodebytes(some.randbytes(4096)).decode(),
    }
    print(f"\n{'3.2 MB of':<22}{'seconds':>9}{'once more':>11}   (of processor time)")
    for name, make in makers.items():
        finder, text = Finder(Options()), make()
        while len(text) < size:
            text += "".join(make() for _ in range(200))
        text = text[:size]
        times = []
        for _ in range(2):
            begin = time.process_time()
            finder.find(text)
            times.append(time.process_time() - begin)
        print(f"{name:<22}{times[0]:>9.2f}{times[1]:>11.3f}")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=300, help="values for each kind and locale")
    parser.add_argument("--show", action="store_true", help="show everything that is found in the standard library")
    parser.add_argument("--examples", type=Path, help="folder of rules in the form of Nosey Parker's, with examples")
    parser.add_argument("--without", type=Path, help="folder of another such set: what it has too does not count")
    parser.add_argument("--names", type=Path, help="folder of a data set of popular names by country")
    options = parser.parse_args()
    if options.names:
        popular(only("name"), options.names, options.number)
        return
    if options.examples:
        examples(Finder(Options()), options.examples, options.without)
        return
    start_up()
    long_prompts()
    finder = Finder(Options())
    secrets(finder)
    personal(finder, options.number)
    false_positives(options.show)


if __name__ == "__main__":
    main()
