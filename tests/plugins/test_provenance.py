"""Records of provenance: what the plugin writes, `ingle verify` understands; what somebody changed, it notices."""

import io
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle.cli import main
from ingle.provenance import Outcome, WrongRecord, public_key, read, verify
from ingle.wire.provenance import canonical, digest, plain_json, with_line
from ingle_plugins import provenance
from ingle_plugins.provenance import Options
from ingle_plugins.provenance.__main__ import main as command
from ingle_plugins.provenance.keys import WrongKey, load, make, sign
from ingled.hooks import Answer, Call

TEXT = "Once upon a tïme,  \nthere was a fire.\n"
ANSWER: Answer = {
    "text": TEXT,
    "finish": "stop",
    "model": {"name": "ember", "revision": "b968", "license": "Apache-2.0", "digest": None},
    "options": {"temperature": 1.0, "top_p": 0.9, "seed": 7, "stop": ["\n\n"], "min_p": None},
    "usage": {"prompt": 3, "cached": 0, "completion": 9},
    "hooks": [{"name": "redact", "version": "1", "point": "prompt", "verdict": "changed", "us": 12, "note": {"n": 2}}],
}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make(str(tmp_path / "key"))
    return tmp_path / "key"


def record(options: Options | None = None, *, stream: bool = False, **answer: Any) -> dict[str, Any]:
    call = Call("answer", id="r1", model="ember", stream=stream)
    verdict = provenance.ingled_answer({**ANSWER, **answer}, call, options or Options())  # type: ignore[typeddict-item]
    found: dict[str, Any] = verdict.note["provenance"]
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


# ---------------------------------------------------------------- the form of a text


@pytest.mark.parametrize(
    "same",
    [
        TEXT.strip(),
        "\n\n" + TEXT + "\n\n\n",
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r"),
        TEXT.replace("tïme,  ", "tïme,"),
        unicodedata.normalize("NFD", TEXT),
    ],
    ids=["no end", "around", "crlf", "cr", "blanks", "nfd"],
)
def test_what_a_mail_program_does_to_a_text_does_not_matter(same: str) -> None:
    assert digest(same) == digest(TEXT)


@pytest.mark.parametrize(
    "other", [TEXT.replace("fire", "Fire"), TEXT[1:], TEXT + ".", TEXT.replace("\n", " "), " " + TEXT]
)
def test_any_word_does(other: str) -> None:
    assert digest(other) != digest(TEXT)


@given(st.text())
def test_the_form_is_stable(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


# ---------------------------------------------------------------- what is signed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, False, None]}, '{"a":[true,false,null],"b":1}'),
        ({"\u20ac": 1, "\ufb33": 2, "\U0001f600": 3, "\r": 4}, '{"\\r":4,"\u20ac":1,"\U0001f600":3,"\ufb33":2}'),
        ([1.0, -0.0, 0.7, 1e21, 1e-7, 1.5e-9, 1e-5], "[1,0,0.7,1e+21,1e-7,1.5e-9,0.00001]"),
        ([123456789012345680000.0, 1e300], "[123456789012345680000,1e+300]"),
        ([333333333.33333329, 1e30, 4.50, 2e-3, 1e-27], "[333333333.3333333,1e+30,4.5,0.002,1e-27]"),
    ],
    ids=["plain", "keys", "small", "large", "rfc"],
)
def test_json_is_written_as_rfc_8785_has_it(value: Any, text: str) -> None:
    assert plain_json(value) == text


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_numbers_are_those_of_javascript() -> None:
    numbers = [s * m * 10.0**e for e in range(-30, 30) for m in (1.0, 1.5, 3.14159, 9.999999999) for s in (1, -1)]
    done = subprocess.run(
        ["node", "-e", "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0,'utf8'))))"],
        input=json.dumps(numbers), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert plain_json(numbers) == done.stdout


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1 << 60, b"x", {1: 2}, object()], ids=str)
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a record cannot hold"):
        plain_json({"a": value})


# ---------------------------------------------------------------- records


