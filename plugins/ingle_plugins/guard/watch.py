"""Follows an answer as it is written, finds the commands in it, and acts before they are given out.

What it decides hangs on the text alone, never on how the text was cut into pieces: it judges at ends of lines, and
where a statement has grown by as much as it may hold back. Only where text had to be given out because it was held for
too long, some of a dangerous line can be out before its end is known; the verdict stays the same.
"""

from collections.abc import Callable
from typing import Literal

from ingled.hooks import Stop

from ingle_plugins.guard.danger import Finding
from ingle_plugins.guard.grammar import goes_on
from ingle_plugins.guard.passages import (
    CONSOLE,
    Fence,
    command_in,
    opened_by,
    prose_begins,
    reads_as_prose,
    without_prompt,
)
from ingle_plugins.guard.shell import Shell

Action = Literal["refuse", "annotate", "flag"]
LONGEST = 1 << 16
"""Characters of one statement; what is longer is judged in parts."""


class Watch:
    """A chunk handler for one answer."""

    def __init__(
        self,
        shell: Shell,
        action: Action,
        *,
        commands: bool = False,
        wanted: "Callable[[Finding], bool]" = lambda finding: True,
        forbidden: "Callable[[str], str | None] | None" = None,
        limit: int = 4096,
    ) -> None:
        self.findings: list[Finding] = []
        self._shell = shell
        self._action = action
        self._commands = commands
        """The answer is a command, whatever it looks like: a shell has asked."""
        self._wanted = wanted
        self._forbidden = forbidden
        """Says which rule of the policy a line breaks."""
        self._limit = limit
        self._statement = ""
        """Whole lines of a statement that is not complete."""
        self._code = ""
        """The same as a shell would read it."""
        self._line = ""
        self._given = 0
        """Characters of statement and line that are out already."""
        self._free = False
        """The rest of this line may pass."""
        self._overdue = False
        self._next_look = 0
        self._fence: Fence | None = None
        self._prompted = False
        self._told: list[Finding] = []
        """What has been said of the statement that is open."""
        self._out: list[str] = []
        self._at_start = True
        """What is out ends with a whole line."""

    @property
    def held(self) -> int:
        """Return how many characters of the input are in no output yet."""
        return len(self._statement) + len(self._line) - self._given

    def feed(self, text: str) -> str:
        """Take more text; return what may go out. Raises Stop."""
        start = 0
        while (end := text.find("\n", start)) >= 0:
            self._take(text[start : end + 1])
            start = end + 1
        self._take(text[start:])
        return self._taken()

    def flush(self) -> str:
        """Return all that is held. Raises Stop."""
        if self.held:
            self._judge_open()
            self._release()
        return self._taken()

    # ---- lines

    def _take(self, part: str) -> None:
        while part:
            length = len(self._statement) + len(self._line)
            room = self._limit - length % self._limit
            piece, part = part[:room], part[room:]
            self._line += piece
            if self._line.endswith("\n"):
                self._end_of_line()
            elif (length + len(piece)) % self._limit == 0:
                self._overdue = True
                self._judge_open()
                self._release()
            elif self._passes():
                self._release()

    def _passes(self) -> bool:
        """Return whether the open line can go out though its end is not known."""
        if not self._free and self._forbidden is None and not self._statement:
            if self._fence is not None:
                self._free = not self._fence.perhaps
            elif not self._commands:
                self._free = bool(prose_begins(self._line)) and opened_by(self._line) is None
        return self._free

    def _end_of_line(self) -> None:
        line = self._line
        if self._forbidden is not None and (rule := self._forbidden(line)):
            self._stop(f"the answer breaks the rule {rule!r}")
        if self._fence is not None and self._fence.closed_by(line):
            self._complete()
            self._fence = None
        elif self._fence is None and (fence := opened_by(line)) is not None:
            self._complete()
            self._fence, self._prompted = fence, False
        else:
            self._code_line(line)
            return
        self._release()
        self._reset()

    def _code_line(self, line: str) -> None:
        code = self._code_of(line)
        self._statement += line
        self._line = ""
        self._free = False
        self._code += code
        if self._is_complete() or len(self._code) > LONGEST or self._overdue:
            self._complete()
            self._release()
            self._reset()

    def _code_of(self, line: str) -> str:
        """Return what of a line a shell is to read."""
        if self._code.endswith("\\\n"):
            return line
        if self._fence is not None:
            if not self._fence.perhaps:
                return ""
            code, prompt = without_prompt(line, self._fence)
            self._prompted = self._prompted or prompt
            printed = self._fence.language in CONSOLE and self._prompted and not prompt and not self._code
            return "" if printed else code
        if self._commands:
            return line
        if not self._code and (prose_begins(line) or reads_as_prose(line)):
            return ""
        return command_in(line) + "\n"

    def _is_complete(self) -> bool:
        """Return whether the statement ends here, as far as the grammar can tell."""
        code = self._code.rstrip()
        if not code:
            return True
        if self._code.endswith("\\\n"):
            return False
        sure = self._commands if self._fence is None else self._fence.shell
        if not sure and "<<" not in code:  # whatever this is, a quote in it may never be closed
            return True
        if len(self._code) < self._next_look:
            return False
        self._next_look = len(self._code) * 9 // 8 if len(self._code) > 1024 else 0
        return not goes_on(code)

    def _reset(self) -> None:
        self._statement = self._code = self._line = ""
        self._given = self._next_look = 0
        self._free = self._overdue = False
        self._told = []

    # ---- judging

    def _complete(self) -> None:
        """Judge the statement, which is complete, and learn from it."""
        if self._code.strip():
            self._act(self._shell.run(self._code))

    def _judge_open(self) -> None:
        """Judge what there is of a statement without learning from it."""
        if self._free:
            return
        if self._forbidden is not None and (rule := self._forbidden(self._line)):
            self._stop(f"the answer breaks the rule {rule!r}")
        code = self._code + (self._code_of(self._line) if self._line and opened_by(self._line) is None else "")
        if code.strip():
            self._act(self._shell.copy().run(code))

    def _act(self, findings: list[Finding]) -> None:
        for finding in findings:
            if not self._wanted(finding) or finding in self._told:
                continue
            self._told.append(finding)
            if finding not in self.findings:
                self.findings.append(finding)
            if self._action == "refuse":
                self._stop(f"a command in the answer {_plain(finding.why)}")
            if self._action == "annotate":
                self._put(f"# guard: careful, this {_plain(finding.why)}\n", own_line=True)

    def _stop(self, reason: str) -> None:
        fence = f"{self._fence.mark}\n" if self._fence is not None else ""
        self._put(f"# guard: stopped here: {reason}\n{fence}", own_line=True)
        self._given = len(self._statement) + len(self._line)
        raise Stop(reason, self._taken())

    # ---- output

    def _release(self) -> None:
        self._put((self._statement + self._line)[self._given :])
        self._given = len(self._statement) + len(self._line)

    def _put(self, text: str, *, own_line: bool = False) -> None:
        if own_line and not self._at_start:
            text = "\n" + text
        if text:
            self._out.append(text)
            self._at_start = text.endswith("\n")

    def _taken(self) -> str:
        out, self._out = "".join(self._out), []
        return out


def _plain(text: str) -> str:
    """Return a text for one line of a comment."""
    return "".join(char if char.isprintable() else "?" for char in text)[:200]
