"""Who is heard next: nobody is heard more often for saying more."""

from hypothesis import given
from hypothesis import strategies as st
from ingled.broker.rota import Rota


def heard(rota: Rota[str], more: dict[str, int]) -> list[str]:
    """Hear everybody to the end; `more` says how often each has something to say."""
    out = []
    while (one := rota.next()) is not None:
        out.append(one)
        more[one] -= 1
        if more[one]:
            rota.add(int(one[0]), one)
    return out


def test_a_flood_of_one_connection_is_heard_once_between_two_others() -> None:
    rota: Rota[str] = Rota()
    for one in ("1a", "1b", "2a"):
        rota.add(int(one[0]), one)
    assert heard(rota, {"1a": 6, "1b": 2, "2a": 2}) == ["1a", "2a", "1b", "2a", "1a", "1b", "1a", "1a", "1a", "1a"]


def test_many_connections_of_one_account_are_no_better_off_than_one_of_another() -> None:
    rota: Rota[str] = Rota()
    crowd = [f"1-{number}" for number in range(100)]
    for one in crowd:
        rota.add(1, one)
    rota.add(2, "2")
    order = heard(rota, dict.fromkeys(crowd, 3) | {"2": 5})
    assert [at for at, one in enumerate(order) if one == "2"] == [1, 3, 5, 7, 9]


@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 5)), st.integers(1, 5)))
def test_everybody_is_heard_as_often_as_they_speak_and_equals_in_turn(some: dict[tuple[int, int], int]) -> None:
    more = {f"{account}{number}": count for (account, number), count in some.items()}
    rota: Rota[str] = Rota()
    for one in more:
        rota.add(int(one[0]), one)
    assert bool(rota) == bool(more)
    order = heard(rota, dict(more))
    assert {one: order.count(one) for one in more} == more
    for one in more:
        for other in more:
            if one[0] == other[0]:
                both = [who for who in order if who in (one, other)]
                least = min(more[one], more[other])
                assert abs(both[: 2 * least].count(one) - both[: 2 * least].count(other)) <= 1 or one == other
    assert not rota
