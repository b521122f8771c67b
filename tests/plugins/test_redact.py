"""redact: nothing that it has found goes on, and all of it comes back, however the answer is cut and written."""

import time
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle.wire.limits import HOOK_STATE_BYTES
from ingle_plugins import redact
from ingle_plugins.redact import Options
from ingled.hooks import Answer, Call, Handler, Message, Verdict

TOKEN = "ghp_" + "x7Kp2mQ9vL4nR8tW3yB6cD1fG5hJ0sZaE2uM"  # in two pieces, for those who scan this repository
AWS = "AKIA" + "Q3EGRZ7XN2PLT5WV"
ORIGINALS = {
    "email": "anna.schmidt@firma.de",
    "phone": "+49 30 901820",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "ip": "93.184.216.34",
    "name": "Heinrich Müller",
    "secret": TOKEN,
}


def filtered(options: Options | None, *texts: str) -> tuple[list[str], Call, Verdict | None]:
    """Run the filter over user messages: their texts afterwards, the call with its state, and the verdict."""
    call = Call("prompt")
    messages = [Message(role="user", content=text) for text in texts]
    verdict = redact.ingled_prompt(messages, call, options or Options())
    value: list[Message] = verdict.value if verdict and verdict.kind == "changed" else messages
    return [message["content"] for message in value], call, verdict


def restored(call: Call, pieces: list[str]) -> str:
    """Stream an answer through the handler."""
    handler: Handler | None = redact.ingled_chunk(call)
    if handler is None:
        return "".join(pieces)
    return "".join([*map(handler.feed, pieces), handler.flush()])


@pytest.mark.parametrize("kind", ORIGINALS)
def test_each_kind_goes_and_comes_back(kind: str) -> None:
    original = ORIGINALS[kind]
    (text,), call, verdict = filtered(None, f"Please tell {original} about it.")
    assert text == f"Please tell [{kind.upper()}_1] about it."
    assert verdict is not None and verdict.note == {kind: 1}
    assert restored(call, [f"I told [{kind.upper()}_1]."]) == f"I told {original}."


@pytest.mark.parametrize("kind", ORIGINALS)
def test_each_kind_can_be_switched_off(kind: str) -> None:
    text = f"Please tell {ORIGINALS[kind]} about it."
    assert filtered(msgspec.structs.replace(Options(), **{kind: False}), text)[0] == [text]


def test_an_answer_cut_at_every_place_is_restored() -> None:
    prompt = "; ".join(ORIGINALS.values())
    (text,), call, _ = filtered(None, prompt)
    answer = f"Echo: {text}. [NOT_1] [EMAIL_9] [a](b) ["
    expected = f"Echo: {prompt}. [NOT_1] [EMAIL_9] [a](b) ["
    for place in range(len(answer) + 1):
        assert restored(call, [answer[:place], answer[place:]]) == expected
    assert restored(call, list(answer)) == expected


@pytest.mark.parametrize(
    "spelling",
    ["[email_1]", "[Email_1]", "[EMAIL 1]", "[EMAIL-1]", "[EMAIL1]", r"[EMAIL\_1]", "[ EMAIL_1 ]", r"\[EMAIL\_1\]"],
)
def test_placeholders_come_back_however_the_model_writes_them(spelling: str) -> None:
    _, call, _ = filtered(None, "Mail bob@corp.de please")
    assert restored(call, list(f"<{spelling}>")) == "<bob@corp.de>"


def test_one_original_has_one_placeholder_over_all_messages() -> None:
    texts, _, verdict = filtered(None, "From bob@corp.de to eve@corp.de", "bob@corp.de again")
    assert texts == ["From [EMAIL_1] to [EMAIL_2]", "[EMAIL_1] again"]
    assert verdict is not None and verdict.note == {"email": 3}


