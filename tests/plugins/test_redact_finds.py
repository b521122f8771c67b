"""What redact finds and what it leaves: the edges between the two. How much it finds, bench/redact.py measures."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle_plugins import redact
from ingle_plugins.redact import Options, rules
from ingle_plugins.redact.find import Finder
from ingle_plugins.redact.known import Known
from ingle_plugins.redact.spans import Span, merged

NPM = "npm_" + "q8Rrvv3Kdplain77ZxCvBnMqWeRtYuIoPaS"


@pytest.fixture(scope="module")
def finder() -> Finder:
    return Finder(Options())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Guido van Rossum wrote it", ["Guido van Rossum"]),
        ("Dear Ms. Xyzzykova, thanks", ["Xyzzykova"]),
        ("Hans-Dieter Kräßner-Lüdenscheidt rief an", ["Hans-Dieter Kräßner-Lüdenscheidt"]),
        ("Tell Mary O'Neil and John F. Kennedy", ["Mary O'Neil", "John F. Kennedy"]),
        ("Oisín O'Moore, Katriona Ó Clúin", ["Oisín O'Moore", "Katriona Ó Clúin"]),
        ("Rūta Kavaliauskienė met Xyz Abuladze", ["Rūta Kavaliauskienė", "Xyz Abuladze"]),
        ("Jan Kowalski and August Møller met", ["Jan Kowalski", "August Møller"]),
        ("Aylin Karaduman and Putri Rajasa", ["Aylin Karaduman", "Putri Rajasa"]),
        ("4111111111111111 +49 30 901820", ["4111111111111111", "+49 30 901820"]),
        ("at +৮৮০-৮৭৭-৮৯৩-২৮৭", ["+৮৮০-৮৭৭-৮৯৩-২৮৭"]),
        ("call (731) 817-3296 x534 now", ["(731) 817-3296 x534"]),
        ("+(370) 12113611 or +61.7.9682.3723", ["+(370) 12113611", "+61.7.9682.3723"]),
        ("Tel.: 0176 1234567", ["0176 1234567"]),
        ("<bob@corp.de>, 'eve@corp.de'", ["bob@corp.de", "eve@corp.de"]),
        ("anna.schmidt@example.com", ["anna.schmidt@example.com"]),
        ("jürgen@müller.de", ["jürgen@müller.de"]),
        ("from 2001:4860:4860::8888 and 8.8.4.4.", ["2001:4860:4860::8888", "8.8.4.4"]),
        ("8.8.8.8 8.8.4.4:53", ["8.8.8.8", "8.8.4.4"]),
        ("7 4111 1111 1111 1111 4111111111111111", ["4111 1111 1111 1111", "4111111111111111"]),
        ("+49 30 901820 12345678 +49 30 901821", ["+49 30 901820", "+49 30 901821"]),
        ("ab11 DE89 3704 0044 0532 0130 00 und", ["DE89 3704 0044 0532 0130 00"]),
        (f"{NPM}1 {NPM}2 {NPM}3", [f"{NPM}1", f"{NPM}2", f"{NPM}3"]),
        ("IBAN GB82WEST12345698765432 please", ["GB82WEST12345698765432"]),
        ("my token is 7yij4b4n0a9t8zrnivp9k14ijg17go8s", ["7yij4b4n0a9t8zrnivp9k14ijg17go8s"]),
    ],
)
def test_found(finder: Finder, text: str, found: list[str]) -> None:
    assert [text[start:end] for start, end, _ in finder.find(text)] == found


@pytest.mark.parametrize(
    "text",
    [
        "Hello World, The Python Tutorial says: On Windows use Visual Studio",
        "version 1.2.3 of 2024-01-31, 10:30:00; 192.168.0.1 and 127.0.0.1 and fe80::1",
        "4111 1111 1111 1112 is no card, DE88370400440532013000 no account",
        "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "550e8400-e29b-41d4-a716-446655440000",
        "password = os.environ['PASSWORD'], token: str | None, key=lambda item: item.name",
        "order 12345678, 1234567890 items, 1999-2008, 0123456789",
        "user@localhost, foo@bar, @decorator",
        "CVE-2019-9740, RFC 2047/2243, ISO-IR 10646 2000, bugs 2360-2363, aix-6107-1415-32",
        "1.2345E+12345680, h * 69069 + 907133923, Decimal('+35236450.6')",
        "Id: help.py 527 2006-07-23 15:21:30Z, the number of days since 1970-01-01",
        "section 8.2.4.44, https://tools.ietf.org/html/rfc7231#section-7.1.1.1, version 7.1.4.34",
        "192.0.2.7, 198.51.100.1, 203.0.113.9, 2001:db8::1: addresses for documentation",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567 and 0123456789ABCDEFGHIJKLMNOPQRSTUV",
        "in August Monday is the first day; May Day, June Release, April Fools",
        "the Transformer Block, Server Events, Himalayan Trip, Kenyan Runners, Personal Hygiene",
    ],
)
def test_left_alone(finder: Finder, text: str) -> None:
    assert [text[start:end] for start, end, _ in finder.find(text)] == []


def test_entropy_decides_of_words_without_a_name() -> None:
    word = "Zx9Qw3Er7Ty1Ui5Op8As2Df4Gh6J"
    assert Finder(Options()).find(word) == [Span(0, len(word), "secret")]
    assert Finder(Options(entropy=0)).find(word) == []


def test_places_that_overlap_are_one_place() -> None:
    spans = [Span(5, 9, "name"), Span(0, 6, "email"), Span(9, 12, "ip")]
    assert merged(spans, {"email": 1, "name": 2}) == [Span(0, 9, "email"), Span(9, 12, "ip")]


def test_importing_it_loads_no_rules_and_no_lists() -> None:
    program = "import ingle_plugins.redact, sys; print({'phonenumbers', 'stdnum', 'mimesis'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@given(st.lists(st.text("abc", min_size=6, max_size=8), min_size=1, max_size=20), st.text("abc", max_size=200))
def test_secrets_are_found_again_in_one_pass_or_in_many(secrets: list[str], text: str) -> None:
    def hidden() -> set[int]:
        return {at for span in redact.occurrences(text, dict.fromkeys(secrets, "secret")) for at in range(*span[:2])}

    many, most = hidden(), redact.MANY
    redact.MANY = 0
    try:
        assert hidden() >= many, "one that overlaps itself is found at every place"
    finally:
        redact.MANY = most


def test_every_keyword_is_found_where_all_stand_together() -> None:
    every = sorted({word for rule in rules.rules() for word in rule.keywords})
    search, numbers = rules.keywords()
    assert len(search.Match(" ".join(every))) == len(numbers) == len(every)


def test_no_secret_gets_by_where_the_search_for_keywords_has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails:
        def Match(self, text: str) -> None:
            return None

    monkeypatch.setattr(rules, "keywords", lambda: (Fails(), []))
    assert {(start, end) for start, end, _ in rules.find_secrets(f"my {NPM}1")} == {(3, 3 + len(NPM) + 1)}


def test_a_text_that_was_looked_at_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    finder, looked = Finder(Options()), []
    text = f"{'It was rainy. ' * 30} {NPM}1"
    first = finder.find(text)
    monkeypatch.setattr(finder, "_detectors", [lambda piece: looked.append(piece) or ()])
    assert finder.find(text) == first and looked == []
    assert finder.find(text + " ") == [] and looked == [text + " "]
    held = repr(vars(finder._known))
    assert "npm_" not in held and "rainy" not in held


def test_what_is_remembered_has_bounds() -> None:
    known, places = Known(), [Span(0, 5, "name")] * 1000
    for number in range(300):
        known.find(f"{number} " * 200, lambda text: places)
    assert len(known._places) <= 100 and known._spans <= 100_000


@pytest.mark.parametrize(
    "text",
    [
        "=AKC" + "q8Rv3Kd7ZxCvBn",
        "cloudant_pw :: " + "e3697f43a5430b1270eb0b8e25b3937987a4b200eb00dbfbf6243212068fe1b9",
        "SK" + "7jec8b4en9r29790j37025bzwnhujh4i",
        "https://hooks.slack.com/services/T123/B456/" + "npSbWq8Rv3Kd",
    ],
)
def test_formats_of_detect_secrets_are_found(finder: Finder, text: str) -> None:
    assert finder.find(text)