def test_a_record_says_who_wrote_what_and_how() -> None:
    made = record()
    assert made["model"] == {"name": "ember", "revision": "b968", "license": "Apache-2.0"}
    assert made["options"] == {"temperature": 1.0, "top_p": 0.9, "seed": 7, "stop": ["\n\n"]}
    assert made["hooks"] == [{"name": "redact", "version": "1", "point": "prompt", "verdict": "changed"}]
    assert made["text"] == {"sha256": digest(TEXT), "form": "nfc-lf-trim"}
    assert made["source"].endswith("/trainedAlgorithmicMedia")
    assert (made["request"], made["finish"], made["v"]) == ("r1", "stop", 1)
    assert made["time"].endswith("Z") and "signature" not in made
    assert "request" not in record(Options(request=False))


def test_a_signed_record_proves_the_text(key: Path) -> None:
    made = record(Options(key=str(key)))
    outcome = verify(TEXT, made)
    assert (outcome.good, outcome.signature, outcome.key) == (True, "good", load(str(key)).public)
    assert verify(TEXT, made, outcome.key).good
    assert not verify(TEXT + "!", made).good
    other = make(str(key) + "2")
    assert verify(TEXT, made, other).signature == "other_key"


@pytest.mark.parametrize("field", ["model", "options", "time", "hooks", "finish", "request", "source", "text", "key"])
def test_no_field_of_a_signed_record_can_be_changed(key: Path, field: str) -> None:
    made = record(Options(key=str(key)))
    forged = {
        "text": {**made["text"], "sha256": digest("x")},
        "key": make(str(key) + "2"),
    }.get(field, "forged")
    assert verify(TEXT, {**made, field: forged}).signature == "bad"
    if field != "text":
        assert verify(TEXT, {name: value for name, value in made.items() if name != field}).signature == "bad"


@pytest.mark.parametrize("signature", ["", "AAAA", "*", "A" * 86, "ä", 7, None])
def test_a_wrong_signature_is_bad_whatever_it_is(key: Path, signature: Any) -> None:
    assert verify(TEXT, {**record(Options(key=str(key))), "signature": signature}).signature == "bad"


def test_a_record_without_signature_is_not_by_a_key_that_is_asked_for(key: Path) -> None:
    made = record()
    assert verify(TEXT, made) == Outcome(True, "none", None, "none", made)
    assert not verify(TEXT, made, load(str(key)).public).good


def test_tools_that_rewrite_json_do_not_break_a_signature(key: Path) -> None:
    made = record(Options(key=str(key)))
    made["options"]["temperature"] = 1
    assert verify(TEXT, dict(reversed(made.items()))).signature == "good"


@pytest.mark.parametrize("wrong", [{}, {"v": 2}, {"v": 1, "text": "x"}, {"v": 1, "text": {"form": "other"}}], ids=str)
def test_another_record_is_not_guessed_at(wrong: dict[str, Any]) -> None:
    with pytest.raises(WrongRecord, match="version 1"):
        verify(TEXT, wrong)


@given(
    st.text(), st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans())
)
def test_any_text_and_any_options_can_be_verified(text: str, options: dict[str, Any]) -> None:
    call = Call("answer", stream=False)
    made = provenance.ingled_answer({"text": text, "options": options}, call, Options()).note["provenance"]
    assert verify(text, json.loads(json.dumps(made))).unchanged


# ---------------------------------------------------------------- the visible line


def test_a_whole_answer_gets_a_line_and_the_record_covers_it() -> None:
    options = Options(line="Written by {model}, {date}.")
    verdict = provenance.ingled_answer(ANSWER, Call("answer", stream=False), options)
    assert verdict.kind == "changed"
    assert verdict.value.startswith(f"{TEXT}\nWritten by ember, 20")
    made = verdict.note["provenance"]
    assert verify(verdict.value, made)[0::3] == (True, "there")
    assert verify(TEXT, made)[0::3] == (True, "missing")
    assert not verify(TEXT.replace("fire", "ice"), made).unchanged


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n"])
@given(cuts=st.lists(st.integers(0, 40)))
def test_a_streamed_answer_ends_in_the_line_however_it_is_cut(end: str, cuts: list[int]) -> None:
    text = TEXT.rstrip("\n") + end
    options = Options(line="By {model}")
    call = Call("chunk", model="ember")
    handler = provenance.ingled_chunk(call, options)
    assert handler is not None
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    out = "".join(handler.feed(text[a:b]) for a, b in pairwise(places))
    assert (out, handler.held) == (text, 0)
    out += handler.flush()
    assert out == with_line(text, "By ember")
    assert handler.flush() == ""
    made = provenance.ingled_answer({"text": out}, Call("answer", state=call.state), options).note["provenance"]
    assert made["line"] == "By ember"
    assert verify(out, made)[0::3] == (True, "there")