def test_a_placeholder_that_the_user_wrote_stays_what_it_is() -> None:
    texts, call, _ = filtered(None, "What does [EMAIL_1] mean? And [email 2]? Ask bob@corp.de")
    assert texts == ["What does [EMAIL_1] mean? And [email 2]? Ask [EMAIL_3]"]
    assert restored(call, ["[EMAIL_1], [email 2] and [EMAIL_3]"]) == "[EMAIL_1], [email 2] and bob@corp.de"


def test_a_secret_goes_wherever_it_stands_once_more() -> None:
    value = "q8Rr-vv3Kd-plain-77"
    texts, _, _ = filtered(None, f'api_key = "{value}"', f"is {value} right, or x{value}x?")
    assert value not in "".join(texts)


def test_what_is_allowed_stays() -> None:
    options = Options(allow=["Info@Firma.de"], allow_patterns=[r".*@example\.(com|org)"])
    texts, _, verdict = filtered(options, "info@firma.de, x@example.com, bob@corp.de")
    assert texts == ["info@firma.de, x@example.com, [EMAIL_1]"]
    assert verdict is not None and verdict.note == {"email": 1}


def test_patterns_of_the_configuration_come_first() -> None:
    options = Options(patterns={"ticket": r"\bTICKET-[0-9]+\b", "host": r"host=(\S+)"})
    texts, call, _ = filtered(options, f"TICKET-17: host=db.intern {TOKEN}")
    assert texts == ["[TICKET_1]: host=[HOST_1] [SECRET_1]"]
    assert restored(call, ["[HOST_1]"]) == "db.intern"


def test_without_reversible_nothing_is_kept() -> None:
    texts, call, _ = filtered(Options(reversible=False), "bob@corp.de")
    assert (texts, call.state) == (["[EMAIL_1]"], None)
    assert redact.ingled_chunk(call) is None


def test_prompts_without_anything_are_left_alone() -> None:
    assert filtered(None, "How do I sort a list in Python 3.11? See 10.0.0.1, ::1 and commit 3f9a2c1.")[2] is None


def test_more_than_a_request_can_carry_is_refused_with_a_reason() -> None:
    text = " ".join(f"user{number}@some-company-with-a-long-name.example" for number in range(6000))
    _, call, verdict = filtered(None, text)
    assert verdict is not None and verdict.kind == "refuse" and call.state is None
    assert "6000 values" in verdict.reason and "reversible = false" in verdict.reason and "@" not in verdict.reason
    assert filtered(Options(reversible=False), text)[2] is not None


def test_what_is_kept_fits_the_limit_and_holds_the_map_only() -> None:
    _, call, _ = filtered(None, "bob@corp.de")
    assert call.state is not None and len(call.state) < HOOK_STATE_BYTES
    assert msgpack.unpackb(call.state) == {"[EMAIL_1]": "bob@corp.de"}


def test_a_whole_answer_is_restored_only_where_it_was_not_streamed() -> None:
    _, call, _ = filtered(None, "bob@corp.de")
    answer = Answer(text="to [email_1]")
    assert redact.ingled_answer(answer, call) is None
    call.stream = False
    verdict = redact.ingled_answer(answer, call)
    assert verdict is not None and (verdict.value, verdict.note) == ("to bob@corp.de", {})
    assert redact.ingled_answer(Answer(text="nothing"), call) is None


def test_a_whole_private_key_is_one_secret() -> None:
    body = "\n".join(["MIIEpAIBAAKCAQEAq8Rrvv3Kdplain77ZxCvBnMqWeRtYuIoPaSdFgHjKlQwErTy"] * 12)
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    texts, call, _ = filtered(None, f"My key is\n{key}\nwhy?")
    assert texts == ["My key is\n[SECRET_1]\nwhy?"]
    assert restored(call, ["[SECRET_1]"]) == key


