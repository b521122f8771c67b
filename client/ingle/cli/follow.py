"""Follow an answer to its end on the terminal: what `ask` and `attach` have in common."""

from __future__ import annotations

import sys
from time import monotonic

from ingle.cli.output import StatusLine, is_terminal, note, paint, print_json, visible, write, write_aside
from ingle.errors import IngleError, Refused, from_failed
from ingle.line import ENDS, FAREWELL_S, Line
from ingle.wire.codec import Message
from ingle.wire.limits import FRAME_BYTES

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO, Any

TELLING = ("queued", "evicting")
"""Phases of which the text says all by itself: who waits, and for what."""
BAR = 20
"""Letters of a progress bar."""


class Follower:
    """Prints the messages of one stream."""

    def __init__(self, *, json: bool, stream: bool, verbose: bool, wherever: bool = False) -> None:
        """`wherever`: the stream begins where the daemon still has it, and who reads it is told when that is not
        its beginning.
        """
        self._wherever = wherever
        self._json = json
        self._stream = stream
        self._verbose = verbose
        self._status = StatusLine()
        self.hooks: list[Message] = []
        """What took part, once it has ended."""
        self._text: list[str] = []
        self._reasoning: list[str] = []

    def follow(self, line: Line, ref: int) -> int:
        """Print what comes, until the end. Raises what a `failed` message means: `main` prints that."""
        try:
            while True:
                message = line.next(ref)
                if message["t"] == "failed":
                    self._break_line()
                    self.hooks = message.get("hooks") or []
                    if self._verbose and not self._json:
                        note(_aside(map(hook_line, self.hooks)))
                    raise from_failed(message)
                if self._json and self._stream:
                    print_json(message, line=True)
                if message["t"] == "done":
                    self._end(message)
                    return 0
                self._show(message)
        finally:
            self._status.clear()

    def _show(self, message: Message) -> None:
        match message["t"]:
            case "progress":
                self._status.show(waiting_for(message))
            case "chunk":
                if self._wherever and message["o"] > 0:
                    self._status.clear()
                    note(f"(the first {message['o']} bytes are no longer held)\n")
                self._wherever = False
                text, reasoning = message.get("x", ""), message.get("r", "")
                self._reasoning.append(reasoning)
                if text:
                    self._text.append(text)
                if self._json:
                    return
                if reasoning and self._verbose:
                    self._status.clear()
                    write_aside(reasoning)
                if text and self._stream:
                    self._status.clear()
                    write(text)

    def _end(self, done: Message) -> None:
        self.hooks = done["hooks"]
        result = done.get("result") or {}
        text = result.get("text", "".join(self._text))
        if self._json:
            if not self._stream:
                whole = {"text": text, "reasoning": result.get("reasoning", "".join(self._reasoning))}
                print_json({key: value for key, value in (done | whole).items() if key not in ("t", "result")})
            return
        self._status.clear()
        if not self._stream or (text and not self._text):
            write(text)
            self._text = [text]
        self._break_line()
        if self._verbose:
            note(account_of(done))

    def _break_line(self) -> None:
        """The prompt of the shell, or an error, begins on a line of its own."""
        self._status.clear()
        if not self._json and self._text and not self._text[-1].endswith("\n"):
            write("\n")


def leave(line: Line, ref: int) -> None:
    """Cancel a request and wait a moment for its end, so that it has surely reached the daemon; then close the line."""
    until = monotonic() + FAREWELL_S
    try:
        line.stop(ref)
        while (left := until - monotonic()) > 0 and line.next(ref, left)["t"] not in ENDS:
            pass
    except IngleError:
        pass  # it will notice that we have gone
    finally:
        line.close(0)


def waiting_for(progress: Message, *, bar: bool = False) -> str:
    """Return what a request waits for, for people; `bar`: how far it is is drawn too."""
    phase, what = progress["phase"], progress.get("what")
    words: list[str] = [phase] if phase not in TELLING or not what else []
    if what:
        words.append(str(what))
    if progress.get("position"):
        words.append(f"({progress['position']} before you)")
    if (percent := progress.get("percent")) is not None:
        done = BAR * min(percent, 100) // 100
        words.append(f"[{'#' * done}{'-' * (BAR - done)}] {percent}%" if bar else f"{percent}%")
    left = ""
    if progress.get("eta_ms") is not None:
        eta = round(progress["eta_ms"] / 1000)
        left = f", about {eta}s left" if eta else ", less than 1s left"
    return f"{' '.join(words)}{left} ..."


def account_of(done: Message) -> str:
    """Return how an answer came about: model, tokens, times, hooks."""
    usage, ms, model = done["usage"], done["ms"], done["model"]
    seconds = max(ms["total"] - ms["queued"] - ms["load"] - ms["first"], 0.0) / 1000
    rate = f", {(usage['completion'] - 1) / seconds:.1f} tokens/s" if seconds > 0 and usage["completion"] > 1 else ""
    lines = [
        f"model   {model['name']}" + (f" {model['revision']}" if model.get("revision") else ""),
        f"finish  {done['finish']}" + (f" ({done['stop']!r})" if done.get("stop") else ""),
        f"tokens  {usage['prompt']} prompt ({usage['cached']} cached), {usage['completion']} answer{rate}",
        f"ms      {ms['queued']:.0f} queued, {ms['load']:.0f} load, {ms['first']:.0f} to first token,"
        f" {ms['total']:.0f} total",
        *map(hook_line, done["hooks"]),
    ]
    return _aside(lines)


def hook_line(hook: dict[str, Any]) -> str:
    """Return what one hook did, for people."""
    why = f": {hook['why']}" if hook.get("why") else ""
    noted = ", ".join(f"{key} {value}" for key, value in (hook.get("note") or {}).items())
    took = "" if hook.get("verdict") == "told" else f", {hook.get('us', 0)} us"
    said = f"{hook.get('verdict')}{took}" + (f" ({noted})" if noted else "")
    return f"hook    {hook.get('name')} at {hook.get('point')}: {said}{why}"


def _aside(lines: Iterable[str]) -> str:
    return "".join(paint(visible(text), "dim", sys.stderr) + "\n" for text in lines)


class Reading:
    """Reads what becomes one message, and no more than fits into one: an endless file has no end."""

    def __init__(self) -> None:
        self._left = FRAME_BYTES

    def piped_in(self) -> str:
        """Return what is piped into standard input, or nothing when that is a terminal or absent."""
        if sys.stdin is None or is_terminal(sys.stdin):
            return ""
        return self._read(sys.stdin.buffer, "standard input")

    def file(self, path: str) -> str:
        """Return the text of a file."""
        try:
            with open(path, "rb") as file:
                return self._read(file, path)
        except ValueError as error:  # a zero byte in the name
            raise OSError(None, str(error), path) from error

    def _read(self, file: IO[bytes], name: str) -> str:
        try:
            data = file.read(self._left + 1)
        except OSError as error:
            raise OSError(error.errno, error.strerror, name) from error
        if len(data) > self._left:
            text = (
                f"with {name} the prompt has more than {FRAME_BYTES} bytes, which is the most that a message may have"
            )
            raise Refused("too_large", text, "send less text")
        self._left -= len(data)
        return data.decode(errors="replace")
