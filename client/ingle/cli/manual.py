"""The manual: a page for each verb, made from what the verb declares, and pages on topics.

The standard library's `textwrap` would do the same, and take longer to import than a page takes to make.
"""

from __future__ import annotations

from ingle.cli import VERBS
from ingle.cli.grammar import Option, Verb
from ingle.cli.outcome import ALONE, ELSEWHERE, EXITS, FAILURES

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 78

TOPICS = {
    "exit-codes": "What the exit status of `ingle` means.",
    "json": "What is printed with --json when something fails.",
    "environment": "Where the daemon's socket is looked for, and other variables.",
}

_ENVIRONMENT = """
    The daemon's socket is the first of these that applies:

        --socket PATH
        INGLE_SOCKET
        $XDG_RUNTIME_DIR/ingle/ingle.sock   (without the variable: /run/user/UID/...)
        /tmp/ingle-UID/ingle.sock           (only in a folder of yours, mode 0700)
        /run/ingle/ingle.sock               (the system's daemon)

    NO_COLOR        if not empty: no bold, no dim, whatever the terminal can do
    TERM=dumb       the same, and no line that is rewritten
    INGLE_DEBUG     a traceback instead of one line, for bugs of ingle itself
"""


def page(verb: Verb) -> str:
    """Return a verb's manual page."""
    synopsis = ["ingle", verb.name, *map(_short, verb.own), *verb.arguments.split()]
    exits = dict(ALONE if verb.alone else EXITS) | dict(verb.exits)
    parts = [
        ("NAME", f"ingle {verb.name} - {VERBS[verb.name]}"),
        ("SYNOPSIS", _filled(synopsis, "    ", "")),
        ("DESCRIPTION", _paragraphs(verb.description)),
        ("OPTIONS", "\n".join(_option(option) for option in verb.options)),
        ("EXAMPLES", "\n".join(f"{command}\n    {what}" for command, what in verb.examples)),
        ("EXIT STATUS", _exits(tuple(exits.items()))),
    ]
    return "\n".join(f"{title}\n{_indent(text)}\n" for title, text in parts if text)


def contents() -> str:
    """Return the first page: what there is."""
    width = max(map(len, [*TOPICS, *VERBS]))
    lines = [f"    {name.ljust(width)}  {what}" for name, what in VERBS.items()]
    topics = [f"    {name.ljust(width)}  {what}" for name, what in TOPICS.items()]
    head = "ingle - ask the language models that ingled keeps warm\n\nusage: ingle VERB [OPTION]... [ARGUMENT]...\n"
    tail = "`ingle help VERB` or `ingle help TOPIC` says more."
    return "\n".join([head, "verbs", *lines, "", "topics", *topics, "", tail, ""])


def topic(name: str) -> str:
    """Return the page of a topic."""
    bodies = {
        "exit-codes": _exits((*EXITS, *ELSEWHERE)),
        "json": _paragraphs(FAILURES),
        "environment": _dedent(_ENVIRONMENT).strip(),
    }
    return f"{TOPICS[name]}\n\n{_indent(bodies[name])}\n"


def _short(option: Option) -> str:
    inner = f"{option.names[0]} {option.value}".strip()
    return f"[{inner}]..." if option.many else f"[{inner}]"


def _option(option: Option) -> str:
    names = ", ".join(f"{name} {option.value}".strip() for name in option.names)
    return f"{names}\n{_wrapped(option.help, '    ')}"


def _exits(exits: tuple[tuple[int, str], ...]) -> str:
    return "\n".join(_wrapped(text, "     ", f"{code:<5}") for code, text in sorted(exits))


def _paragraphs(text: str) -> str:
    """Wrap paragraphs; indented ones stay as they are."""
    first, _, rest = text.partition("\n")  # the first line may begin at once, and has no indent then
    found = (first.strip() + "\n" + _dedent(rest)).strip("\n").split("\n\n")
    return "\n\n".join(part.rstrip() if part.startswith(" ") else _wrapped(part, "") for part in found)


def _wrapped(text: str, later: str, first: str | None = None) -> str:
    """Fill lines with the words of a text; the first begins with `first`, or as all others do."""
    return _filled(text.split(), later, first)


def _filled(words: Sequence[str], later: str, first: str | None) -> str:
    """Fill lines with words, which may have blanks in them."""
    lines = [later if first is None else first]
    begun = False
    for word in words:
        if begun and len(lines[-1]) + 1 + len(word) > WIDTH - 4:
            lines.append(later + word)
        else:
            lines[-1] += f" {word}" if begun else word
        begun = True
    return "\n".join(lines)


def _dedent(text: str) -> str:
    """Take away the indent that all lines have."""
    lines = text.split("\n")
    depth = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[depth:] if line.strip() else "" for line in lines)


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" if line.strip() else line for line in text.split("\n"))
