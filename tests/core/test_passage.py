"""A request's way past its hooks: events and the effects that they cause."""

from typing import Any, TypeVar

import msgspec
from ingle.wire.hook_schema import HookOffer, HookResult, Select
from ingle.wire.schema import Done, Failed
from ingled.broker.carried import pack, unpack
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import Caller, Rights
from ingled.core.control import Control
from ingled.core.pipeline import Rule
from ingled.core.registry import Entry, Who
from ingled.core.requests import Record
from ingled.core.residency import Model
from ingled.link import Held
from msgspec import Raw

ALICE = Caller(1, "uid:1000", Rights())
TOOL = Caller(7, "uid:1000", Rights())
MAIN, SOLO = "group:main", "group:solo:guard"
T = TypeVar("T")


def core(*entries: Entry, awaited: tuple[str, ...] = ()) -> Control:
    """A daemon with two models that are ready, and these hooks."""
    found = Control([Model("ember", ("e",)), Model("coal", ("c",))], "ember", awaited=awaited)
    for pid, name in ((50, "ember"), (60, "coal")):
        found.handle(on.WorkerAttached(0.1, name, str(pid), pid))
        found.handle(on.WorkerReady(0.2, name, pid))
    if entries:
        found.handle(on.PluginsOffered(0.3, MAIN, entries))
    return found


def hook(name: str, *points: str, provider: str = MAIN, broken: str = "", **more: Any) -> Entry:
    return Entry(HookOffer(0, name, list(points), scope="all", **more), provider, broken=broken)  # type: ignore[arg-type]


def ask(model: str | None = None, id: str = "r", now: float = 1.0, **more: Any) -> on.RequestArrived:
    body = Raw(msgspec.msgpack.encode({"messages": [{"role": "user", "content": "hi"}]}))
    fields: dict[str, Any] = {"deadline_ms": None, "detach": False, "grace_ms": 0, "priority": 0, **more}
    return on.RequestArrived(now, ALICE, 9, id, "chat", model, body, fields.pop("stream", True), 4, **fields)


def only(effects: list[do.Effect], kind: type[T]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


def called(effects: list[do.Effect]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.provider, one.point, one.hooks) for one in only(effects, do.CallHooks)]


def end(effects: list[do.Effect]) -> Done | Failed:
    (one,) = only(effects, do.CloseStream)
    return one.end


def told(effects: list[do.Effect]) -> list[tuple[str, str, str]]:
    hooks = end(effects).hooks
    return [(one["name"], one["point"], one["verdict"]) for one in hooks or []]


def replied(*names: str, point: Any = "prompt", value: Any = None, verdict: Any = "unchanged") -> on.HookReplied:
    results = tuple(HookResult(name, verdict, us=5) for name in names)
    return on.HookReplied(2.0, "r", point, results, value)


def carried(record: Record) -> Record:
    """What the next daemon learns of a request from its worker."""
    return unpack(Held(record.id, record.op, record.body, record.stream, pack(record), 0, []), "50")


def offered(name: str, *points: str, caller: Caller = TOOL, **more: Any) -> on.HookOffered:
    return on.HookOffered(0.5, caller, "tool", HookOffer(3, name, list(points), **more))  # type: ignore[arg-type]


def moved(*names: str, model: str | None) -> on.HookReplied:
    request = {"model": model, "op": "chat", "stream": True, "options": {}}
    return replied(*names, point="request", value={"request": request}, verdict="changed")


# ---------------------------------------------------------------- the model that is asked for, and the final one


def test_a_request_that_is_moved_meets_the_hooks_of_its_final_model() -> None:
    guard = hook("guard", "request", select=Select(models=["coal"]))
    daemon = core(hook("router", "request", order=1), guard)
    assert called(daemon.handle(ask())) == [(MAIN, "request", ("router",))]
    assert called(daemon.handle(moved("router", model="coal"))) == [(MAIN, "request", ("guard",))]
    out = daemon.handle(moved("guard", model="ember"))  # where nobody is whom it has not met
    (run,) = only(out, do.RunRequest)
    assert run.record.model == "ember"
    assert [one["name"] for one in run.record.ran] == ["router", "guard"]


