"""Renew the rules for secrets that redact ships: renew_rules.py GITLEAKS_TOML CREDSWEEPER_CONFIG_YAML.

gitleaks' file is taken as it is. Of CredSweeper's, which is written for another engine and read by heavy code, the
formats of single providers are taken and written in gitleaks' form: what RE2 lacks (lookaround) becomes a word boundary
before the value and a character behind it, and bounds beyond RE2's become none. Its rules for keywords, weak ones and
those for whole commands are left out: gitleaks has its own, and they cost false positives.

The formats of detect-secrets are taken from the installed package (`pip install detect-secrets`).
"""

import importlib
import pkgutil
import re
import shutil
import sys
from pathlib import Path
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


def main(gitleaks: str, credsweeper: str) -> None:
    """Write the files."""
    (DATA / "detect_secrets.toml").write_text(of_detect_secrets(), encoding="utf-8")
    shutil.copyfile(gitleaks, DATA / "gitleaks.toml")
    rules = yaml.safe_load(Path(credsweeper).read_text(encoding="utf-8"))
    (DATA / "credsweeper.toml").write_text(HEAD + "".join(map(entry, rules)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
