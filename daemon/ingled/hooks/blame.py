"""Errors of plugins in one line: what it says, and where in the plugin's own files."""

import ast
from pathlib import Path
from types import ModuleType, TracebackType

REASON = 4096
"""Longest reason, in characters."""
OURS = str(Path(__file__).parent)


class Unfit(Exception):
    """A plugin cannot run; the text says where and why, in one line."""


def at_load(error: BaseException, home: str) -> str:
    """Return an error as `FILE:LINE: Type: text`."""
    if isinstance(error, SyntaxError) and error.filename and error.filename.startswith(home):
        return one_line(f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}")
    place = _place(error.__traceback__, home)
    return one_line(f"{place}: {_says(error)}" if place else _says(error))


def at_call(error: BaseException, home: str) -> str:
    """Return an error as `Type: text (FILE:LINE)`."""
    place = _place(error.__traceback__, home)
    return one_line(f"{_says(error)} ({place})" if place else _says(error))


def one_line(text: str) -> str:
    """Return a text that fits into a reason: one line, not too long, and with nothing that cannot be encoded."""
    text = " ".join(text[: 2 * REASON].split())
    return text.encode(errors="replace").decode()[:REASON]


def line_of(module: ModuleType, name: str) -> str:
    """Return `FILE:LINE` of where a module gives a value to a name; line 1 where that cannot be seen."""
    file = str(module.__file__)
    try:
        body = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return f"{file}:1"
    for node in ast.walk(ast.Module(body, [])):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if node.name == name:
                return f"{file}:{node.lineno}"
            case ast.Name(id=found, ctx=ast.Store()) if found == name:
                return f"{file}:{node.lineno}"
            case ast.alias() if (node.asname or node.name) == name:
                return f"{file}:{node.lineno}"
    return f"{file}:1"


def _says(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _place(trace: TracebackType | None, home: str) -> str:
    """Return file and line of the innermost frame that is the plugin's own; without one, of the innermost not ours."""
    own = other = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if home and file.startswith(home):
            own = f"{file}:{trace.tb_lineno}"
        elif not file.startswith((OURS, "<frozen")) and "/pluggy/" not in file and "/importlib/" not in file:
            other = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return own or other
