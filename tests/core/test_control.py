"""The core as lists of events and the effects that they cause."""

import pytest
from ingle.wire.schema import Accepted, Failed, Progress
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.desk import Limits
from ingled.core.residency import IllegalTransition, Model, State

from tests.core.driven import ALICE, control, ended, ends, make_ready, only, refusals, request


def test_a_request_for_a_cold_model_loads_it_and_waits() -> None:
    core = control()
    effects = core.handle(request())
    assert only(effects, do.StartWorker) == [do.StartWorker("ember")]
    assert [type(e.message) for e in only(effects, do.Send)] == [Accepted, Progress]
    assert only(effects, do.RunRequest) == []
    assert core.models["ember"].state is State.LOADING
    assert only(core.handle(request("r2")), do.StartWorker) == []
    assert [run.record.id for run in only(make_ready(core), do.RunRequest)] == ["r1", "r2"]


def test_a_request_for_a_ready_model_runs_at_once() -> None:
    core = control()
    core.handle(on.LoadAsked(0.0, ALICE, 1, "ember", wait=False))
    make_ready(core)
    (run,) = only(core.handle(request()), do.RunRequest)
    assert (run.worker, run.record.id, run.record.account) == ("50", "r1", "uid:1000")


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    effects = control().handle(request(model="embr"))
    (send,) = only(effects, do.Send)
    assert isinstance(send.message, Failed)
    assert (send.message.code, send.message.ref, send.message.at) == ("no_such_model", 9, "model")
    assert "did you mean 'ember'?" in send.message.hint


def test_when_draining_takes_too_long_what_runs_is_ended() -> None:
    core = control()
    core.handle(request())
    core.handle(request("r2", detach=True))
    make_ready(core)
    core.handle(on.DrainAsked(3.0))
    assert ends(core.handle(on.DrainExpired(4.0))) == [("r1", "draining"), ("r2", "draining")]


def test_queues_and_accounts_have_bounds() -> None:
    core = control(queue=2, open_requests=3)
    assert refusals([*core.handle(request("r1")), *core.handle(request("r2"))]) == []
    assert refusals(core.handle(request("r3"))) == ["queue_full"]
    core.handle(request("r4", model="coal"))
    assert refusals(core.handle(request("r5", model="coal"))) == ["over_limit"]


def test_draining_refuses_new_requests_and_says_when_the_last_has_ended() -> None:
    core = control()
    core.handle(request())
    make_ready(core)
    assert only(core.handle(on.DrainAsked(3.0)), do.Drained) == []
    assert refusals(core.handle(request("r2"))) == ["draining"]
    core.handle(ended())
    assert only(core.handle(on.Delivered(4.0, "r1")), do.Drained) == [do.Drained()]
    assert only(control().handle(on.DrainAsked(1.0)), do.Drained) == [do.Drained()]


def test_an_illegal_transition_names_model_state_and_cause_and_tells_the_story() -> None:
    from ingled.core.residency import Cause

    model = Model("ember")
    model.move(1.0, Cause.WANTED)
    with pytest.raises(IllegalTransition, match=r"'ember' is loading: 'wanted'.*2\.0 s ago: cold -> loading"):
        model.move(3.0, Cause.WANTED)
    assert model.state is State.LOADING


def test_a_model_abandoned_after_a_bug_fails_its_requests_and_no_others() -> None:
    core = control()
    core.handle(request("r1"))
    core.handle(request("r2", model="coal"))
    make_ready(core)
    make_ready(core, "coal", pid=60)
    assert ends(core.abandon(3.0, "ember", "bug")) == [("r1", "internal")]
    assert core.models["coal"].state is State.READY


def test_settings_that_changed_hold_for_what_comes_next() -> None:
    core = control(queue=1)
    core.handle(request("r1"))
    assert refusals(core.handle(request("r2"))) == ["queue_full"]
    assert core.handle(on.SettingsChanged(2.0, Limits(queue=2, keep_s=7.0), {}, 5.0, 9.0)) == []
    assert refusals(core.handle(request("r3"))) == []
    assert refusals(core.handle(request("r4"))) == ["queue_full"]
    assert core.desk.limits.keep_s == 7.0