def test_a_request_cannot_be_moved_past_a_plugin_that_cannot_run() -> None:
    for select, model in ((["coal"], "coal"), (["c"], "coal"), (["coal"], "c")):
        broken = hook("guard", "request", on_error="refuse", broken="no", select=Select(models=select))
        daemon = core(hook("router", "request"), broken)
        daemon.handle(ask())
        out = daemon.handle(moved("router", model=model))
        assert (end(out).code, told(out)[-1]) == ("hook_failed", ("guard", "request", "skipped"))  # type: ignore[union-attr]


def test_hooks_are_selected_by_any_name_of_a_model() -> None:
    daemon = core(hook("mine", "prompt", select=Select(models=["e"])))
    for name in (None, "ember", "e"):
        assert called(daemon.handle(ask(name, id=f"r{name}"))) == [(MAIN, "prompt", ("mine",))]
    assert called(daemon.handle(ask("coal", id="other"))) == []


def test_two_hooks_that_send_a_request_to_and_fro_are_met_once_each() -> None:
    one = hook("one", "request", select=Select(models=["ember"]))
    two = hook("two", "request", select=Select(models=["coal"]))
    daemon = core(one, two)
    daemon.handle(ask())
    daemon.handle(moved("one", model="coal"))
    assert only(daemon.handle(moved("two", model="ember")), do.RunRequest)


def test_a_hook_that_moves_a_request_to_no_model_ends_it() -> None:
    daemon = core(hook("router", "request"))
    daemon.handle(ask())
    assert end(daemon.handle(moved("router", model="nope"))).code == "no_such_model"  # type: ignore[union-attr]


# ---------------------------------------------------------------- hooks that go while a request is with others


def test_a_hook_that_was_removed_before_its_call_is_made_again_fails_by_its_policy() -> None:
    for policy, code in (("refuse", "hook_failed"), ("skip", None)):
        daemon = core(hook("guard", "prompt", on_error=policy))
        daemon.handle(ask())
        daemon.handle(on.PluginsOffered(2.0, MAIN, ()))
        out = daemon.handle(on.HookAgain(2.0, "r", "prompt"))
        if code:
            assert end(out).code == code  # type: ignore[union-attr]
            assert told(out) == [("guard", "prompt", "skipped")]
        else:
            (run,) = only(out, do.RunRequest)
            assert run.record.ran[0]["verdict"] == "skipped"


def test_a_hook_that_goes_while_another_is_at_work_has_failed() -> None:
    daemon = core(hook("first", "prompt", order=1))
    daemon.handle(offered("guard", "prompt", on_error="refuse"))
    assert called(daemon.handle(ask())) == [(MAIN, "prompt", ("first",))]
    daemon.handle(on.ConnectionGone(1.5, 7, True))
    out = daemon.handle(replied("first"))
    assert told(out) == [("first", "prompt", "unchanged"), ("guard", "prompt", "skipped")]
    assert end(out).code == "hook_failed"  # type: ignore[union-attr]


def test_hooks_that_got_a_host_of_their_own_are_called_there() -> None:
    daemon = core(hook("guard", "prompt", order=5))
    daemon.handle(offered("first", "prompt", order=1))
    assert called(daemon.handle(ask())) == [("conn:7", "prompt", ("first",))]
    daemon.handle(on.PluginsOffered(1.5, SOLO, (hook("guard", "prompt", order=5, provider=SOLO),)))
    assert called(daemon.handle(replied("first"))) == [(SOLO, "prompt", ("guard",))]


def test_a_hook_that_has_tripped_meanwhile_is_not_called() -> None:
    guard = hook("guard", "prompt", order=5)
    daemon = core(guard)
    daemon.handle(offered("first", "prompt", order=1))
    daemon.handle(ask())
    for _ in range(5):
        guard.tally.failed_at(1.5, "no")
    daemon.handle(on.PluginsOffered(1.6, MAIN, (hook("guard", "prompt", order=5),)))
    assert called(daemon.handle(replied("first"))) == []


