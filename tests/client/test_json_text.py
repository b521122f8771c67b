"""JSON without importing `json` reads and writes what `json` would."""

import json
import subprocess
import sys
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle.cli import json_text

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
STATE = b"\0abc"
ODD = [
    b"",
    b" ",
    b"{",
    b'{"t":1,}',
    b'{"t":1} {"t":2}',
    b'"\xff"',
    b'"\n"',
    b'"\\ud800"',
    b"\xef\xbb\xbf1",
    "{}".encode("utf-16"),
    b" {} \r\n",
    b"\x0b1",
    "\u00a01".encode(),
    b"NaN",
    b"-Infinity",
    b"01",
    b"1e999",
    b"[" * 100_000,
]


def outcome(read: Any, line: bytes) -> Any:
    """Return a value as text, because NaN equals nothing, or what was said against the line."""
    try:
        return repr(read(line))
    except (ValueError, RecursionError) as error:
        return type(error), "" if isinstance(error, RecursionError) else str(error)


@given(VALUES)
def test_whatever_the_value_its_text_is_that_of_json(value: Any) -> None:
    assert json_text.written(value) == json.dumps(value, ensure_ascii=False)
    for ascii_only in (False, True):
        line = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
        assert outcome(json_text.read, line) == outcome(json.loads, line)


@given(st.binary(max_size=30) | VALUES.map(lambda value: json.dumps(value).encode()[:-1]))
def test_whatever_the_bytes_json_says_the_same_of_them(line: bytes) -> None:
    assert outcome(json_text.read, line) == outcome(json.loads, line)


@pytest.mark.parametrize("line", ODD, ids=lambda line: repr(line[:20]))
def test_of_odd_lines_too(line: bytes) -> None:
    assert outcome(json_text.read, line) == outcome(json.loads, line)


def test_bytes_become_base64() -> None:
    assert json_text.written({"state": STATE}) == f'{{"state": "{b64encode(STATE).decode()}"}}'
    with pytest.raises(TypeError, match="no form in JSON"):
        json_text.written(object())


def test_a_python_without_that_c_code_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "_scan", None)
    monkeypatch.setattr(json_text, "_encode", None)
    assert json_text.written([1, "é", b"a"]) == '[1, "é", "YQ=="]'
    assert json_text.read(b'{"t": "bye"}') == {"t": "bye"}


def test_the_bridge_starts_without_what_is_slow_to_import() -> None:
    program = (
        "import sys; sys.path[:] = sys.argv[1:]; from ingle.cli import rpc; from ingle.cli.json_text import *;"
        "written(read(b'{}')); print(*{'json', 're', 'typing', 'collections', 'msgpack'} & set(sys.modules))"
    )
    command = [sys.executable, "-I", "-S", "-c", program, *sys.path]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "\n"
