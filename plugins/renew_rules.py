"""Renew the rules for secrets that redact ships.

    renew_rules.py GITLEAKS_TOML CREDSWEEPER_CONFIG_YAML NOSEYPARKER_RULES

gitleaks' file is taken as it is. Of CredSweeper's, which is written for another engine and read by heavy code, the
formats of single providers are taken and written in gitleaks' form: what RE2 lacks (lookaround) becomes a word boundary
before the value and a character behind it, and bounds beyond RE2's become none. Its rules for keywords, weak ones and
those for whole commands are left out: gitleaks has its own, and they cost false positives.

The formats of detect-secrets are taken from the installed package (`pip install detect-secrets`).

Of Nosey Parker's rules (the folder with its `*.yml`) all are taken that a text must have a word for: white space and
comments go out of their expressions, and the words are found in these. The last group is the secret, as beside a name
the password comes last, but for two.
"""

import importlib
import json
import pkgutil
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import re2
import yaml

DATA = Path(__file__).parent / "ingle_plugins/redact/data"
HEAD = (
    "# Formats of CredSweeper (MIT, credsweeper.LICENSE), written by plugins/renew_rules.py in the form of gitleaks.\n"
)
HEAD_OF_DETECT_SECRETS = (
    "# Formats of detect-secrets (Apache-2.0, detect_secrets.LICENSE), written by plugins/renew_rules.py\n"
    "# in the form of gitleaks.\n"
)
NO_FORMAT = ("ip_public", "private_key", "npm", "keyword", "basic_auth")
"""Of detect-secrets: they match no token, only what stands around one, or what more.toml has."""
WORDS = {
    "artifactory": ["akc", "ap"], "cloudant": ["cl"], "ibm_cos_hmac": ["key"],
    "ibm_cloud_iam": ["key", "pw", "pass", "token"], "jwt": ["eyj"], "slack": ["xox", "hooks.slack.com"],
    "softlayer": ["sl", "softlayer"], "square_oauth": ["sq0csp"], "twilio": ["ac", "sk"],
}  # fmt: skip
"""A text of each format has one of these, in small letters. Formats that are not named are in the other files."""
LEFT_OUT = {
    "UUID": "no secret by itself",
    "Firebase Domain": "no secret",
    "AWS S3 Bucket": "no secret",
    "PEM Private Key": "finds the first line only; gitleaks has the whole",
    "BASE64 Private Key": "four letters are too little without a check of the content",
    "Jira / Confluence PAT token": "no prefix",
    "Basic Authorization": "finds prose without a check of the content",
    "Bearer Authorization": "finds prose without a check of the content",
    "URL Credentials": "more.toml has a narrower one",
}
HEAD_OF_NOSEYPARKER = (
    "# Rules of Nosey Parker (Apache-2.0, noseyparker.LICENSE), written by plugins/renew_rules.py\n"
    "# in the form of gitleaks.\n"
)
NO_SECRET = ("identifier", "hashed")
"""Categories of Nosey Parker's rules: what they find can be shown to anybody, or is not the secret itself."""
SECRET_GROUP = {"np.postgres.1": 2, "np.mongodb.1": 2}
"""Where the last group is no secret, but a host."""
FUZZY_ENTROPY = 2.5
"""Bits for each character that a value has which only a name beside it gives away."""
BEFORE = re.compile(r"^\(\?:\^\|/\|\[\^\\\\0-9A-Za-z\+_-\].*?\{0,80\}m\)(?=\(\?P<value>)")
AFTER = re.compile(r"\(\?!\[([^\]]*)\]\)$")


def converted(pattern: str) -> str:
    """Write a pattern for RE2."""
    pattern = BEFORE.sub(lambda _: r"\b", pattern)  # takes no character: two values may have one between them
    pattern = AFTER.sub(lambda found: f"(?:[^{found[1]}]|$)", pattern)
    pattern = pattern.replace("(?P<variable>", "(?:")
    return re.sub(r"\{(\d+),(?:8000|1600)\}", r"{\1,}", pattern)


def entry(rule: dict[str, Any]) -> str:
    """Write one rule, or nothing where it is not wanted or cannot be said for RE2."""
    if rule["type"] != "pattern" or rule["confidence"] == "weak" or rule["name"] in LEFT_OUT:
        return ""
    pattern = converted(rule["values"][0])
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error:
        print(f"left out: {rule['name']}: {pattern}")
        return ""
    keywords = ", ".join(f'"{word.lower()}"' for word in rule["required_substrings"])
    name = re.sub(r"[^a-z0-9]+", "-", rule["name"].lower())
    return f"\n[[rules]]\nid = \"{name}\"\nregex = '''{pattern}'''\nkeywords = [{keywords}]\n"


def of_detect_secrets() -> str:
    """Write the formats that detect-secrets knows; where it has no group, all of the match is the secret."""
    import detect_secrets.plugins as plugins

    out = [HEAD_OF_DETECT_SECRETS]
    for module in pkgutil.iter_modules(plugins.__path__):
        loaded = importlib.import_module(f"{plugins.__name__}.{module.name}")
        for thing in vars(loaded).values():
            listed = getattr(thing, "denylist", None)
            own = isinstance(thing, type) and thing.__module__ == loaded.__name__
            if not own or not isinstance(listed, list | tuple) or module.name not in WORDS:
                continue
            for number, found in enumerate(listed):
                flags, pattern = "(?i)" if found.flags & re.IGNORECASE else "", found.pattern
                pattern = pattern.replace(r"(?:(?<=\W)|(?<=^))", r"(?:^|\W)")
                pattern = re.sub(r"\(\?!\[([^\]]*)\]\)\)", r")(?:[^\1]|$)", pattern)
                pattern = re.sub(r"\*\?$", "*", pattern)  # to the end of a token
                words = ", ".join(f'"{word}"' for word in WORDS[module.name])
                name = f"{module.name}-{number}".replace("_", "-")
                regex = f"regex = '''{flags}{pattern}'''"
                out.append(f'\n[[rules]]\nid = "{name}"\n{regex}\nentropy = 2.5\nkeywords = [{words}]\n')
    return "".join(out)


