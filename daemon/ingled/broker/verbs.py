"""What a client may ask of the daemon itself: one function a verb (docs/protocol.md, section 6)."""

import os
import resource
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from ingle.wire.hook_schema import HookReply, Point
from ingle.wire.limits import PROTOCOL
from ingle.wire.schema import Call, Failed, Result
from msgspec import Meta, Struct

from ingled.broker.checkup import doctor
from ingled.broker.front import Connection
from ingled.broker.nursery_child import tail
from ingled.broker.planning import PlanArgs, plan
from ingled.broker.reading import read_args
from ingled.broker.reload import effective, reload
from ingled.config import ConfigError
from ingled.core import events as on
from ingled.core.accounts import Right, Rights, lacking, visible
from ingled.core.requests import Stage
from ingled.core.residency import Model, State
from ingled.link import worker_log

if TYPE_CHECKING:
    from ingled.broker.shell import Shell


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """A verb without arguments."""


class OneModel(Struct, frozen=True, forbid_unknown_fields=True):
    """A verb about one model."""

    model: str


class LoadArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `load`."""

    model: str
    wait: bool = True


class UnloadArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `unload`."""

    model: str
    force: bool = False


GOES = "the configuration has it no more: it goes when its requests have ended"

Verb = Callable[["Shell", Connection, int, Any], None]


def answer(shell: "Shell", connection: Connection, call: Call) -> None:
    """Carry out a call, or refuse it."""
    found = VERBS.get(call.verb)
    if found is None:
        known = ", ".join(VERBS)
        code = "unsupported" if call.verb in RESERVED else "bad_value"
        text = f"verb is '{call.verb[:64]}': this daemon has {known}"
        shell.front.fail(connection.number, call.ref, code, text, at="verb")  # type: ignore[arg-type]
        return
    kind, right, verb = found
    if right is not None and right not in connection.rights.may:
        text, hint = lacking(right, connection.account, f"'{call.verb}'")
        shell.front.fail(connection.number, call.ref, "not_allowed", text, hint, at="verb")
        return
    args = read_args(call.ref, call.args, kind)
    if isinstance(args, Failed):
        shell.front.send(connection.number, args)
    else:
        verb(shell, connection, call.ref, args)


def _status(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    control, front = shell.control, shell.front
    states = [control.models[name].state for name in visible(control.models, connection.rights)]
    routers = (front.router, shell.workers.router)
    value = {
        "daemon": {
            **shell.identity,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - shell.started_at, 1),
            "socket": str(shell.config.socket),
            "state_dir": str(shell.config.state),
            "rss_bytes": rss_bytes(),
            "draining": control.draining,
            "config_problem": shell.config_problem,
        },
        "protocol": list(PROTOCOL),
        "models": {
            "total": len(states),
            "ready": states.count(State.READY),
            "loading": states.count(State.LOADING),
            "failed": states.count(State.FAILED),
        },
        "requests": {
            "filtering": control.requests.stages[Stage.FILTERING],
            "running": control.requests.stages[Stage.RUNNING],
            "queued": control.requests.stages[Stage.QUEUED],
            "ending": control.requests.stages[Stage.ENDING],
            "done_total": control.requests.done_total,
            "failed_total": control.requests.failed_total,
        },
        "connections": len(front.connections),
        "sessions": front.sessions,
        "dropped": {
            "unreadable": front.unreadable,
            "no_identity": sum(router.no_identity for router in routers),
            "clogged": front.router.clogged,
            "held_back": sum(router.held_back for router in routers),
        },
        "nursery": {"state": shell.workers.nursery_phase, "pid": shell.nursery.pid},
    }
    front.send(connection.number, Result(ref, value))


