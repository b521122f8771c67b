"""A rewriter and a dictionary give out the same whatever pieces the text comes in."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingled.hooks import Dictionary, Handler, Rewriter

PATTERNS = (
    (r"\bab\b", "<word>"),
    (r"\Bab\B", "<within>"),
    (r"a{1,3}", r"(\g<0>)"),
    (r"a{1,3}?b", "-"),
    (r"(?<=a)b", "B"),
    (r"(?<!ab)c{1,2}", "C"),
    (r"a(?=b c)", "A"),
    (r"(?:a|ab)(?:c|bcd)?", r"[\g<0>]"),
    (r"(?i)\[(a|b)_(\d{1,3})\]", r"{\2\1}"),
    (r"(a|b)\1", r"\1"),
    (r"(?:a(?!b)){2}", "!"),
    (r"(?:a(?=(b)))(?(1)b|c)", r"<\1>"),
    (r"[^\W\d]{2,4}_[0-9]?", "w"),
    (r"(?i:A)b", "i"),
    (r"(?s:.)\n", "n"),
    (r"a\s{0,3}b", "_"),
    (r"\d{2}|b", "d"),
    (r"(?:(?<=\b)a){1,2}?b{1,2}", "s"),
)
ALPHABET = "aabbccAB_ []1 2\n.é"
TEXTS = st.text(st.sampled_from(ALPHABET), max_size=24)
KEYS = ("a", "ab", "abab", "abc", "bca", "[a_1]", "[a_12]", "aab", " ")


def fed(handler: Handler, pieces: list[str]) -> str:
    """Feed all pieces, checking that `held` never grows beyond what has come and ends at nothing."""
    out = [handler.feed(piece) for piece in pieces]
    out.append(handler.flush())
    assert handler.held == 0
    return "".join(out)


def cut(text: str, at: list[int]) -> list[str]:
    """Cut a text at these places."""
    places = [0, *sorted(min(place, len(text)) for place in at), len(text)]
    return [text[start:end] for start, end in pairwise(places)]


def at_every_cut(make: Callable[[], Handler], text: str, expected: str) -> None:
    """One cut at each place, and every character by itself."""
    for place in range(len(text) + 1):
        assert fed(make(), [text[:place], text[place:]]) == expected, place
    assert fed(make(), list(text)) == expected


@pytest.mark.parametrize(("pattern", "replace"), PATTERNS)
@given(text=TEXTS, at=st.lists(st.integers(0, 24)))
def test_a_rewriter_gives_what_one_substitution_gives(pattern: str, replace: str, text: str, at: list[int]) -> None:
    expected = re.sub(pattern, replace, text)
    assert fed(Rewriter(pattern, replace), cut(text, at)) == expected
    at_every_cut(lambda: Rewriter(pattern, replace), text, expected)


@given(text=TEXTS, keys=st.lists(st.sampled_from(KEYS), min_size=1, unique=True), at=st.lists(st.integers(0, 24)))
def test_so_does_a_dictionary(text: str, keys: list[str], at: list[int]) -> None:
    values = {key: f"<{number}>" for number, key in enumerate(keys)}
    alternatives = "|".join(map(re.escape, sorted(keys, key=len, reverse=True)))
    expected = re.sub(alternatives, lambda match: values[match.group()], text)
    assert fed(Dictionary(values), cut(text, at)) == expected
    at_every_cut(lambda: Dictionary(values), text, expected)


@given(text=TEXTS)
def test_a_dictionary_without_case(text: str) -> None:
    expected = re.sub(r"(?i)\[a_1\]|ab", lambda match: {"[a_1]": "1", "ab": "2"}[match.group().lower()], text)
    at_every_cut(lambda: Dictionary({"[A_1]": "1", "ab": "2"}, ignore_case=True), text, expected)


@given(pieces=st.lists(TEXTS, max_size=4))
def test_what_is_held_is_what_is_in_no_output(pieces: list[str]) -> None:
    for handler in (Rewriter(r"\[a{1,8}\]", r"\g<0>"), Rewriter(r"[ab] ", r"\g<0>"), Dictionary({"[a": "[a"})):
        came = went = 0
        for piece in pieces:
            came += len(piece)
            went += len(handler.feed(piece))
            assert handler.held == came - went
        assert len(handler.flush()) == came - went
        assert handler.held == 0


def test_text_that_cannot_begin_a_match_goes_out_at_once() -> None:
    handler = Rewriter(r"\[[a-z]{1,20}\]", "x")
    assert handler.feed("plain text [") == "plain text "
    assert handler.held == 1
    assert handler.feed("abc") == ""
    assert handler.feed("] and on, far enough") == "x and on, far enough"


def test_a_dictionary_holds_only_beginnings_of_keys() -> None:
    handler = Dictionary({"[MAIL_1]": "a@b.c"})
    assert handler.feed("see [MA") == "see "
    assert handler.held == 3
    assert handler.feed("TCH] [MAIL_1") == "[MATCH] "
    assert handler.feed("]!") == "a@b.c!"


def test_after_an_early_flush_it_goes_on_and_still_looks_back() -> None:
    handler = Rewriter(r"(?<=a)b|\bc\b", "X")
    assert handler.feed("a") + handler.flush() == "a"
    assert handler.feed("b c") + handler.flush() == "X X"
    assert handler.feed("c") + handler.flush() == "c"


def test_a_function_gets_the_matched_text() -> None:
    assert fed(Rewriter(r"a\d", lambda found: found.upper()), ["xa", "1"]) == "xA1"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        (r"^a", "anchor"),
        (r"a$", "anchor"),
        (r"(?m)a(?=$)", "anchor"),
        (r"\Aa", "anchor"),
        (r"a\Z", "anchor"),
        (r"a+", "more than 256"),
        (r"a(?=.*b)", "more than 256"),
        (r"a{300}", "more than 256"),
        (r"a*", "empty"),
        (r"(?=a)", "empty"),
    ],
)
def test_what_a_stream_cannot_promise_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Rewriter(pattern, "")


def test_the_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Dictionary({"": "x"})


def test_without_keys_a_dictionary_passes_everything() -> None:
    assert Dictionary({}).feed("abc") == "abc"