def of_noseyparker(folder: Path) -> str:
    """Write Nosey Parker's rules."""
    out = [HEAD_OF_NOSEYPARKER]
    for path in sorted(folder.glob("*.yml")):
        for rule in yaml.safe_load(path.read_text(encoding="utf-8"))["rules"]:
            out.append(of_rule(rule))
    return "".join(out)


def of_rule(rule: dict[str, Any]) -> str:
    """Write one of Nosey Parker's rules, or nothing."""
    kinds, name = set(rule.get("categories", ())), rule["id"].replace(".", "-")
    if kinds & set(NO_SECRET) and "secret" not in kinds:
        return ""
    pattern = plain(rule["pattern"].strip())
    options = re2.Options()
    options.log_errors = False
    try:
        groups = re2.compile(pattern, options).groups
        tree = parser.parse(re.sub(r"\(\?[a-z]+\)", "", pattern))  # Python has flags at the beginning only
    except (re2.error, re.error) as error:
        print(f"left out: {rule['name']}: {error}: {pattern}")
        return ""
    words = needed(tree)
    if min(map(len, words), default=0) < SHORTEST:
        print(f"left out: {rule['name']}: no words in {pattern}")
        return ""
    assert "'''" not in pattern, "it is written between these"
    lines = [f'id = "{name}"', f"regex = '''{pattern}'''"]
    lines += [f"secretGroup = {SECRET_GROUP.get(rule['id'], groups)}"] if groups > 1 else []
    lines += [f"entropy = {FUZZY_ENTROPY}"] if "fuzzy" in kinds else []
    keywords = ", ".join(json.dumps(word) for word in sorted(words))
    return "\n[[rules]]\n" + "\n".join(lines) + f"\nkeywords = [{keywords}]\n"


def plain(pattern: str) -> str:
    """Write an expression without the white space and the comments of `(?x)`."""
    pattern = re.sub(r"\(\?#[^)]*\)", "", pattern)
    flags = re.match(r"(?:\(\?[a-z]+\)\s*)*", pattern)
    assert flags is not None, "it matches nothing, too"
    letters = set(re.sub(r"[^a-z]", "", flags[0]))
    rest, out, inside = pattern[flags.end() :], [], False
    for part in re.findall(r"\\.|.", rest, re.DOTALL):
        if inside or "x" not in letters or not part.isspace():
            out.append(" " if part == "\\ " else part.replace("\\#", "#").replace("\\'", "'").replace('\\"', '"'))
        inside = part == "[" or (inside and part != "]")
    kept = "".join(sorted(letters - {"x"}))
    whole = re.sub(r"\{(\d+),\d{4,}\}", r"{\1,}", "".join(out))
    return (f"(?{kept})" if kept else "") + whole


SHORTEST = 3
"""Characters of a word."""
MOST = 40
"""Words of one rule."""


def needed(tree: Any) -> set[str]:
    """Return words, in small letters, one of which stands in whatever an expression matches; the longest there are."""
    best: set[str] = set()
    for words in _choices(tree):
        if min(map(len, words), default=0) > min(map(len, best), default=0):
            best = words
    return best


def _choices(tree: Any) -> Iterator[set[str]]:
    runs = {""}
    for code, value in tree:
        signs = _signs(code, value)
        if signs and len(runs) * len(signs) <= MOST:
            runs = {run + sign for run in runs for sign in signs}
            continue
        yield runs
        runs = {""}
        if code is op.SUBPATTERN:
            yield needed(value[3])
        elif code is op.MAX_REPEAT and value[0] >= 1:
            yield needed(value[2])
        elif code is op.BRANCH:
            parts = [needed(branch) for branch in value[1]]
            yield set().union(*parts) if all(parts) else set()
    yield runs


def _signs(code: Any, value: Any) -> set[str]:
    """Return which of a few texts stands here, in small letters; nothing where it may be any of many."""
    if code is op.SUBPATTERN:
        return _texts(value[3])
    if code is op.BRANCH:
        parts = [_texts(branch) for branch in value[1]]
        return set().union(*parts) if all(parts) else set()
    if code is op.LITERAL:
        found = [value]
    elif code is op.IN and all(kind is op.LITERAL for kind, _ in value):
        found = [number for _, number in value]
    else:
        return set()
    return {chr(number).lower() for number in found} if all(32 < number < 127 for number in found) else set()


def _texts(tree: Any) -> set[str]:
    found = {""}
    for code, value in tree:
        found = {text + sign for text in found for sign in _signs(code, value)}
    return found if len(found) <= MOST else set()


def main(gitleaks: str, credsweeper: str, noseyparker: str) -> None:
    """Write the files."""
    (DATA / "noseyparker.toml").write_text(of_noseyparker(Path(noseyparker)), encoding="utf-8")
    (DATA / "detect_secrets.toml").write_text(of_detect_secrets(), encoding="utf-8")
    shutil.copyfile(gitleaks, DATA / "gitleaks.toml")
    rules = yaml.safe_load(Path(credsweeper).read_text(encoding="utf-8"))
    (DATA / "credsweeper.toml").write_text(HEAD + "".join(map(entry, rules)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
