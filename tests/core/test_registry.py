"""Who takes part in which request, and how hooks that fail are left out for a while."""

from typing import Any

from ingle.wire.hook_schema import HookOffer
from ingled.core.registry import TRIP_AFTER, TRIP_S, Entry, Registry


def entry(name: str = "a", provider: str = "group:main", account: str | None = None, **more: Any) -> Entry:
    fields = {key: more.pop(key) for key in ("source", "digest", "broken") if key in more}
    points = more.pop("points", ["prompt"])
    return Entry(HookOffer(0, name, points, **({"scope": "all"} | more)), provider, account, **fields)


def tripped(registry: Registry, now: float = 1.0, **more: Any) -> Entry:
    one = entry(**more)
    registry.put(one)
    assert [one.tally.failed_at(now, "no") for _ in range(TRIP_AFTER)] == [False] * (TRIP_AFTER - 1) + [True]
    return one


def test_a_plugin_that_has_tripped_stays_so_in_a_fresh_host_and_in_one_of_its_own() -> None:
    registry = Registry()
    tripped(registry)
    for provider in ("group:main", "group:solo:a"):
        fresh = entry(provider=provider)
        registry.put(fresh)
        assert "tripped" in fresh.out_of_order(1.0 + TRIP_S - 1)
        assert fresh.out_of_order(1.0 + TRIP_S) == ""
    assert fresh.tally.failed_at(40.0, "again"), "one more failure, and it is left out for longer"
    assert "tripped" in fresh.out_of_order(40.0 + 1.5 * TRIP_S)


def test_it_stays_so_while_its_host_is_away_and_when_it_was_broken_meanwhile() -> None:
    registry = Registry()
    tripped(registry)
    registry.remove(["a"])
    registry.put(entry(broken="its host does not start", version="0"))
    assert registry.entries["a"].describe(2.0, True)["failures"] == TRIP_AFTER
    registry.put(entry())
    assert "tripped" in registry.entries["a"].out_of_order(2.0)


def test_it_is_called_again_when_it_has_changed() -> None:
    for change in ({"version": "2"}, {"digest": "another"}, {"source": "elsewhere"}):
        registry = Registry()
        tripped(registry)
        changed = entry(**change)
        registry.put(changed)
        assert changed.out_of_order(2.0) == ""
        assert not changed.tally.failed_at(2.0, "no"), "it begins to count anew"
        assert (changed.tally.calls, changed.tally.failed) == (TRIP_AFTER + 1, TRIP_AFTER + 1), "for `ingle hooks`"


def test_what_an_old_host_still_fails_at_counts_for_the_plugin() -> None:
    registry = Registry()
    old, fresh = entry(), entry()
    registry.put(old)
    registry.put(fresh)
    for _ in range(TRIP_AFTER):
        old.tally.failed_at(1.0, "a stream that it had")
    assert "tripped" in fresh.out_of_order(2.0)


def test_a_client_that_offers_anew_is_called_anew() -> None:
    registry = Registry()
    tripped(registry, provider="conn:1", account="uid:1")
    fresh = entry(provider="conn:1", account="uid:1")
    registry.put(fresh)
    assert fresh.out_of_order(2.0) == ""
    registry.remove([fresh.key])
    registry.put(last := entry(provider="conn:2", account="uid:1"))
    assert last.tally.calls == 0, "nothing is kept of a connection that has ended"