def test_a_hook_that_has_seen_the_prompt_and_is_gone_at_the_answer_has_failed_there() -> None:
    for policy in ("refuse", "skip"):
        daemon = core()
        daemon.handle(offered("both", "prompt", "answer", on_error=policy))
        daemon.handle(ask(stream=False))
        daemon.handle(replied("both"))
        daemon.handle(on.ConnectionGone(3.0, 7, True))
        daemon.handle(on.RunEnded(4.0, "r", "stop", 1, 0, 1, 0.1, None, {"text": "secret"}))
        out = daemon.handle(on.StationsEnded(4.1, "r", "secret"))
        assert told(out) == [("both", "prompt", "unchanged"), ("both", "answer", "skipped")]
        assert isinstance(end(out), Failed if policy == "refuse" else Done)


def test_a_plugin_that_broke_while_a_request_was_with_another_does_not_let_it_pass() -> None:
    points = ("request", "prompt", "chunk", "answer")
    daemon = core(hook("router", "request", order=1), hook("guard", "prompt"))
    daemon.handle(ask())
    gone = hook("guard", *points, on_error="refuse", broken="its import ends the host")
    daemon.handle(on.PluginsOffered(1.5, MAIN, (hook("router", "request", order=1), gone)))
    assert end(daemon.handle(replied("router", point="request"))).code == "hook_failed"  # type: ignore[union-attr]


def test_a_broken_plugin_that_may_be_skipped_is_told_once() -> None:
    daemon = core(hook("gone", "request", "prompt", "chunk", "answer", broken="no"))
    out = daemon.handle(ask())
    (run,) = only(out, do.RunRequest)
    assert [(one["name"], one["verdict"]) for one in run.record.ran] == [("gone", "skipped")]
    assert not run.record.watched, "its text costs nothing"


# ---------------------------------------------------------------- hooks for security


def test_where_a_hook_for_security_fails_the_request_does_whatever_its_on_error_says() -> None:
    for failure in (
        replied("guard", verdict="error"),
        on.HookFailed(2.0, "r", "prompt", (), "late"),
        on.HookFailed(2.0, "r", "prompt", ("guard",), "it hangs"),
    ):
        daemon = core(hook("guard", "prompt", security=True))
        daemon.handle(ask())
        assert end(daemon.handle(failure)).code == "hook_failed"  # type: ignore[union-attr]
    broken = core(hook("guard", "prompt", security=True, broken="no"))
    assert end(broken.handle(ask())).code == "hook_failed"  # type: ignore[union-attr]
    tried = core(hook("guard", "prompt", security=True, trial=True))
    tried.handle(ask())
    assert only(tried.handle(on.HookFailed(2.0, "r", "prompt", (), "late")), do.RunRequest)


def test_a_streamed_answer_waits_for_a_hook_for_security_that_looks_at_it_whole() -> None:
    daemon = core(hook("guard", "answer", security=True))
    (opened,) = only(daemon.handle(ask()), do.OpenStages)
    assert opened.record.sealed
    daemon.handle(on.RunEnded(2.0, "r", "stop", 1, 0, 1, 0.1, None, None))
    daemon.handle(on.StationsEnded(2.1, "r", "a secret"))
    out = daemon.handle(replied("guard", point="answer", verdict="changed", value={"text": "a ***"}))
    assert [one for one in out if isinstance(one, do.DeliverText | do.CloseStream)] == [
        do.DeliverText("r", "a ***"), only(out, do.CloseStream)[0]
    ]  # fmt: skip
    daemon.handle(ask())
    daemon.handle(on.RunEnded(2.0, "r", "stop", 1, 0, 1, 0.1, None, None))
    daemon.handle(on.StationsEnded(2.1, "r", "a secret"))
    out = daemon.handle(replied("guard", point="answer", verdict="refuse"))
    assert (only(out, do.DeliverText), end(out).code) == ([], "refused_by_hook")  # type: ignore[union-attr]