def _whoami(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    person, rights = shell.people.person(connection.peer.uid), connection.rights
    value = {
        "account": person.account,
        "user": person.user,
        "groups": sorted(person.groups),
        "models": visible(shell.control.models, rights),
        **rights.describe(),
        "open_requests": shell.control.requests.open_of(person.account),
        "tokens_left": shell.control.desk.quotas.left(shell.loop.time(), person.account),
    }
    shell.front.send(connection.number, Result(ref, value))


OF_WORKERS = (
    *("phase", "percent", "kv_use", "kv_tokens", "kv_bytes", "weights_bytes", "rss_bytes", "tokens_total", "tokens_s"),
    *("devices", "prompt_tokens", "cached_tokens", "need_bytes", "need_source", "taken_bytes", "expires_s"),
)
"""What is known only of models that have a worker of their own."""


def describe(shell: "Shell", model: Model, rights: Rights) -> dict[str, Any]:
    """Return what is known of a model; what is not known, or is of its inside and not for this caller, is None."""
    now = shell.loop.time()
    if model.adapts is not None:
        return _adapter(shell, model, model.adapts, rights)
    worker = shell.workers.of(model.name)
    info = worker.info if worker else None
    stats = worker.stats if worker else None
    idle = model.state is State.READY and worker and not (stats and (stats.running or stats.waiting))
    return {
        **_named(shell, model, rights),
        "engine": info.engine if info else shell.config.engine,
        "source": shell.specs[model.name].source,
        "context": info.context if info else shell.specs[model.name].options.get("max_model_len"),
        "why": model.why or shell.needs.problems.get(model.name) or (GOES if model.leaving else None),
        "phase": model.phase if model.state is State.LOADING else None,
        "percent": model.percent if model.state is State.LOADING else None,
        "device": info.device if info else None,
        "devices": _devices(shell, model) if info else None,
        "kv_use": stats.kv_use if stats else (0.0 if info else None),
        "kv_tokens": info.kv_tokens if info else None,
        "kv_bytes": info.kv_bytes if info else None,
        "weights_bytes": info.weights_bytes if info else None,
        "rss_bytes": stats.rss_bytes if stats else None,
        "running": stats.running if stats else 0,
        "waiting": (stats.waiting if stats else 0) + len(shell.control.requests.turns[model.name].waiting),
        "tokens_total": stats.completion_tokens if stats else 0,
        "tokens_s": round(worker.tokens_s, 1) if worker else 0.0,
        "prompt_tokens": stats.prompt_tokens if stats else 0,
        "cached_tokens": stats.cached_tokens if stats else 0,
        "idle_s": round(now - worker.busy_at, 1) if worker and idle else None,
        "load_s": round(info.load_s, 2) if info else None,
        "need_bytes": model.terms.need or None,
        "need_source": shell.needs.need(model.name).source,
        "taken_bytes": shell.needs.taken_by(worker) if worker else None,
        "sleep_level": model.level or None,
        "no_sleep": model.sleep.why_not or None if worker else None,
        "pinned": model.pinned,
        "expires_s": _expires(model, now),
    }


def _named(shell: "Shell", model: Model, rights: Rights) -> dict[str, Any]:
    """Return what is known of every model, adapters included."""
    now, inside, blot = shell.loop.time(), "load" in rights.may, shell.control.names.blot
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "default": model.name == control_default(shell),
        "ops": list(model.ops),
        "base": None if model.adapts is None else blot(model.adapts, rights),
        "state": model.state.value,
        "license": model.license,
        "revision": model.revision,
        "why": None if model.why is None else blot(model.why, rights),
        "log": list(model.log) if inside and model.log else None,
        "since_s": round(now - model.since, 1) if model.since else None,
        "pid": model.pid,
        "waits": None if model.waits is None else blot(model.waits[1], rights),
    }


def _adapter(shell: "Shell", model: Model, base: str, rights: Rights) -> dict[str, Any]:
    """Return what is known of an adapter; memory and tokens are those of its base's worker, and told there."""
    worker, turns = shell.workers.of(base), shell.control.requests.turns[model.name]
    info = worker.info if worker and model.state is State.READY else None
    idle = model.state is State.READY and not turns.running
    return {
        **_named(shell, model, rights),
        "engine": info.engine if info else shell.config.engine,
        "source": shell.adapters[model.name].path,
        "context": info.context if info else shell.config.models[base].context,
        "device": info.device if info else None,
        "running": len(turns.running),
        "waiting": len(turns.waiting),
        "idle_s": round(model.idle(shell.loop.time()), 1) if idle else None,
        "load_s": round(model.terms.reload_s, 2) if model.loads else None,
        "pinned": False,
    } | dict.fromkeys(OF_WORKERS)


def _devices(shell: "Shell", model: Model) -> list[str]:
    """Return the names of the devices that a model is on."""
    devices = shell.control.residents.devices
    return [devices[index].name for index in model.on if index < len(devices)]


def _expires(model: Model, now: float) -> float | None:
    """Return the seconds after which a model is unloaded, if nobody asks it."""
    if model.ttl is None or model.pinned or model.state not in (State.READY, State.SLEEPING):
        return None
    return round(max(0.0, model.ttl - model.idle(now)), 1)


def control_default(shell: "Shell") -> str:
    """Return the model of requests that name none."""
    return shell.control.names.default


