"""Rights and limits of accounts: the first rule that fits, and tokens that come back by themselves."""

from hypothesis import given
from hypothesis import strategies as st
from ingled.core.accounts import ADMIN, MEMBER, Accounts, Person, Rights, Rule
from ingled.core.quota import Quotas

ANN = Person("uid:1000", "ann", frozenset({"staff", "ops"}))
BOB = Person("uid:1001", "bob", frozenset({"staff"}))
NOBODY = Person("uid:65534")


def test_the_first_rule_that_names_somebody_decides_alone() -> None:
    ops, staff, rest = Rights(priority="interactive"), Rights(("small*",)), Rights((), frozenset())
    accounts = Accounts(
        frozenset({"uid:0"}),
        (Rule(("group:ops",), ops), Rule(("group:staff", "uid:7"), staff), Rule(("*",), rest)),
    )
    assert accounts.rights(ANN) is ops
    assert accounts.rights(BOB) is staff
    assert accounts.rights(Person("uid:7")) is staff
    assert accounts.rights(NOBODY) is rest
    assert accounts.rights(Person("uid:0")) is ADMIN, "no rule locks owners out"
    assert Accounts(frozenset()).rights(ANN) is MEMBER


def test_a_user_cannot_be_called_like_something_else() -> None:
    star = Rule(("*",), ADMIN)
    assert not Rule(("group:ops",), ADMIN).fits(Person("uid:9", "ops")), "a user's name is no group's"
    assert not Rule(("ann",), ADMIN).fits(Person("uid:9", None, frozenset({"ann"}))), "a group's name is no user's"
    assert star.fits(NOBODY)


def test_models_are_named_with_wildcards() -> None:
    rights = Rights(("small*", "qwen"))
    assert [name for name in ("small-1", "small", "qwen", "qwen3", "Small") if rights.uses(name)] == [
        "small-1",
        "small",
        "qwen",
    ]
    assert not Rights(()).uses("small")


def test_who_has_used_up_its_tokens_waits_until_they_are_paid_off() -> None:
    quotas, rights = Quotas(), Rights(tokens_per_minute=600, tokens_per_day=100_000)
    assert quotas.wait(0, "a", rights) is None
    quotas.pay(0, "a", 700)
    limit, seconds = quotas.wait(0, "a", rights) or ("", 0.0)
    assert limit == "600 tokens per minute"
    assert 10 <= seconds <= 10.2
    assert quotas.wait(0, "b", rights) is None, "others have their own"
    assert quotas.wait(seconds + 0.01, "a", rights) is None
    assert quotas.left(3600, "a") == {"minute": 600, "day": min(100_000, 99_300 + 100_000 * 3600 // 86400)}


def test_a_limit_that_was_changed_or_lifted_holds_at_once() -> None:
    quotas = Quotas()
    quotas.wait(0, "a", Rights(tokens_per_minute=1000))
    quotas.pay(0, "a", 500)
    assert quotas.wait(0, "a", Rights(tokens_per_minute=100)) is None
    assert quotas.left(0, "a")["minute"] == 100
    quotas.pay(0, "a", 5000)
    assert quotas.wait(0, "a", Rights()) is None
    assert quotas.left(0, "a") == {"minute": None, "day": None}


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 500)), max_size=60), st.integers(1, 400))
def test_in_any_time_no_more_is_let_in_than_the_limit_and_one_request(
    steps: list[tuple[float, int]], most: int
) -> None:
    quotas, rights, now, used, largest = Quotas(), Rights(tokens_per_minute=most), 0.0, 0, 0
    for pause, tokens in steps:
        now += pause
        if quotas.wait(now, "a", rights) is None:
            quotas.pay(now, "a", tokens)
            used, largest = used + tokens, max(largest, tokens)
    assert used <= most + now * most / 60 + largest + 1e-6


def test_what_was_used_of_a_limit_goes_on_after_a_restart() -> None:
    rights = Rights(tokens_per_minute=600, tokens_per_day=86_400)
    before = Quotas()
    for account in ("a", "b"):
        assert before.wait(100, account, rights) is None
    before.pay(100, "a", 1200)
    assert before.payments == 2, "a minute's and a day's"
    kept = before.kept(110)
    assert kept == [("a", "minute", 600, -500.0), ("a", "day", 86_400, 86_400 - 1190)], "who has all is left out"
    after = Quotas()
    after.restore(7.0, kept, 20.0)
    limit, seconds = after.wait(7.0, "a", rights) or ("", 0.0)
    assert (limit, round(seconds, 1)) == ("600 tokens per minute", 30.1)
    assert after.wait(7.0, "b", rights) is None
    assert after.left(37.1, "a") == {"minute": 1, "day": 86_400 - 1190 + 50}
    more = Quotas()
    more.restore(7.0, kept, 20.0)
    assert more.wait(7.0, "a", Rights()) is None, "there is no limit any more"
    odd = Quotas()
    odd.restore(0.0, [("a", "year", 5, 1.0), ("a", "day", 0, 1.0)], 0.0)
    assert odd.buckets == {}