def test_an_answer_does_not_wait_for_hooks_that_see_it_as_it_comes_or_only_try() -> None:
    for points, more in ((("chunk", "answer"), {}), (("answer",), {"trial": True}), (("prompt",), {})):
        daemon = core(hook("guard", *points, security=True, **more))
        out = daemon.handle(ask())
        out = out if only(out, do.RunRequest) else daemon.handle(replied("guard"))
        assert not only(out, do.RunRequest)[0].record.sealed


def test_only_what_hooks_have_seen_goes_out_of_a_whole_answer() -> None:
    result = {"text": "a secret", "logprobs": [{"token": "secret"}], "reasoning": "it is a secret"}
    plain, guarded = core(hook("marks", "answer")), core(hook("guard", "answer", security=True))
    for daemon, name, value, left in (
        (plain, "marks", None, result),
        (plain, "marks", {"text": "a ***"}, {"text": "a ***"}),
        (guarded, "guard", None, {"text": "a secret"}),
    ):
        daemon.handle(ask(stream=False))
        daemon.handle(on.RunEnded(2.0, "r", "stop", 1, 0, 1, 0.1, None, dict(result)))
        daemon.handle(on.StationsEnded(2.1, "r", "a secret"))
        verdict = "changed" if value else "unchanged"
        out = daemon.handle(replied(name, point="answer", verdict=verdict, value=value))
        assert end(out).result == left  # type: ignore[union-attr]
        daemon.handle(on.Delivered(3.0, "r"))


def test_hooks_of_clients_stay_on_their_side_of_plugins_for_security() -> None:
    guard = hook("guard", "request", "prompt", "chunk", "answer", order=500, security=True)
    plain = hook("plain", "prompt", "chunk", order=900)
    rules = {"placed": Rule(order=950)}
    daemon = Control([Model("ember")], "ember", rules=rules)
    daemon.handle(on.PluginsOffered(0.1, MAIN, (guard, plain)))
    for name, order in (("early", 1), ("late", 999), ("placed", 3)):
        daemon.handle(offered(name, "prompt", "chunk", order=order))
    who, every = Who("uid:1000", 1), frozenset({"ember"})

    def chain(point: Any) -> list[str]:
        return [entry.name for entry in daemon.pipeline.registry.select(point, who, every)]

    assert chain("prompt") == ["early", "late", "guard", "plain", "placed"]
    assert chain("chunk") == ["guard", "early", "plain", "placed", "late"]


# ---------------------------------------------------------------- what is known before there are hooks


def test_requests_wait_until_every_host_has_told_what_it_runs() -> None:
    daemon = core(awaited=(MAIN, SOLO))
    daemon.handle(ask())
    assert called(daemon.handle(on.PluginsOffered(2.0, MAIN, (hook("a", "prompt"),)))) == []
    out = daemon.handle(on.PluginsOffered(2.1, SOLO, (hook("guard", "prompt", provider=SOLO),)))
    assert called(out) == [(MAIN, "prompt", ("a",))]


def test_a_host_that_is_known_later_is_waited_for_too() -> None:
    daemon = core(awaited=(MAIN,))
    daemon.handle(ask())
    daemon.handle(on.PluginsAwaited(1.5, SOLO))
    assert called(daemon.handle(on.PluginsOffered(2.0, MAIN, ()))) == []
    out = daemon.handle(on.PluginsOffered(2.1, SOLO, (hook("guard", "prompt", provider=SOLO),)))
    assert called(out) == [(SOLO, "prompt", ("guard",))]