def _models(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    models, rights = shell.control.models, connection.rights
    found = [describe(shell, models[name], rights) for name in visible(models, rights)]
    shell.front.send(connection.number, Result(ref, {"models": found}))


def _show(shell: "Shell", connection: Connection, ref: int, args: OneModel) -> None:
    name = shell.usable(connection, ref, args.model)
    if name is None:
        return
    model = shell.control.models[name]
    spec, adapter = shell.specs[model.adapts or name], shell.adapters.get(name)
    rights = connection.rights
    inside = "load" in rights.may
    log = list(model.log or tail(worker_log(shell.config.runtime, name))) if inside else []
    extra = {
        "options": spec.options if inside else None,
        "sampling": adapter.sampling if adapter else spec.sampling,
        "log": log,
        "story": [shell.control.names.blot(line, rights) for line in model.story.lines(shell.loop.time())],
    }
    shell.front.send(connection.number, Result(ref, describe(shell, model, rights) | extra))


class RequestsArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `requests`."""

    all: bool = False


def _requests(shell: "Shell", connection: Connection, ref: int, args: RequestsArgs) -> None:
    now, account = shell.loop.time(), connection.account
    if args.all and "requests" not in connection.rights.may:
        text, hint = lacking("requests", account, "see the requests of others")
        shell.front.fail(connection.number, ref, "not_allowed", text, hint, at="args.all")
        return
    found = [
        {
            "id": record.id,
            "model": record.model,
            "state": record.stage.value,
            "op": record.op,
            "age_s": round(now - record.arrived, 1),
            "offset": stream.end if (stream := shell.flow.streams.get(record.id)) else 0,
            "detach": record.detach,
            "account": record.account,
        }
        for record in shell.control.requests.records.values()
        if args.all or record.account == account
    ]
    shell.front.send(connection.number, Result(ref, {"requests": found}))


class SleepArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `sleep`; without a level, the lightest for which there is memory."""

    model: str
    level: Annotated[int, Meta(ge=1, le=2)] | None = None


class WakeArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `wake`."""

    model: str
    wait: bool = True


def _sleep(shell: "Shell", connection: Connection, ref: int, args: SleepArgs) -> None:
    shell.dispatch(on.SleepAsked(shell.loop.time(), connection.caller, ref, args.model, args.level))


def _wake(shell: "Shell", connection: Connection, ref: int, args: WakeArgs) -> None:
    name = shell.usable(connection, ref, args.model)
    if name is None:
        return
    state = shell.control.models[name].state
    if state in (State.COLD, State.FAILED, State.STOPPING):
        text = f"model '{name}' is {state.value}: there is nothing to wake"
        shell.front.fail(connection.number, ref, "conflict", text, f"`ingle load {name}` loads it")
        return
    shell.dispatch(on.LoadAsked(shell.loop.time(), connection.caller, ref, name, args.wait))


def _load(shell: "Shell", connection: Connection, ref: int, args: LoadArgs) -> None:
    shell.dispatch(on.LoadAsked(shell.loop.time(), connection.caller, ref, args.model, args.wait))


def _unload(shell: "Shell", connection: Connection, ref: int, args: UnloadArgs) -> None:
    shell.dispatch(on.UnloadAsked(shell.loop.time(), connection.caller, ref, args.model, args.force))


class PinArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `pin`; `pinned` is False to unpin."""

    model: str
    pinned: bool = True


class WantArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `want`."""

    model: str
    within_ms: Annotated[int, Meta(ge=0)] = 5000


class YieldArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `yield`."""

    bytes: Annotated[int, Meta(ge=1)] | None = None


def _pin(shell: "Shell", connection: Connection, ref: int, args: PinArgs) -> None:
    shell.dispatch(on.PinAsked(shell.loop.time(), connection.caller, ref, args.model, args.pinned))


def _want(shell: "Shell", connection: Connection, ref: int, args: WantArgs) -> None:
    shell.dispatch(on.WantAsked(shell.loop.time(), connection.caller, ref, args.model, args.within_ms / 1000))


def _yield(shell: "Shell", connection: Connection, ref: int, args: YieldArgs) -> None:
    shell.dispatch(on.YieldAsked(shell.loop.time(), connection.caller, ref, args.bytes))


class ShutdownArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `shutdown`."""

    hand_over: bool = False


def _shutdown(shell: "Shell", connection: Connection, ref: int, args: ShutdownArgs) -> None:
    value = {"draining": not args.hand_over, "running": shell.running}
    shell.front.send(connection.number, Result(ref, value))
    if args.hand_over:
        shell.hand_over()
    else:
        shell.drain()


def _hooks(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    now, caller = shell.loop.time(), connection.caller
    entries = [
        one
        for one in shell.control.pipeline.registry.entries.values()
        if one.account is None or caller.sees(one.account)
    ]
    entries.sort(key=lambda one: (one.offer.order, one.name, one.key))
    found = []
    for one in entries:
        host = shell.hosts.current(one.provider.partition(":")[2]) if one.account is None else None
        inside = one.account is not None or "requests" in caller.rights.may
        found.append(one.describe(now, inside) | {"pid": host.pid if host else None})
    shell.front.send(connection.number, Result(ref, {"hooks": found, "problems": _problems(shell)}))


def _problems(shell: "Shell") -> list[dict[str, str]]:
    return [{"plugin": name, "why": why} for name, why in sorted(shell.hosts.problems.items())]


class HookTestArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `hook_test`."""

    hook: str
    point: Point
    value: dict[str, Any]


def _hook_test(shell: "Shell", connection: Connection, ref: int, args: HookTestArgs) -> None:
    entries = shell.control.pipeline.registry.entries
    entry = entries.get(f"{connection.account}/{args.hook}") or entries.get(args.hook)
    front, number = shell.front, connection.number
    if entry is None or entry.account not in (None, connection.account):  # the name may be the key of somebody's hook
        text = f"args.hook is '{args.hook[:64]}': there is no such hook"
        front.fail(number, ref, "bad_value", text, "see `ingle hooks`", at="args.hook")
        return
    if entry.broken or args.point not in entry.offer.points or args.point in ("observe", "model"):
        why = entry.broken or f"hook '{entry.name}' answers at {', '.join(entry.offer.points)}"
        front.fail(number, ref, "bad_value", f"args.point is '{args.point}': {why}", "", at="args.point")
        return
    about = {"account": connection.account, "model": "", "op": "chat", "stream": True, "context": []}
    about |= {"client": connection.client.name, "tags": list(connection.client.tags)}
    began = time.perf_counter()

    def answer(reply: HookReply | str) -> None:
        if isinstance(reply, str):
            front.fail(number, ref, "hook_failed", f"hook '{args.hook}': {reply}", "see `ingle hooks`")
            return
        results = [msgspec.to_builtins(result, builtin_types=(bytes,)) for result in reply.results]
        for result in results:
            result.pop("state", None)  # it may hold what the hook has taken out
        us = round((time.perf_counter() - began) * 1e6)
        front.send(number, Result(ref, {"results": results, "value": reply.value, "us": us}))

    said = args.value.get("call")
    call = {**about, **(said if isinstance(said, dict) else {}), "account": connection.account}
    shell.hooks.test(entry, args.point, {**args.value, "call": call}, answer)


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _reload(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    try:
        found = reload(shell)
    except ConfigError as error:
        hint = "nothing has changed; put it right and reload again"
        shell.front.fail(connection.number, ref, "bad_value", str(error), hint)
        return

    def answer() -> None:
        value = {**found.describe(), "problems": _problems(shell)}
        shell.front.send(connection.number, Result(ref, value))

    shell.hosts.when_settled(answer)


def _config(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    value = {"settings": effective(shell.config), "problem": shell.config_problem}
    shell.front.send(connection.number, Result(ref, value))


VERBS: dict[str, tuple[type[Struct], Right | None, Verb]] = {
    "status": (Nothing, None, _status),
    "whoami": (Nothing, None, _whoami),
    "models": (Nothing, None, _models),
    "show": (OneModel, None, _show),
    "requests": (RequestsArgs, None, _requests),
    "plan": (PlanArgs, None, plan),
    "doctor": (Nothing, "load", doctor),
    "load": (LoadArgs, "load", _load),
    "unload": (UnloadArgs, "load", _unload),
    "sleep": (SleepArgs, "load", _sleep),
    "wake": (WakeArgs, "load", _wake),
    "pin": (PinArgs, "load", _pin),
    "want": (WantArgs, None, _want),
    "yield": (YieldArgs, "load", _yield),
    "hooks": (Nothing, None, _hooks),
    "hook_test": (HookTestArgs, None, _hook_test),
    "reload": (Nothing, "shutdown", _reload),
    "config": (Nothing, "shutdown", _config),
    "shutdown": (ShutdownArgs, "shutdown", _shutdown),
}
"""Verb -> arguments, the right that it takes, function."""

RESERVED = frozenset({"pull", "usage", "verify"})
"""Verbs that later versions of the protocol will have."""
