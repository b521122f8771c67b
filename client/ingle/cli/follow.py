"""Follow an answer to its end on the terminal: what `ask` and `attach` have in common."""

import sys
from time import monotonic
from typing import Any

from ingle.cli.output import StatusLine, is_terminal, paint, print_json, write
from ingle.errors import IngleError, from_failed
from ingle.line import Line
from ingle.wire.codec import Message

FAREWELL = 2.0
"""Seconds in which a cancelled request should have ended."""


class Follower:
    """Prints the messages of one stream."""

    def __init__(self, *, json: bool, stream: bool, verbose: bool) -> None:
        self._json = json
        self._stream = stream
        self._verbose = verbose
        self._status = StatusLine()
        self._text: list[str] = []
        self._reasoning: list[str] = []

    def follow(self, line: Line, ref: int) -> int:
        """Print what comes, until the end. Raises what a `failed` message means."""
        try:
            while True:
                message = line.next(ref)
                if self._json and self._stream:
                    print_json(message, line=True)
                if message["t"] == "done":
                    self._end(message)
                    return 0
                if message["t"] == "failed":
                    self._break_line()
                    raise from_failed(message)
                self._show(message)
        finally:
            self._status.clear()

    def _show(self, message: Message) -> None:
        match message["t"]:
            case "progress":
                self._status.show(waiting_for(message))
            case "chunk":
                text, reasoning = message.get("x", ""), message.get("r", "")
                self._reasoning.append(reasoning)
                if text:
                    self._text.append(text)
                if self._json:
                    return
                if reasoning and self._verbose:
                    self._status.clear()
                    sys.stderr.write(paint(reasoning, "dim", sys.stderr))
                    sys.stderr.flush()
                if text and self._stream:
                    self._status.clear()
                    write(text)

    def _end(self, done: Message) -> None:
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
            sys.stderr.write(account_of(done))

    def _break_line(self) -> None:
        """The prompt of the shell, or an error, begins on a line of its own."""
        self._status.clear()
        if not self._json and self._text and not self._text[-1].endswith("\n"):
            write("\n")


def leave(line: Line, ref: int) -> None:
    """Cancel a request and wait a moment for its end, so that it has surely reached the daemon."""
    until = monotonic() + FAREWELL
    try:
        line.stop(ref)
        while monotonic() < until and line.next(ref, FAREWELL)["t"] not in ("done", "failed"):
            pass
    except IngleError:
        pass  # it will notice that we have gone


def waiting_for(progress: Message) -> str:
    """Return what a request waits for, for people."""
    words: list[str] = [progress["phase"]]
    if progress.get("what"):
        words.append(str(progress["what"]))
    if progress.get("position") is not None:
        words.append(f"(place {progress['position']})")
    if progress.get("percent") is not None:
        words.append(f"{progress['percent']}%")
    if progress.get("eta_ms") is not None:
        words.append(f"about {progress['eta_ms'] / 1000:.0f}s")
    return paint(" ".join(words) + " ...", "dim", sys.stderr)


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
        *(f"hook    {_hook(hook)}" for hook in done["hooks"]),
    ]
    return "\n".join(paint(text, "dim", sys.stderr) for text in lines) + "\n"


def _hook(hook: dict[str, Any]) -> str:
    why = f": {hook['why']}" if hook.get("why") else ""
    return f"{hook.get('name')} at {hook.get('point')}: {hook.get('verdict')}, {hook.get('us', 0)} us{why}"


def piped_in() -> str:
    """Return what is piped into standard input, or nothing when that is a terminal or absent."""
    if sys.stdin is None or is_terminal(sys.stdin):
        return ""
    return sys.stdin.buffer.read().decode(errors="replace")