def test_an_answer_that_outlived_the_daemon_waits_for_the_hooks_that_it_was_to_meet() -> None:
    daemon = core(hook("guard", "answer", on_error="refuse"))
    (run,) = only(daemon.handle(ask()), do.RunRequest)
    fresh = core(awaited=(MAIN,))
    fresh.handle(on.RequestAdopted(3.0, carried(run.record), 0, []))
    fresh.handle(on.RunEnded(4.0, "r", "stop", 1, 0, 1, 0.1, None, None))
    assert fresh.handle(on.StationsEnded(4.1, "r", "text")) == [], "nobody knows yet which plugins there are"
    out = fresh.handle(on.PluginsOffered(5.0, MAIN, (hook("guard", "answer", on_error="refuse"),)))
    assert called(out) == [(MAIN, "answer", ("guard",))]


def test_a_hook_of_a_client_that_died_with_the_daemon_has_failed_and_no_other_connection_gets_its_calls() -> None:
    daemon = core()
    daemon.handle(offered("mine", "chunk", "answer", on_error="refuse"))
    (run,) = only(daemon.handle(ask()), do.RunRequest)
    record = carried(run.record)
    assert [entry.provider for entry in record.handlers] == ["conn:-1"], "numbers of connections begin anew"
    fresh = core()
    fresh.handle(on.RequestAdopted(3.0, record, 0, []))
    fresh.handle(on.RunEnded(4.0, "r", "stop", 1, 0, 1, 0.1, None, None))
    out = fresh.handle(on.StationsEnded(4.1, "r", "text"))
    assert told(out)[-1] == ("mine", "answer", "skipped")
    assert isinstance(end(out), Failed)


def left_behind(record: Record) -> Record:
    """What the next daemon learns of a request that was with its hooks."""
    held = Held(record.id, record.op, record.body, record.stream, pack(record), 0, [], waits=True)
    return unpack(held, None, filtering=True)


def test_a_request_that_was_with_plugins_when_the_daemon_died_passes_all_of_them_again() -> None:
    daemon = core(hook("router", "request"), hook("guard", "prompt"))
    kept = only(daemon.handle(ask()), do.KeepWaiting)[0].record
    daemon.handle(moved("router", model=None))
    fresh = core(awaited=(MAIN,))
    assert called(fresh.handle(on.RequestAdopted(3.0, left_behind(kept), 0, []))) == []
    out = fresh.handle(on.PluginsOffered(4.0, MAIN, (hook("router", "request"), hook("guard", "prompt"))))
    assert called(out) == [(MAIN, "request", ("router",))]
    assert called(fresh.handle(moved("router", model=None))) == [(MAIN, "prompt", ("guard",))]
    (run,) = only(fresh.handle(replied("guard")), do.RunRequest)
    assert [one["name"] for one in run.record.ran] == ["router", "guard"], "each is told once"


def test_what_a_filter_had_answered_when_the_daemon_died_is_answered_by_the_next_without_asking_again() -> None:
    answers = replied("rhymes", verdict="answer", value={"text": "a verse"})
    plain = (hook("rhymes", "prompt"),)
    for entries in (plain, (*plain, hook("sees", "observe")), (*plain, hook("guard", "answer", security=True))):
        daemon = core(*entries)
        daemon.handle(ask())
        kept = only(daemon.handle(answers), do.KeepWaiting)[0].record
        fresh = core(awaited=(MAIN,))
        out = fresh.handle(on.RequestAdopted(3.0, left_behind(kept), 0, []))
        assert not only(out, do.FeedText), "nobody knows yet which plugins there are"
        out = fresh.handle(on.PluginsOffered(4.0, MAIN, entries))
        assert not called(out)
        assert [one.text for one in only(out, do.FeedText)] == ["a verse"]
        if len(entries) > 1:
            out = fresh.handle(on.StationsEnded(5.0, "r", "a verse"))
        if entries[-1].guards:
            assert called(out) == [(MAIN, "answer", ("guard",))]
            out = fresh.handle(replied("guard", point="answer"))
        assert isinstance(end(out), Done)
        assert told(out)[0] == ("rhymes", "prompt", "answer")


