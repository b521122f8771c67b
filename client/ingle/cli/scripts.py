"""What a program that is a hook reads and writes: from a call to its input, from its output to a verdict."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from ingle.cli.programs import Ended, Persistent, Programs
from ingle.hook_calls import SUBJECTS, Call, Failure, Runner
from ingle.verdicts import Stop, Verdict

REFUSED = 10
"""Exit status of a program that refuses; what it printed is the reason."""

NOTHING_SAID = Verdict("unchanged")


def once(name: str, argv: Sequence[str], *, text: bool, note: Callable[[str], None]) -> tuple[Programs, Runner]:
    """Return what runs the program for each call. `text`: it reads and writes plain text. `note` gets what it says on
    standard error.
    """
    programs = Programs(argv)

    def runner(shown: Any, call: Call) -> Verdict:
        data = _text(call.point, shown) if text else json.dumps(question(name, shown, call))
        ended = programs.run(data.encode(errors="replace"), call.deadline, _environment(name, call))
        if ended.stderr:
            note(ended.stderr if ended.stderr.endswith("\n") else ended.stderr + "\n")
        return _verdict_of(ended, shown, call, text=text)

    return programs, runner


def persistent(name: str, argv: Sequence[str]) -> tuple[Persistent, Runner]:
    """Return what asks one program that stays."""
    program = Persistent(argv)

    def runner(shown: Any, call: Call) -> Any:
        if call.point == "chunk":
            return _Lines(program, name, call)
        return verdict(program.ask(question(name, shown, call), call.deadline), call)

    return program, runner


def question(name: str, shown: Any, call: Call) -> dict[str, Any]:
    """Return what a program gets to read."""
    asked: dict[str, Any] = {"point": call.point, "hook": name, "id": call.id, "call": call.as_map()}
    if call.state is not None:
        asked["state"] = call.state.decode(errors="surrogateescape")
    return asked | {SUBJECTS[call.point]: shown}


def verdict(said: Any, call: Call) -> Verdict:
    """Return what a program's answer means. Without `verdict`, an answer with a value says that it has changed."""
    if not isinstance(said, dict):
        raise Failure(f"it answered with {json.dumps(said)[:80]}: expected a JSON object")
    subject = "text" if call.point == "answer" else SUBJECTS[call.point]
    kind = said.get("verdict", "changed" if subject in said else "unchanged")
    if kind not in ("unchanged", "changed", "refuse", "answer", "error"):
        raise Failure(f"its verdict is {json.dumps(kind)[:80]}: expected unchanged, changed, refuse, answer or error")
    reason, noted = said.get("reason", ""), said.get("note") or {}
    if kind == "error":
        raise Failure(str(reason) or "it says that it has failed")
    key = "text" if kind == "answer" else subject
    if kind in ("changed", "answer") and key not in said:
        raise Failure(f"its verdict is {kind!r}, and there is no {key!r}")
    if not isinstance(noted, dict):
        raise Failure("its note is no JSON object")
    if isinstance(said.get("state"), str):
        call.state = said["state"].encode(errors="surrogateescape")
    return Verdict(kind, said.get(key) if kind in ("changed", "answer") else None, str(reason), noted)


def _verdict_of(ended: Ended, shown: Any, call: Call, *, text: bool) -> Verdict:
    if ended.status == REFUSED:
        return Verdict("refuse", reason=ended.stdout.decode(errors="replace").strip() or ended.last_words)
    if ended.status != 0:
        raise Failure(ended.last_words)
    if call.point in ("observe", "model") or not ended.stdout.strip():
        return NOTHING_SAID
    try:
        if text:
            return _replaced(ended.stdout.decode(), shown, call.point)
        said = json.loads(ended.stdout)
    except ValueError as error:
        raise Failure(f"its output is not {'UTF-8' if text else 'JSON'}: {error}") from error
    return verdict(said, call)


def _text(point: str, shown: Any) -> str:
    """Return the text that a program for plain text gets: the last turn of the user, or the answer."""
    return str(shown[_last(shown)]["content"] if point == "prompt" else shown.get("text", ""))


def _replaced(out: str, shown: Any, point: str) -> Verdict:
    was = _text(point, shown)
    if out.endswith("\n") and not was.endswith("\n"):  # most programs end their last line
        out = out[:-1]
    if out == was:
        return NOTHING_SAID
    if point == "answer":
        return Verdict("changed", out)
    at = _last(shown)
    return Verdict("changed", [*shown[:at], shown[at] | {"content": out}, *shown[at + 1 :]])


def _last(messages: list[dict[str, str]]) -> int:
    found = [at for at, message in enumerate(messages) if message["role"] in ("user", "prompt")]
    return found[-1] if found else len(messages) - 1


def _environment(name: str, call: Call) -> dict[str, str]:
    said = {"HOOK": name, "POINT": call.point, "REQUEST": call.id, "ACCOUNT": call.account, "MODEL": call.model,
            "CLIENT": call.client}  # fmt: skip
    return {f"INGLE_{key}": value.replace("\0", "") for key, value in said.items()}


class _Lines:
    """Handles the text of one answer by asking a program that stays."""

    def __init__(self, program: Persistent, name: str, call: Call) -> None:
        self.held = 0
        self._program = program
        self._call = call
        self._about = question(name, "", call)
        self._seq = 0

    def feed(self, text: str) -> str:
        return self._ask(text)

    def flush(self) -> str:
        return self._ask("", flush=True, last=self._call.last)

    def close(self) -> None:
        """The stream was broken off: the program may forget it too."""
        if not self._call.last and self._seq:
            self._ask("", flush=True, last=True)

    def _ask(self, text: str, *, flush: bool = False, last: bool = False) -> str:
        more = {"text": text, "seq": self._seq, "flush": flush, "last": last}
        self._seq += 1
        said = self._program.ask(self._about | more, self._call.deadline)
        if not isinstance(said, dict) or not isinstance(out := said.get("text", text), str):
            raise Failure("it answered without a text")
        if said.get("verdict") == "stop":
            raise Stop(str(said.get("reason", "")), out)
        self.held = said["held"] if type(said.get("held")) is int else 0
        return out
