"""The verb `plan`: whether a model fits, what it takes, who would go for it, and what would fit instead."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from ingle.wire.schema import Progress, Result
from msgspec import Meta, Struct

from ingled import link
from ingled.broker.front import Connection
from ingled.core.accounts import Rights, visible
from ingled.core.naming import SOMEBODY
from ingled.core.need import Need, changes
from ingled.core.placement import Decision, Device, Evict, Fits, Resident
from ingled.core.residency import Model, State
from ingled.core.topology import Placed, place, share

if TYPE_CHECKING:
    from ingled.broker.shell import Shell


class PlanArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `plan`: a model, and options that it would have instead of those of its profile."""

    model: str
    context: Annotated[int, Meta(ge=16)] | None = None
    dtype: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    quantization: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    kv_cache: Annotated[int, Meta(ge=1 << 20)] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=65536)] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Return what differs, by the engine's names."""
        return {
            "max_model_len": self.context,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "kv_cache_memory_bytes": self.kv_cache,
        }


def plan(shell: "Shell", connection: Connection, ref: int, args: PlanArgs) -> None:
    """Answer when the engine has said what the model would take, once it has started; nothing is done."""
    name = shell.usable(connection, ref, args.model)
    if name is None:
        return
    number, rights = connection.number, connection.rights
    asked, home = shell.control.models[name], shell.control.models[name].adapts or name
    now = shell.specs[home]
    spec = with_changes(now, args.options)
    if args.concurrency is not None:
        options = spec.options if args.kv_cache else {**spec.options, "kv_cache_memory_bytes": None}
        spec = msgspec.structs.replace(spec, concurrency=args.concurrency, options=options)

    def planned(need: Need, found: link.Planned) -> None:
        need = shell.needs.need(home) if spec == now and need.source != "unknown" else need
        value = _value(shell, rights, shell.control.models[home], spec, need, found, changed=spec != now)
        if asked.adapts is not None:  # it takes what its base does, and nothing beside it
            there = asked.state in (State.READY, State.LOADING)
            word = "fits" if value["decision"] == "resident" and not there else value["decision"]
            value |= {"model": name, "state": asked.state.value, "decision": word}
        value["base"] = None if asked.adapts is None else shell.control.names.blot(asked.adapts, rights)
        shell.front.send(number, Result(ref, value))

    def tell(percent: int) -> None:
        shell.front.send(number, Progress("loading", ref=ref, percent=percent, what="starting the engine"))

    shell.needs.plan(home, spec, planned, tell)


def with_changes(spec: link.Spec, changes: Mapping[str, Any]) -> link.Spec:
    """Return a spec with other launch options, by their names in `AsyncEngineArgs`; None leaves one as it is."""
    options = {**spec.options, **{key: value for key, value in changes.items() if value is not None}}
    return msgspec.structs.replace(spec, options=options)


def _value(
    shell: "Shell", rights: Rights, model: Model, spec: link.Spec, need: Need, found: link.Planned, *, changed: bool
) -> dict[str, Any]:
    residents = shell.control.residents
    now, estimate = shell.loop.time(), found.estimate
    there = [one for one in residents.present(now) if one.name != model.name]
    spread = spec.options.get("tensor_parallel_size") or 1
    terms = replace(model.terms, need=need.bytes, devices=spread)
    outlook = residents.outlook(model)
    placed = place(residents.policy, model.name, terms, there, residents.devices, outlook=outlook)
    decision = placed.decision if found.reason is None and need.bytes else None
    if model.state in (State.READY, State.LOADING, State.STOPPING):
        placed = Placed(placed.decision, model.on)
    devices = [residents.devices[index] for index in placed.on] or residents.devices
    on = set(placed.on) or set(range(len(residents.devices)))
    there = [one for one in there if on & set(one.on)]
    budgets = [one.budget for one in devices]
    whole = None if None in budgets else sum(one or 0 for one in budgets)
    device = Device(", ".join(one.name for one in devices), whole)
    word, fits = _word(decision, found, model, changed)
    may_see = set(visible(shell.control.models, rights))
    open_to = [] if fits or found.reason is not None else changes(need, device, there)
    if word == "resident":
        decision = None  # what would be if it were not there
    parts, why = need.parts, found.reason or getattr(decision, "why", None)
    return {
        "model": model.name,
        "state": model.state.value,
        "options": {
            "context": estimate.context if estimate else need.context or spec.options.get("max_model_len"),
            "dtype": estimate.dtype if estimate else spec.options.get("dtype"),
            "quantization": spec.options.get("quantization"),
            "concurrency": spec.concurrency,
        },
        "fits": fits,
        "decision": word,
        "why": shell.control.names.blot(why, rights) if why else None,
        "evicts": _names(decision.models if isinstance(decision, Evict) else (), may_see),
        "need": {
            "bytes": need.bytes or None,
            "source": need.source,
            "weights": parts.weights or None,
            "kv_cache": parts.kv_cache or None,
            "activations": parts.activations or None,
            "process": parts.process or None,
            "token_bytes": need.token_bytes or None,
            "answers": estimate.answers if estimate else None,
        },
        "device": {"name": device.name, "budget_bytes": device.budget, "taken_bytes": _taken(there, on)},
        "load_s": shell.needs.load_s(model.name, spec),
        "would_fit": [
            {
                "what": one.what,
                "value": _names(one.value, may_see) if isinstance(one.value, tuple) else one.value,
                "need_bytes": one.need,
            }
            for one in open_to
        ],
        "note": found.note or shell.needs.ran_out(model.name, spec) or _failed(shell, rights, model, changed),
    }


def _failed(shell: "Shell", rights: Rights, model: Model, changed: bool) -> str | None:
    """Return why a model could not be loaded when that was tried last: room is not all that it needs."""
    if changed or model.state is not State.FAILED or not model.why:
        return None
    return f"its last load failed: {shell.control.names.blot(model.why, rights)}"


def _word(decision: Decision | None, found: link.Planned, model: Model, changed: bool) -> tuple[str, bool | None]:
    if found.reason is not None:
        return "refused", False
    if not changed and model.state in (State.READY, State.LOADING, State.WAKING, State.CHECKING):
        return "resident", True
    if decision is None:
        return "unknown", None
    word = type(decision).__name__.lower()
    return word, isinstance(decision, Fits | Evict)


def _names(names: tuple[str, ...], may_see: set[str]) -> list[str]:
    return [name if name in may_see else SOMEBODY for name in names]


def _taken(there: Iterable[Resident], on: set[int]) -> int:
    """Return what these take of some devices."""
    return sum(share(one.terms.need, len(one.on)) * len(on & set(one.on)) for one in there)