def test_what_was_answered_by_the_filter_of_a_client_that_died_with_the_daemon_is_answered_all_the_same() -> None:
    daemon = core()
    daemon.handle(offered("mine", "prompt", on_error="refuse"))
    daemon.handle(ask())
    kept = only(daemon.handle(replied("mine", verdict="answer", value={"text": "x"})), do.KeepWaiting)[0].record
    out = core().handle(on.RequestAdopted(3.0, left_behind(kept), 0, []))
    assert (only(out, do.FeedText)[0].text, type(end(out))) == ("x", Done)


def test_a_hook_of_a_client_at_which_a_request_was_when_the_daemon_died_has_failed() -> None:
    for on_error, ended in (("refuse", True), ("skip", False)):
        daemon = core()
        daemon.handle(offered("mine", "prompt", on_error=on_error))
        kept = only(daemon.handle(ask()), do.KeepWaiting)[0].record
        out = core().handle(on.RequestAdopted(3.0, left_behind(kept), 0, []))
        if ended:
            assert (end(out).code, end(out).fault) == ("hook_failed", "hook:mine")  # type: ignore[union-attr]
        else:
            assert only(out, do.RunRequest)


# ---------------------------------------------------------------- what hooks may say of a request


def test_no_hook_can_tell_the_next_one_whose_request_it_is() -> None:
    daemon = core(hook("guard", "prompt", order=900))
    daemon.handle(offered("liar", "prompt", order=1))
    daemon.handle(ask())
    value = {"messages": [{"role": "user", "content": "x"}], "call": {"account": "uid:0"}, "more": 1}
    (call,) = only(daemon.handle(replied("liar", value=value, verdict="changed")), do.CallHooks)
    assert call.value["call"]["account"] == "uid:1000"
    assert set(call.value) == {"call", "messages"}


# ---------------------------------------------------------------- the truth of requests that end badly


def test_a_request_whose_time_is_over_tells_whom_it_had_met_and_who_was_at_work() -> None:
    for ending in (on.TimerFired(9.0, ("deadline", "r")), on.CancelAsked(9.0, ALICE, 4, "r")):
        daemon = core(hook("slow", "prompt", order=2))
        daemon.handle(offered("first", "prompt", order=1))
        daemon.handle(ask(deadline_ms=5000))
        daemon.handle(replied("first"))
        out = daemon.handle(ending)
        (ended,) = [one.end for one in out if isinstance(one, do.CloseStream | do.CutStream)]
        assert isinstance(ended, Failed)
        assert [(one["name"], one["verdict"]) for one in ended.hooks] == [("first", "unchanged"), ("slow", "skipped")]  # type: ignore[union-attr]
        assert "ended before" in ended.hooks[1]["why"]  # type: ignore[index]


def test_a_request_that_the_engine_fails_tells_what_its_handlers_did() -> None:
    daemon = core(hook("upper", "chunk"), hook("later", "chunk"))
    (run,) = only(daemon.handle(ask()), do.RunRequest)
    for name in ("later", "upper"):
        run.record.handled[name] = {"name": name, "point": "chunk", "verdict": "changed"}
    out = daemon.handle(on.RunFailed(3.0, "r", "engine_error", "it broke", "", "worker", None))
    assert told(out) == [("later", "chunk", "changed"), ("upper", "chunk", "changed")]


# ---------------------------------------------------------------- observers


def test_observers_are_told_of_a_failure_before_its_text_is_dropped() -> None:
    daemon = core(hook("sees", "observe"))
    daemon.handle(ask())
    out = daemon.handle(on.CancelAsked(2.0, ALICE, 5, "r"))
    (call,) = only(out, do.CallHooks)
    assert (call.point, call.so_far, call.reply) == ("observe", True, False)
    assert call.value["answer"]["failed"]["code"] == "cancelled"
    kinds = [type(effect) for effect in out]
    assert kinds.index(do.CallHooks) < kinds.index(do.CutStream) < kinds.index(do.ForgetHooks)