def test_a_password_within_an_address_goes() -> None:
    assert filtered(None, "postgres://bob:hunter2xyz@database/x")[0] == ["postgres://bob:[SECRET_1]@database/x"]
    # Together with the host's name it looks like an address of mail as well: then both go.
    assert filtered(None, "postgres://bob:hunter2xyz@db.intern/x")[0] == ["postgres://bob:[SECRET_1]/x"]


def test_long_texts_are_looked_at_whole() -> None:
    filler = "lorem ipsum dolor sit amet " * 7500
    texts, _, _ = filtered(None, f"{filler}{TOKEN} {filler}{AWS} {filler}")
    assert texts == [f"{filler}[SECRET_1] {filler}[SECRET_2] {filler}"]


FILLERS = st.text(st.sampled_from("ab z.,:;()[]\n\"'=_-/1é"), max_size=12)


@given(
    kinds=st.lists(st.sampled_from(sorted(ORIGINALS)), min_size=1, max_size=6),
    fillers=st.lists(FILLERS, min_size=7, max_size=7),
    cuts=st.lists(st.integers(0, 300), max_size=6),
)
def test_nothing_leaks_and_everything_returns(kinds: list[str], fillers: list[str], cuts: list[int]) -> None:
    pairs = zip(kinds, fillers, strict=False)
    parts = [f" {ORIGINALS[kind]}{' ' + filler if filler else ''}" for kind, filler in pairs]
    prompt = "".join([fillers[-1], *parts])
    (text,), call, verdict = filtered(None, prompt)
    for kind in kinds:
        assert ORIGINALS[kind] not in text
        assert verdict is not None and ORIGINALS[kind] not in repr((verdict.note, verdict.reason))
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[places[number] : places[number + 1]] for number in range(len(places) - 1)]
    assert restored(call, pieces) == prompt


HOSTILE = (
    "a" * 100_000,
    "a@" * 50_000,
    "a." * 50_000 + "@",
    "1 " * 50_000,
    "+1-" * 30_000,
    "key = " * 20_000,
    "-----BEGIN PRIVATE KEY-----" + "A" * 100_000,
    "eyJ" + "a." * 50_000,
    "Anna " * 20_000,
    "von der " * 12_000,
    ":" * 100_000,
    "curl -u " * 10_000,
    "[" * 100_000,
)


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:8] for text in HOSTILE])
def test_hostile_texts_take_time_in_proportion_to_their_length(text: str) -> None:
    filtered(None, "warm up key = 1 Anna Schmidt +49 30 901820")
    short = timed(text[: len(text) // 8])
    # A quadratic algorithm would take 64 times as long; a backtracking one would not end. The rest is a busy machine.
    assert timed(text) < max(short * 32, 5.0)


def timed(text: str) -> float:
    """Return the processor time of one filtering."""
    start = time.process_time()
    filtered(Options(reversible=False), text)
    return time.process_time() - start


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"patterns": {"x(": "a"}}, "2 to 16 small letters"),
        ({"patterns": {"email": "a"}}, "a kind of its own"),
        ({"patterns": {"ticket": "(a"}}, r"the pattern '\(a': missing \)"),
        ({"patterns": {"ticket": "(?=a)b"}}, r"the pattern '\(\?=a\)b': invalid perl operator"),
        ({"patterns": {"ticket": "a*"}}, "empty text"),
        ({"allow_patterns": ["["]}, r"the pattern '\[': missing \]"),
        ({"entropy": 9}, "between 0"),
        ({"regions": ["DE", "Germany"]}, "Germany"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        redact.check(msgspec.convert(options, Options))


def test_the_default_options_work_and_unknown_ones_do_not() -> None:
    redact.check(Options())
    with pytest.raises(msgspec.ValidationError, match="emails"):
        msgspec.convert({"emails": True}, Options)


def test_it_says_that_it_is_a_matter_of_security() -> None:
    assert (redact.HOOK.on_error, redact.HOOK.security) == ("refuse", True)
    assert redact.HOOK.order < 100
