"""What hooks did, as differences between what they were shown and what they made of it."""

import json
from collections.abc import Iterable
from difflib import unified_diff
from typing import Any

from ingle.cli.follow import hook_line
from ingle.cli.output import paint, put, visible
from ingle.wire.codec import Message

STYLES = {"+": "green", "-": "red", "@": "dim"}


def print_trace(hooks: Iterable[Message]) -> None:
    """Print what each hook of a request did, in their order."""
    for hook in hooks:
        put(paint(visible(hook_line(hook)), "bold") + "\n")
        if "before" in hook and "after" in hook:
            print_difference(hook["before"], hook["after"])


def print_difference(before: Any, after: Any) -> None:
    """Print what has changed between two values of one point; nothing where nothing has."""
    lines = unified_diff(_lines(before), _lines(after), "before", "after", lineterm="")
    for number, line in enumerate(lines):
        style = "dim" if number < 2 else STYLES.get(line[0], "")
        text = visible(line)
        put((paint(text, style) if style else text) + "\n")


def _lines(value: Any) -> list[str]:
    """Return a value as lines that people can compare."""
    if isinstance(value, dict):
        value = _subject(value)
    if isinstance(value, str):
        return value.split("\n")
    if isinstance(value, list) and all(isinstance(each, dict) and "role" in each for each in value):
        return [line for message in value for line in _turn(message)]
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True).split("\n")


def _subject(value: Message) -> Any:
    """Return what a hook is shown in the value of a call: messages, a request, or a text."""
    answer = value.get("answer")
    if isinstance(answer, dict) and "text" not in value:
        return answer.get("text", "")
    return next((value[key] for key in ("text", "messages", "request") if key in value), value)


def _turn(message: Message) -> list[str]:
    first, *others = str(message.get("content", "")).split("\n")
    return [f"{message['role']}: {first}", *(f"    {line}" for line in others)]
