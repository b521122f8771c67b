"""Guards prompts and answers by policy: topics, misuse, prompt injections, and dangerous shell commands in an answer.

docs/plugins/guard.md says what it finds, what it does then, and what it cannot do.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from ingle.wire.hook_schema import Hold
from ingled.hooks import Answer, Call, Hook, Message, Verdict, hookimpl, note, refuse
from msgspec import Struct

from ingle_plugins.guard.danger import CATEGORIES, Finding
from ingle_plugins.guard.grammar import parser
from ingle_plugins.guard.injection import injections
from ingle_plugins.guard.rules import Matcher, Rule, Where, seen
from ingle_plugins.guard.shell import Shell
from ingle_plugins.guard.watch import Watch

VERSION = "1.0"
LIMIT = 4096
HOOK = Hook(order=200, deadline_ms=2000, on_error="refuse", hold=Hold(chars=LIMIT, ms=3000))

OnInjection = Literal["off", "flag", "refuse"]


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """The policy."""

    rules: dict[str, Rule] = {}
    """Topics and misuse, by name."""
    injection: OnInjection = "flag"
    """Injections in the user's own words."""
    injection_in_context: OnInjection = "flag"
    """The same in files, pages and outputs that tools bring along."""
    commands: Literal["off", "flag", "annotate", "refuse"] = "refuse"
    """Dangerous shell commands in an answer: say so afterwards, write a comment before them, or stop there."""
    harms: tuple[str, ...] = tuple(harm for harm in CATEGORIES if harm != "disrupt")
    """Kinds of harm that count."""
    protect: list[str] = []
    """Further folders that no command may delete."""
    deny: list[str] = []
    """Commands that count as dangerous, such as `terraform destroy`: a program, and words that it must be given."""
    tags: tuple[str, ...] = ("shell",)
    """Clients whose answers are commands, whatever they look like."""


def check(options: Options) -> None:
    """Raise ValueError where the policy cannot work."""
    Matcher.of(options.rules).check()
    for name, rule in options.rules.items():
        if not rule.keywords and not rule.patterns:
            raise ValueError(f"rules.{name}: needs keywords or patterns")
    for at, harm in enumerate(options.harms):
        if harm not in CATEGORIES:
            raise ValueError(f"harms[{at}]: {harm!r} is none of {', '.join(CATEGORIES)}")
    for at, path in enumerate(options.protect):
        if not path.startswith("/"):
            raise ValueError(f"protect[{at}]: {path!r} is no absolute path")
    for at, command in enumerate(options.deny):
        if not command.split():
            raise ValueError(f"deny[{at}]: names no program")
    if options.commands != "off":
        parser()


# ---------------------------------------------------------------- prompts


@hookimpl
def ingled_prompt(messages: list[Message], call: Call, options: Options) -> Verdict | None:
    """Refuse or flag what the policy names, in the messages and in what tools offer beside them."""
    texts: list[tuple[Where, str]] = [
        ("system" if message["role"] == "system" else "user", message["content"])
        for message in messages
        if message["role"] != "assistant"
    ]
    texts += [("context", item.get("text", "")) for item in call.context]
    broken: list[str] = []
    suspected: list[str] = []
    for where, text in texts:
        read = seen(text)
        for name in _matcher(options, where).find(read):
            rule = options.rules[name]
            if rule.action == "refuse":
                return refuse(rule.message or f"the policy does not allow this topic: {name}", rule=name, where=where)
            broken.append(name)
        action = options.injection_in_context if where == "context" else options.injection
        if action == "off" or where == "system":  # whoever writes the system prompt may give orders
            continue
        found = injections(text, read, own=where == "user")
        if found and action == "refuse":
            source = "what a tool brought along" if where == "context" else "the prompt"
            return refuse(f"{source} gives orders to the model ({found[0]})", injection=found, where=where)
        suspected += [f"{where}:{name}" for name in found]
    flags = {"rules": list(dict.fromkeys(broken)), "injection": list(dict.fromkeys(suspected))}
    return note(**{key: names for key, names in flags.items() if names}) if broken or suspected else None


@lru_cache(maxsize=32)
def _matchers(names: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]) -> Matcher:
    return Matcher.of({name: Rule(list(words), list(patterns)) for name, words, patterns in names})


def _matcher(options: Options, where: Where, *, action: str | None = None) -> Matcher:
    """Return what finds the rules for this place; made once for each policy."""
    chosen = (
        (name, tuple(rule.keywords), tuple(rule.patterns))
        for name, rule in options.rules.items()
        if where in rule.where and action in (None, rule.action)
    )
    return _matchers(tuple(chosen))


# ---------------------------------------------------------------- answers


@hookimpl
def ingled_chunk(call: Call, options: Options) -> Watch | None:
    """Watch an answer, streamed or whole, where the policy wants to act before it is out."""
    return _watch(options, call) if _acts(options) else None


@hookimpl
def ingled_answer(answer: Answer, call: Call, options: Options) -> Verdict | None:
    """Say what is in an answer as it was given out."""
    text = answer.get("text", "")
    notes: dict[str, object] = {}
    if names := _matcher(options, "answer").find(seen(text)):
        notes["rules"] = names
    if options.commands != "off":
        watch = _watch(options, call, flag=True)
        watch.feed(text)
        watch.flush()
        if watch.findings:
            notes["commands"] = [{"harm": found.category, "why": found.why[:200]} for found in watch.findings[:20]]
    return note(**notes) if notes else None


def _acts(options: Options) -> bool:
    forbids = any(rule.action == "refuse" and "answer" in rule.where for rule in options.rules.values())
    return forbids or options.commands in ("annotate", "refuse")


def _watch(options: Options, call: Call, *, flag: bool = False) -> Watch:
    """Return what follows an answer; with `flag` it only looks, whatever the policy says."""
    harms = frozenset(options.harms) if options.commands != "off" else frozenset[str]()

    def wanted(finding: Finding) -> bool:
        return finding.category in harms

    return Watch(
        Shell(protect=frozenset(options.protect), deny=[command.split() for command in options.deny]),
        "flag" if flag or options.commands == "off" else options.commands,
        commands=bool(set(options.tags) & set(call.tags)),
        wanted=wanted,
        forbidden=None if flag else _forbidden(options),
        limit=LIMIT,
    )


def _forbidden(options: Options) -> Callable[[str], str | None] | None:
    matcher = _matcher(options, "answer", action="refuse")
    if not matcher.expressions:
        return None
    return lambda line: next(iter(matcher.find(seen(line))), None)
