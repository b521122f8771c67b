"""Who is heard next: nobody is heard more often for saying more."""

from hypothesis import given
from hypothesis import strategies as st
from ingled.broker.rota import Rota


def add(rota: Rota[str], one: str) -> None:
    """Somebody has something to say; its name begins with its account and its process, a digit each."""
    rota.add(int(one[0]), int(one[1]), one)


def heard(rota: Rota[str], more: dict[str, int]) -> list[str]:
    """Hear everybody to the end; `more` says how often each has something to say."""
    out = []
    while (one := rota.next()) is not None:
        out.append(one)
        more[one] -= 1
        if more[one]:
            add(rota, one)
    return out


def test_a_flood_of_one_connection_is_heard_once_between_two_others() -> None:
    rota: Rota[str] = Rota()
    for one in ("10a", "10b", "20a"):
        add(rota, one)
    order = heard(rota, {"10a": 6, "10b": 2, "20a": 2})
    assert order == ["10a", "20a", "10b", "20a", "10a", "10b", "10a", "10a", "10a", "10a"]


def test_many_connections_of_one_account_are_no_better_off_than_one_of_another() -> None:
    rota: Rota[str] = Rota()
    crowd = [f"1{number % 3}-{number}" for number in range(100)]
    for one in (*crowd, "20"):
        add(rota, one)
    order = heard(rota, dict.fromkeys(crowd, 3) | {"20": 5})
    assert [at for at, one in enumerate(order) if one == "20"] == [1, 3, 5, 7, 9]


def test_many_connections_of_one_process_are_no_better_off_than_one_of_another_of_that_account() -> None:
    rota: Rota[str] = Rota()
    crowd = [f"11-{number}" for number in range(100)]
    for one in (*crowd, "12", "13"):
        add(rota, one)
    order = heard(rota, dict.fromkeys(crowd, 3) | {"12": 5, "13": 2})
    assert [at for at, one in enumerate(order) if one == "12"] == [1, 4, 7, 9, 11]
    assert [at for at, one in enumerate(order) if one == "13"] == [2, 5]


@given(st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), st.integers(1, 5)))
def test_everybody_is_heard_as_often_as_they_speak_and_equals_in_turn(some: dict[tuple[int, int, int], int]) -> None:
    more = {f"{account}{process}{number}": count for (account, process, number), count in some.items()}
    rota: Rota[str] = Rota()
    for one in more:
        add(rota, one)
    assert bool(rota) == bool(more)
    order = heard(rota, dict(more))
    assert {one: order.count(one) for one in more} == more
    for one in more:
        for other in more:
            if one != other and one[:2] == other[:2]:
                both = [who for who in order if who in (one, other)]
                least = min(more[one], more[other])
                assert abs(both[: 2 * least].count(one) - both[: 2 * least].count(other)) <= 1
    assert not rota