def test_no_text_no_line() -> None:
    options = Options(line="x")
    handler = provenance.ingled_chunk(Call("chunk"), options)
    assert handler is not None and handler.flush() == ""
    assert provenance.ingled_answer({"text": ""}, Call("answer", stream=False), options).kind == "unchanged"
    assert provenance.ingled_chunk(Call("chunk"), Options()) is None


# ---------------------------------------------------------------- keys


def test_a_key_is_made_private_and_never_over_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        assert command(["keygen", str(path)]) == 0
    finally:
        os.umask(before)
    public = capsys.readouterr().out.strip()
    assert (path.stat().st_mode & 0o777, (tmp_path / "key.pub").stat().st_mode & 0o777) == (0o600, 0o644)
    assert public_key((tmp_path / "key.pub").read_bytes()) == public == load(str(path)).public
    assert command(["public", str(path)]) == 0 and capsys.readouterr().out.strip() == public
    assert command(["keygen", str(path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert (command([]), command(["--help"])) == (2, 0)


def test_a_key_from_systemd_may_have_the_bit_of_its_access_list(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key.chmod(0o440)
    with pytest.raises(WrongKey, match="others may read it"):
        load(str(key))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(key.parent))
    assert load(str(key)).public
    key.chmod(0o444)
    with pytest.raises(WrongKey, match="others may read it"):
        load(str(key))


def test_a_key_that_others_can_read_is_refused(key: Path) -> None:
    key.chmod(0o640)
    with pytest.raises(ValueError, match=r"key: .*: others may read it \(mode 0640\); chmod 600"):
        provenance.check(Options(key=str(key)))


def test_nor_one_that_is_none(key: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(key)
    (tmp_path / "text").write_text("secret things")
    (tmp_path / "text").chmod(0o600)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, said in (("link", "symbolic"), ("text", "no private key"), ("pipe", "no file"), ("none", "No such file")):
        with pytest.raises(WrongKey, match=said) as failed:
            load(str(tmp_path / name))
        assert "secret things" not in str(failed.value)
    with pytest.raises(WrongKey, match="no absolute path"):
        load("key")
    provenance.check(Options(key=str(key)))


def test_a_key_shows_nothing_of_itself(key: Path) -> None:
    secret = key.read_text().splitlines()[1]
    loaded = load(str(key))
    assert secret not in repr(loaded) and secret not in json.dumps(sign({"v": 1}, loaded))


def test_a_new_key_in_the_file_is_used_from_then_on(key: Path) -> None:
    old = load(str(key)).public
    key.unlink()
    (key.parent / "key.pub").unlink()
    assert make(str(key)) == load(str(key)).public != old


@pytest.mark.parametrize("line", ["{nobody}", "{", "{model.x}", "{0}", "a\nb"])
def test_a_line_that_cannot_be_made_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="line: "):
        provenance.check(Options(line=line))


# ---------------------------------------------------------------- ingle verify


def said(made: dict[str, Any], text: str = TEXT) -> dict[str, Any]:
    """What `ingle ask --json --no-stream` prints."""
    hooks = [{"name": "provenance", "point": "answer", "verdict": "unchanged", "note": {"provenance": made}}]
    return {"t": "done", "id": "r1", "model": {"name": "ember"}, "hooks": hooks, "result": {"text": text}}


def streamed(made: dict[str, Any]) -> str:
    """What `ingle ask --json` prints."""
    chunks = [{"t": "accepted", "id": "r1"}, *({"t": "chunk", "id": "r1", "o": 0, "x": char} for char in TEXT)]
    end = {key: value for key, value in said(made).items() if key != "result"}
    return "".join(json.dumps(message) + "\n" for message in [*chunks, end])


def test_text_and_record_are_found_in_what_ask_prints() -> None:
    made = record()
    assert read(json.dumps(said(made), indent=2)) == (TEXT, made)
    assert read(streamed(made)) == (TEXT, made)
    assert read(json.dumps(made)) == (None, made)
    assert read(TEXT) == (None, None)
    assert read("[1, 2]") == (None, None)


def test_verify_says_who_wrote_it(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = record(Options(key=str(key)))
    (tmp_path / "a.json").write_text(streamed(made))
    (tmp_path / "text").write_text(TEXT + "\n")
    (tmp_path / "record").write_text(json.dumps(made))
    public = ["--key", str(key) + ".pub"]
    for argv in (["a.json"], ["text", "--record", "a.json"], ["text", "--record", "record", *public]):
        words = [str(tmp_path / word) if (tmp_path / word).exists() else word for word in argv]
        assert main(["verify", *words]) == 0
        out = capsys.readouterr().out
        assert out.startswith("unchanged\nmodel      ember (revision b968, license Apache-2.0)\ntime       20")
        assert f"signature  good, by {made['key']}" in out
    assert main(["verify", "--json", str(tmp_path / "a.json")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["good"], told["unchanged"], told["signature"], told["model"]["name"]) == (True, True, "good", "ember")


def test_verify_fails_where_something_was_changed(
    key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = record(Options(key=str(key)))
    (tmp_path / "text").write_text(TEXT)
    (tmp_path / "key2").write_text(make(str(tmp_path / "other")))
    for change, argv, out in (
        ({"text": {"sha256": "0", "form": "nfc-lf-trim"}}, [], "CHANGED"),
        ({"model": {"name": "gpt"}}, [], "WRONG"),
        ({}, ["--key", str(tmp_path / "key2")], "NOT BY THE GIVEN KEY"),
    ):
        (tmp_path / "record").write_text(json.dumps({**made, **change}))
        assert main(["verify", str(tmp_path / "text"), "--record", str(tmp_path / "record"), *argv]) == 1
        assert out in capsys.readouterr().out


def test_verify_explains_what_it_lacks(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text(TEXT)
    (tmp_path / "record").write_text(json.dumps(record()))
    for argv, error in (
        ([str(tmp_path / "text")], "no provenance record is in it"),
        ([str(tmp_path / "record")], "only the record is in it"),
        ([str(tmp_path / "none")], "No such file or directory"),
        ([str(tmp_path)], "Is a directory"),
        (["a\0b"], "null byte"),
        ([str(tmp_path / "text"), "--record", str(tmp_path / "record"), "--key", str(tmp_path / "text")], "neither"),
        ([], "FILE is missing"),
    ):
        assert main(["verify", *argv]) == 2
        assert error in capsys.readouterr().err


def test_verify_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(streamed(record()).encode())))
    assert main(["verify", "-"]) == 0
    assert "none: anybody can have written" in capsys.readouterr().out


def test_what_a_record_says_does_not_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = {**record(), "model": {"name": "\x1b[31m", "revision": "\u202e"}, "time": "\x9b2J"}
    (tmp_path / "a.json").write_text(json.dumps(said(made)))
    assert main(["verify", str(tmp_path / "a.json")]) == 0
    assert not {"\x1b", "\x9b", "\u202e"} & {*capsys.readouterr().out}


def test_without_the_library_a_signed_record_is_no_success(key: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(streamed(record(Options(key=str(key)))))
    program = "import sys; sys.modules['cryptography'] = None; from ingle.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, "verify", str(tmp_path / "a.json")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs the package cryptography\nhint: pip install cryptography" in done.stderr
    (tmp_path / "a.json").write_text(streamed(record()))
    done = subprocess.run([sys.executable, "-c", program, "verify", str(tmp_path / "a.json")], capture_output=True)
    assert done.returncode == 0