def test_an_end_is_observed_once() -> None:
    daemon = core(hook("sees", "observe"))
    daemon.handle(ask())
    daemon.handle(on.RunEnded(4.0, "r", "stop", 1, 0, 1, 0.1, None, None))
    out = daemon.handle(on.StationsEnded(4.1, "r", "text"))
    assert called(out) == [(MAIN, "observe", ("sees",))]
    assert told(out) == [("sees", "observe", "told")]
    assert called(daemon.handle(on.ConnectionGone(5.0, 1, False))) == [], "its reader goes before it has all of it"


def test_what_plugins_fail_at_when_nobody_waits_is_counted_and_trips_them() -> None:
    sees = hook("sees", "observe")
    daemon = core(sees)
    out = daemon.handle(on.Observed(2.0, MAIN, "observe", (HookResult("sees", "error", "geheim"),)))
    (line,) = only(out, do.Log)
    assert line.hook == "sees" and "geheim" not in line.text
    for _ in range(4):
        out = daemon.handle(on.ObserverFailed(2.0, MAIN, "observe", ("sees",), "late"))
    assert (sees.tally.failed, sees.tally.why) == (5, "late")
    assert [one.value["state"] for one in only(out, do.Publish)] == ["tripped"]
    daemon.handle(ask())
    daemon.handle(on.RunEnded(4.0, "r", "stop", 1, 0, 1, 0.1, None, None))
    assert told(daemon.handle(on.StationsEnded(4.1, "r", "text"))) == [("sees", "observe", "skipped")]
    assert daemon.handle(on.Observed(5.0, MAIN, "model", (HookResult("gone"),))) == []


def test_observers_of_clients_are_counted_where_they_confirm() -> None:
    daemon = core()
    daemon.handle(offered("ears", "observe", "model", confirms=True))
    daemon.handle(ask())
    daemon.handle(on.RunEnded(2.0, "r", "stop", 1, 0, 1, 0.1, None, None))
    (call,) = only(daemon.handle(on.StationsEnded(2.1, "r", "text")), do.CallHooks)
    assert (call.provider, call.reply, call.confirmed) == ("conn:7", False, True)
    daemon.handle(on.Observed(2.2, "conn:7", "observe", (HookResult("ears", us=5),)))
    daemon.handle(on.ObserverFailed(2.3, "conn:7", "observe", ("ears",), "late"))
    daemon.handle(on.ObserverFailed(2.3, "conn:8", "observe", ("ears",), "another's"))
    tally = daemon.pipeline.registry.entries["uid:1000/ears"].tally
    assert (tally.calls, tally.failed, tally.why) == (2, 1, "late")
    daemon.handle(offered("old", "observe"))
    daemon.handle(ask(id="s"))
    daemon.handle(on.RunEnded(3.0, "s", "stop", 1, 0, 1, 0.1, None, None))
    (call,) = only(daemon.handle(on.StationsEnded(3.1, "s", "text")), do.CallHooks)
    assert (call.hooks, call.confirmed) == (("ears", "old"), False), "one message, and not all of it would be answered"


def test_an_answer_that_is_stopped_while_its_worker_is_dead_costs_the_next_one_nothing() -> None:
    daemon = core(hook("brake", "chunk"))
    daemon.handle(ask())
    daemon.handle(on.WorkerGone(2.0, "ember", 50, "killed"))
    daemon.handle(on.WorkerAttached(3.0, "ember", "51", 51))
    daemon.requests.records["r"].worker = "51"  # which holds it until there is a place
    assert daemon.handle(on.StationStopped(3.05, "r", "brake", "enough")) == [], "what it holds is begun first"
    daemon.requests.records["r"].worker = None
    out = daemon.handle(on.WorkerReady(3.1, "ember", 51))
    assert [type(one) for one in out if isinstance(one, do.RunRequest | do.AbortRequest)] == [
        do.RunRequest, do.AbortRequest
    ]  # fmt: skip
    daemon.handle(on.RunEnded(3.2, "r", "abort", 1, 0, 5, 0.1, None, None))
    finished = end(daemon.handle(on.StationsEnded(3.3, "r", "text")))
    assert isinstance(finished, Done) and finished.finish == "content_filter"
