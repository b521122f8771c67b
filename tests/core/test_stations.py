"""Text through chunk handlers: whatever is cut where, dies when or fails, what comes out is what should."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ingle.wire.hook_schema import Hold, HookOffer, HookResult
from ingled.core.chain import Hop, hops
from ingled.core.registry import Entry
from ingled.core.station import Moves, StationCall
from ingled.core.stations import Stations

MAPS: dict[str, Callable[[str], str]] = {
    "same": lambda letter: letter,
    "upper": str.upper,
    "double": lambda letter: letter * 2,
    "no_e": lambda letter: "" if letter in "eE" else letter,
}
"""What handlers make of each character."""


def entry(name: str, provider: str = "group:main", **more: object) -> Entry:
    offer = HookOffer(0, name, ["chunk"], scope="all", hold=Hold(1000, 1000), **more)  # type: ignore[arg-type]
    return Entry(offer, provider)


def whole(names: list[str], text: str) -> str:
    for name in names:
        text = "".join(MAPS[name.partition("-")[0]](letter) for letter in text)
    return text


@dataclass
class Handler:
    """Maps each character, and holds the last ones back."""

    name: str
    hold: int
    rest: str = ""

    def take(self, text: str, all: bool) -> str:
        self.rest += text
        cut = len(self.rest) if all else max(0, len(self.rest) - self.hold)
        given, self.rest = self.rest[:cut], self.rest[cut:]
        return whole([self.name], given)


@dataclass
class Bench:
    """Stations of one stream, and those who handle it; calls are answered in any order."""

    entries: list[Entry]
    hold: int = 0
    now: float = 0.0
    providers: dict[str, str] = field(default_factory=dict)
    calls: dict[int, StationCall] = field(default_factory=dict)
    """By station, what is under way."""
    handlers: dict[tuple[int, str], Handler] = field(default_factory=dict)
    out: str = ""
    ended: int = 0
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    stopped: list[tuple[str, str, str]] = field(default_factory=list)
    reported: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stations = Stations(self.providers.get)
        self.stations.open("r", hops(self.entries), self.reported)

    def do(self, moves: Moves) -> None:
        self.out += "".join(text for _, text in moves.texts)
        self.ended += len(moves.ended)
        self.failed += moves.failed
        self.stopped += moves.stopped
        for call in moves.calls:
            assert call.station not in self.calls, "one call of a station at a time"
            self.calls[call.station] = call

    def feed(self, text: str) -> None:
        self.do(self.stations.feed(self.now, "r", text))

    def finish(self) -> None:
        self.do(self.stations.finish(self.now, "r"))

    def answer(self, station: int) -> None:
        call = self.calls.pop(station)
        text, results = call.text, []
        for name in call.hop.names:
            if call.seq == 0:
                self.handlers[station, name] = Handler(name, self.hold)
            handler = self.handlers[station, name]
            text = handler.take(text, call.last or call.flush)
            results.append(HookResult(name, "changed", held=len(handler.rest)))
        self.do(self.stations.replied(self.now, "r", station, results, {"text": text}))

    def fail(self, station: int, *blamed: str) -> None:
        del self.calls[station]
        self.do(self.stations.failed(self.now, "r", station, blamed, "no"))

    def die(self, provider: str) -> None:
        for _, station in self.stations.of(provider):
            self.calls.pop(station, None)
            self.do(self.stations.again("r", station))

    def drain(self) -> None:
        while self.calls:
            self.answer(next(iter(self.calls)))

    def told(self) -> dict[str, str]:
        return {key: one["verdict"] for key, one in self.reported.items()}


def test_text_passes_handlers_of_several_providers_in_order() -> None:
    bench = Bench([entry("double"), entry("upper"), entry("no_e", "conn:1")])
    bench.feed("hello")
    assert [call.hop.names for call in bench.calls.values()] == [("double", "upper")]
    bench.finish()
    bench.drain()
    assert (bench.out, bench.ended) == ("HHLLLLOO", 1)
    assert bench.told() == {"double": "changed", "upper": "changed", "no_e": "changed"}


def test_handlers_whose_plugins_moved_to_different_hosts_go_on_in_those() -> None:
    bench = Bench([entry("double"), entry("upper"), entry("no_e")], hold=2)
    bench.feed("hello ")
    bench.drain()
    before = bench.out
    assert before
    bench.providers |= {"upper": "group:solo:upper"}
    bench.feed("there")
    bench.die("group:main")
    bench.drain()
    places = {call.hop.names: call.hop.provider for call in bench.calls.values()}
    bench.feed("!")
    while bench.calls:
        places |= {call.hop.names: call.hop.provider for call in bench.calls.values()}
        bench.answer(next(iter(bench.calls)))
    bench.finish()
    bench.drain()
    assert places == {("double",): "group:main", ("upper",): "group:solo:upper", ("no_e",): "group:main"}
    assert bench.out == whole(["double", "upper", "no_e"], "hello there!")
    assert bench.out.startswith(before)
    assert set(bench.told().values()) == {"changed"}


def test_a_handler_that_failed_is_left_out_and_what_it_held_goes_on_as_it_came() -> None:
    bench = Bench([entry("upper")], hold=3)
    bench.feed("hello")
    bench.drain()
    assert bench.out == "HE"
    bench.feed(" there")
    bench.fail(0)
    bench.feed("!")
    bench.finish()
    assert (bench.out, bench.ended) == ("HEllo there!", 1)
    assert bench.told() == {"upper": "skipped"}


def test_handlers_that_moved_twice_and_fail_before_they_have_caught_up_are_left_out() -> None:
    bench = Bench([entry("double"), entry("same-1"), entry("same-2")])
    bench.feed("a")
    for name in ("same-2", "double"):
        bench.providers[name] = f"group:solo:{name}"
        bench.die("group:main")
        if name == "same-2":
            bench.feed("b")
            bench.answer(0)
    bench.answer(1)
    bench.fail(0)
    bench.finish()
    bench.drain()
    assert (bench.failed, bench.out, bench.ended) == ([], "aab", 1)
    assert bench.told() == {"double": "skipped", "same-1": "changed", "same-2": "changed"}


def test_handlers_behind_one_that_fails_at_its_move_see_all_text_and_give_none_out_twice() -> None:
    bench = Bench([entry("same"), entry("double"), entry("upper")])
    bench.feed("ab")
    bench.drain()
    bench.providers |= {"double": "group:solo:double", "upper": "group:solo:upper"}
    bench.feed("c")
    bench.die("group:main")
    bench.fail(0)
    seen = []
    bench.feed("d")
    bench.finish()
    while bench.calls:
        station, call = next(iter(bench.calls.items()))
        seen.append((call.hop.names, call.text))
        bench.answer(station)
    assert (bench.failed, bench.out, bench.ended) == ([], "AABBCCDD", 1)
    assert "".join(text for names, text in seen if names == ("double",)) == "abcd"
    assert "".join(text for names, text in seen if names == ("upper",)) == "aabbccdd"


def test_one_of_several_handlers_fails_and_the_others_go_on() -> None:
    bench = Bench([entry("upper"), entry("double")])
    bench.feed("a")
    bench.drain()
    bench.feed("b")
    bench.fail(0, "double")
    bench.feed("c")
    bench.finish()
    bench.drain()
    assert bench.out == "AABC", "what had gone out stays, and the rest is without it"
    assert bench.told() == {"upper": "changed", "double": "skipped"}


def test_a_handler_that_must_not_fail_ends_the_answer() -> None:
    bench = Bench([entry("upper", on_error="refuse")])
    bench.feed("a")
    bench.fail(0)
    assert (bench.failed, bench.out) == ([("r", "upper", "no")], "")


def test_a_handler_that_stops_ends_the_text_and_what_comes_is_dropped() -> None:
    bench = Bench([entry("upper"), entry("double", "conn:1")])
    bench.feed("a")
    del bench.calls[0]
    bench.do(bench.stations.replied(1.0, "r", 0, [HookResult("upper", "stop", "enough")], {"text": "A."}))
    assert bench.stopped == [("r", "upper", "enough")]
    bench.feed("never seen")
    bench.finish()
    bench.drain()
    assert (bench.out, bench.ended) == ("AA..", 1)


def test_text_that_is_held_for_too_long_is_demanded_however_much_comes_behind_it() -> None:
    bench = Bench([entry("upper")], hold=100)
    for bench.now in (1.0, 1.3, 1.6, 1.9):
        bench.feed("ab")
        bench.drain()
        assert bench.out == ""
        bench.do(bench.stations.flush(bench.now))
        assert not bench.calls
    bench.now = 2.1
    bench.do(bench.stations.flush(bench.now))
    assert [call.flush for call in bench.calls.values()] == [True]
    bench.drain()
    assert bench.out == "ABABABAB"


def test_replies_that_break_a_promise_are_failures() -> None:
    for result, value in (
        (HookResult("upper", held=2000), None),
        (HookResult("upper", "refuse"), None),
        (HookResult("upper", "changed"), None),
        (HookResult("upper", "changed"), {"text": 7}),
        (HookResult("another"), None),
    ):
        bench = Bench([entry("upper")])
        bench.feed("a")
        del bench.calls[0]
        bench.do(bench.stations.replied(1.0, "r", 0, [result], value))
        bench.finish()
        assert (bench.out, bench.told()) == ("a", {"upper": "skipped"})


def test_handlers_that_are_gone_answer_for_themselves_at_their_last_provider() -> None:
    bench = Bench([entry("upper")])
    bench.feed("a")
    bench.die("group:main")
    assert [call.hop for call in bench.calls.values()] == [Hop("group:main", tuple(bench.entries))]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_comes_out_does_not_depend_on_cuts_deaths_and_moves(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(list(MAPS)), min_size=1, max_size=4))
    names = [f"{kind}-{index}" for index, kind in enumerate(kinds)]
    homes = data.draw(st.lists(st.sampled_from(["group:main", "conn:1"]), min_size=len(names), max_size=len(names)))
    bench = Bench(
        [entry(name, home) for name, home in zip(names, homes, strict=True)], hold=data.draw(st.integers(0, 5))
    )
    source = ""
    for _ in range(data.draw(st.integers(0, 25))):
        match data.draw(st.sampled_from(["feed", "answer", "answer", "die", "move", "flush"])):
            case "feed":
                text = data.draw(st.text("abceE xyz", max_size=6))
                source += text
                bench.feed(text)
            case "answer" if bench.calls:
                bench.answer(data.draw(st.sampled_from(sorted(bench.calls))))
            case "move":
                name = data.draw(st.sampled_from(names))
                if not bench.providers.get(name, homes[names.index(name)]).startswith("conn"):
                    bench.providers[name] = f"group:solo:{name}"
                    bench.die("group:main")
            case "die":
                bench.die(data.draw(st.sampled_from(["group:main", *{f"group:solo:{name}" for name in names}])))
            case "flush":
                bench.now += 10.0
                bench.do(bench.stations.flush(bench.now))
        assert whole(names, source).startswith(bench.out), "nothing twice, nothing that should not be"
    bench.finish()
    bench.drain()
    assert bench.out == whole(names, source)
    assert bench.ended == 1
    assert bench.stations.text("r") == bench.out
    assert set(bench.told()) == set(names)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nothing_is_lost_or_twice_when_handlers_fail(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(["same", "double"]), min_size=1, max_size=4))
    names = [f"{kind}-{index}" for index, kind in enumerate(kinds)]
    homes = data.draw(st.lists(st.sampled_from(["group:main", "conn:1"]), min_size=len(names), max_size=len(names)))
    entries = [entry(name, home) for name, home in zip(names, homes, strict=True)]
    # What several handlers hold can be told in characters of the text only while none changes its length.
    bench = Bench(entries, hold=0 if "double" in kinds else data.draw(st.integers(0, 3)))
    source = ""
    for _ in range(data.draw(st.integers(0, 25))):
        match data.draw(st.sampled_from(["feed", "answer", "answer", "fail", "die", "move"])):
            case "feed":
                text = "".join(chr(0x4E00 + len(source) + n) for n in range(data.draw(st.integers(0, 4))))
                source += text
                bench.feed(text)
            case "answer" if bench.calls:
                bench.answer(data.draw(st.sampled_from(sorted(bench.calls))))
            case "fail" if bench.calls:
                station = data.draw(st.sampled_from(sorted(bench.calls)))
                blamed = data.draw(st.sets(st.sampled_from(bench.calls[station].hop.names)))
                bench.fail(station, *blamed)
            case "die":
                bench.die("group:main")
            case "move":
                name = data.draw(st.sampled_from(names))
                if homes[names.index(name)] == "group:main":
                    bench.providers[name] = f"group:solo:{name}"
                    bench.die("group:main")
    bench.finish()
    bench.drain()
    assert (bench.failed, bench.ended) == ([], 1)
    letters = [letter for index, letter in enumerate(bench.out) if index == 0 or bench.out[index - 1] != letter]
    assert "".join(letters) == source


# ---------------------------------------------------------------- on trial


def test_a_handler_on_trial_is_told_of_and_nothing_waits_for_it_but_the_end() -> None:
    bench = Bench([entry("upper", trial=True), entry("double")])
    bench.feed("a")
    assert [call.hop.names for call in bench.calls.values()] == [("upper",), ("double",)]
    bench.answer(1)
    assert bench.out == "aa" and bench.stations.quiet("r"), "its reader and its engine do not know of it"
    bench.feed("b")
    bench.finish()
    bench.answer(1)
    bench.answer(1)
    assert (bench.out, bench.ended) == ("aabb", 0)
    bench.drain()
    assert (bench.out, bench.ended) == ("aabb", 1)
    assert bench.told() == {"upper": "changed", "double": "changed"}
    assert bench.reported["upper"]["trial"] is True


def test_what_a_handler_on_trial_does_changes_nothing() -> None:
    def fails(bench: Bench) -> None:
        bench.fail(0)

    def stops(bench: Bench) -> None:
        del bench.calls[0]
        bench.do(bench.stations.replied(0.0, "r", 0, [HookResult("upper", "stop", "enough")], {"text": "!"}))

    def dies(bench: Bench) -> None:
        bench.die("group:main")

    for does, verdict in ((fails, "skipped"), (stops, "stop"), (dies, "changed")):
        bench = Bench([entry("upper", trial=True, on_error="refuse"), entry("double", "conn:1")], hold=1)
        bench.feed("ab")
        does(bench)
        bench.feed("c")
        bench.finish()
        bench.drain()
        assert (bench.out, bench.ended, bench.failed, bench.stopped) == ("aabbcc", 1, [], [])
        assert bench.told() == {"upper": verdict, "double": "changed"}


def test_a_handler_on_trial_hears_the_end_of_an_answer_that_another_stops() -> None:
    bench = Bench([entry("upper", trial=True), entry("double")])
    bench.feed("a")
    del bench.calls[1]
    bench.do(bench.stations.replied(0.0, "r", 1, [HookResult("double", "stop", "enough")], {"text": "a"}))
    bench.finish()
    assert bench.ended == 0
    bench.drain()
    assert (bench.out, bench.ended) == ("a", 1)
    assert bench.told() == {"upper": "changed", "double": "stop"}
