"""The fold at one point: what each hook does to the value, and what is told of it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ingle.wire.hook_schema import HookOffer, HookResult
from ingled.core.chain import Chain, Hop, Outcome, failed, fits, hops, replied, start
from ingled.core.registry import Entry


def entry(name: str, provider: str = "group:main", broken: str = "", **more: Any) -> Entry:
    return Entry(HookOffer(0, name, ["prompt"], scope="all", **more), provider, broken=broken)


def begin(*entries: Entry, trace: bool = False) -> tuple[Chain, Outcome | None]:
    return start("prompt", {"messages": []}, entries, 1.0, trace)


def verdicts(chain: Chain) -> list[tuple[str, str]]:
    return [(one["name"], one["verdict"]) for one in chain.ran]


def test_consecutive_hooks_of_one_provider_are_one_hop_and_those_on_trial_travel_alone() -> None:
    a, b, c, d = entry("a"), entry("b"), entry("c", "conn:1"), entry("d")
    assert [hop.names for hop in hops([a, b, c, d])] == [("a", "b"), ("c",), ("d",)]
    assert [hop.names for hop in hops([a, b], alone=True)] == [("a",), ("b",)]
    tried = entry("t", trial=True)
    assert [hop.names for hop in hops([a, tried, b])] == [("a",), ("t",), ("b",)]
    assert hops([a, b])[0].deadlines == (1000, 1000)


def test_what_a_hook_changed_goes_on_and_what_one_on_trial_changed_does_not() -> None:
    chain, outcome = begin(entry("a"), entry("t", trial=True), entry("b"))
    assert outcome is None
    assert replied(chain, [HookResult("a", "changed")], {"messages": ["a"]}) is None
    assert replied(chain, [HookResult("t", "refuse", "no")], {"messages": ["t"]}) is None
    assert replied(chain, [HookResult("b")], None) == Outcome("go", {"messages": ["a"]})
    assert verdicts(chain) == [("a", "changed"), ("t", "refuse"), ("b", "unchanged")]
    assert chain.ran[1]["trial"] and chain.ran[1]["why"] == "no"


def test_a_refusal_and_an_answer_end_the_chain() -> None:
    for verdict, kind, value in (("refuse", "refused", {"messages": []}), ("answer", "answered", {"text": "pong"})):
        chain, _ = begin(entry("a"), entry("b", "conn:1"))
        outcome = replied(chain, [HookResult("a", verdict, "why")], value)  # type: ignore[arg-type]
        assert outcome is not None and (outcome.kind, outcome.value, outcome.hook) == (kind, value, "a")


def test_a_failure_is_dropped_or_refuses_by_policy() -> None:
    for policy, kind in (("skip", "go"), ("refuse", "failed")):
        chain, _ = begin(entry("a", on_error=policy))
        outcome = replied(chain, [HookResult("a", "error", "it raised")], None)
        assert outcome is not None and outcome.kind == kind
        assert chain.ran[0]["why"] == "it raised"
        chain, _ = begin(entry("a", on_error=policy))
        outcome = failed(chain, ("a",), "late")
        assert outcome is not None and (outcome.kind, verdicts(chain)) == (kind, [("a", "skipped")])


def test_only_the_hooks_that_were_at_work_are_left_out_and_the_others_are_due_again() -> None:
    chain, _ = begin(entry("a"), entry("b"), entry("c"))
    assert failed(chain, ("b",), "it hangs") is None
    assert chain.hop == Hop("group:main", (chain.hop.entries[0], chain.hop.entries[1])) if chain.hop else False
    assert chain.hop is not None and chain.hop.names == ("a", "c")
    assert failed(chain, (), "nobody knows who") == Outcome("go", {"messages": []})
    assert verdicts(chain) == [("b", "skipped"), ("a", "skipped"), ("c", "skipped")]


def test_hooks_out_of_order_are_told_and_refuse_where_they_must() -> None:
    chain, outcome = begin(entry("a", broken="no"), entry("b"))
    assert (outcome, verdicts(chain)) == (None, [("a", "skipped")])
    chain, outcome = begin(entry("b"), entry("a", broken="no", on_error="refuse"), entry("c"))
    assert outcome == Outcome("failed", {"messages": []}, "a", "no")
    assert chain.hop is None
    chain, outcome = begin(entry("a", broken="no", on_error="refuse", trial=True))
    assert outcome == Outcome("go", {"messages": []})


def test_a_trace_shows_what_each_hook_was_shown_and_made_of_it() -> None:
    chain, _ = begin(entry("a"), entry("b"), trace=True)
    replied(chain, [HookResult("a", "changed")], {"messages": ["a"]})
    replied(chain, [HookResult("b")], None)
    assert (chain.ran[0]["before"], chain.ran[0]["after"]) == ({"messages": []}, {"messages": ["a"]})
    assert "before" not in chain.ran[1]


def test_results_must_be_those_of_the_hop() -> None:
    hop = Hop("group:main", (entry("a"), entry("b")))
    good = [
        [HookResult("a"), HookResult("b")],
        [HookResult("a", "refuse")],
        [HookResult("a", "error"), HookResult("b")],
    ]
    bad = [
        [],
        [HookResult("a")],
        [HookResult("b"), HookResult("a")],
        [HookResult("a", "refuse"), HookResult("b")],
        [HookResult("a"), HookResult("b"), HookResult("c")],
    ]
    assert [fits(hop.names, results) for results in good] == [""] * len(good)
    assert all(fits(hop.names, results) for results in bad)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_chain_tells_each_hook_once_and_makes_of_the_value_what_the_good_ones_made_of_it(data: st.DataObject) -> None:
    entries = [
        entry(
            f"h{index}",
            data.draw(st.sampled_from(["group:main", "conn:1"])),
            data.draw(st.sampled_from(["", "", "broken"])),
            on_error=data.draw(st.sampled_from(["skip", "skip", "refuse"])),
            trial=data.draw(st.booleans()),
            security=data.draw(st.sampled_from([False, False, True])),
        )
        for index in range(data.draw(st.integers(0, 6)))
    ]
    by_name = {one.name: one for one in entries}
    chain, outcome = begin(*entries, trace=data.draw(st.booleans()))
    made: list[str] = []
    """What a value that nobody may spoil looks like."""
    ended_by = ""
    while outcome is None:
        hop = chain.hop
        assert hop is not None
        assert not any(one.broken for one in hop.entries)
        if data.draw(st.booleans()):
            blamed = data.draw(st.sets(st.sampled_from(hop.names)))
            outcome = failed(chain, sorted(blamed), "it died")
            continue
        value, results, verdict = list(made), [], ""
        for name in hop.names:
            verdict = data.draw(st.sampled_from(["unchanged", "changed", "changed", "error", "refuse", "answer"]))
            results.append(HookResult(name, verdict))  # type: ignore[arg-type]
            if verdict == "changed":
                value.append(name)
            if verdict in ("refuse", "answer"):
                break
        assert fits(hop.names, results) == ""
        good = not any(one.verdict == "error" and by_name[one.hook].refuses for one in results)
        if not hop.trial and good:
            if verdict in ("refuse", "answer"):
                ended_by = verdict
            else:
                made = value
        reply = {"text": "x"} if verdict == "answer" else {"messages": value}
        outcome = replied(chain, results, reply)
    names = [one["name"] for one in chain.ran]
    assert len(names) == len(set(names)), "nobody is told twice"
    bad = [one["name"] for one in chain.ran if one["verdict"] in ("skipped", "error")]
    refusing = [name for name in bad if by_name[name].refuses]
    match outcome.kind:
        case "failed":
            assert outcome.hook in refusing
        case "refused" | "answered":
            assert {"refused": "refuse", "answered": "answer"}[outcome.kind] == ended_by and not refusing
        case "go":
            assert not refusing, "no request passes a hook that failed and must not"
            assert set(names) == set(by_name), "nobody is left out in silence"
            assert outcome.value == {"messages": made}
