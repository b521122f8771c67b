"""Which findings in the standard library count as true."""

import pytest

from bench.redact_truth import true


@pytest.mark.parametrize(
    ("kind", "found", "around"),
    [
        ("email", "mal@lemburg.com", ""),
        ("email", "piers@cs.su.oz.au", ""),
        ("name", "Marc-Andre Lemburg", "# Written by , 2000"),
        ("name", "Larry Wall", "# an idea of 's"),
        ("name", "Trent Mick", "#      Colin Kong, , Guido van Rossum"),
    ],
)
def test_what_names_somebody_is_true(kind: str, found: str, around: str) -> None:
    assert true(kind, found, around)


@pytest.mark.parametrize(
    ("kind", "found", "around"),
    [
        ("email", "joe@example.com", ""),
        ("email", "joe@mail.example", ""),
        ("email", "email-sig@python.org", ""),
        ("email", "optik-users@lists.sourceforge.net", ""),
        ("email", "Me@my.org", ""),
        ("email", "sd_IN@devanagari.UTF", ""),
        ("email", "142480216486.20800@nightshade.la.mastaler.com", ""),
        ("name", "Jane Doe", "written by "),
        ("name", "Coffee Pot", "Hyper Text  Control Protocol"),
        ("phone", "+49 30 901820", "call "),
        ("ip", "8.8.8.8", ""),
        ("secret", "password", ""),
    ],
)
def test_everything_else_is_wrong(kind: str, found: str, around: str) -> None:
    assert not true(kind, found, around)
