"""What is told of a model: by the verbs `models` and `show`."""

from typing import TYPE_CHECKING, Any

from ingled import link
from ingled.core.accounts import Rights
from ingled.core.residency import Model, State

if TYPE_CHECKING:
    from ingled.broker.shell import Shell

GOES = "the configuration has it no more: it goes when its requests have ended"

OF_WORKERS = (
    *("phase", "percent", "kv_use", "kv_tokens", "kv_bytes", "weights_bytes", "rss_bytes", "tokens_total", "tokens_s"),
    *("devices", "prompt_tokens", "cached_tokens", "need_bytes", "need_source", "taken_bytes", "most_bytes"),
    "expires_s",
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
        "percent": model.so_far(now) if model.state is State.LOADING else None,
        "device": info.device if info else None,
        "devices": _devices(shell, model) if info else None,
        "kv_use": stats.kv_use if stats else (0.0 if info else None),
        "kv_tokens": info.kv_tokens if info else None,
        "kv_bytes": info.kv_bytes if info else None,
        "weights_bytes": weights_bytes(shell, model.name, info) if info else None,
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
        "taken_bytes": worker.taken if worker else None,
        "most_bytes": worker.most if worker else None,
        "sleep_level": model.level or None,
        "no_sleep": model.sleep.why_not or None if worker else None,
        "pinned": model.pinned,
        "expires_s": _expires(model, now),
    }


def weights_bytes(shell: "Shell", name: str, info: link.Info) -> int:
    """Return what a model's weights take where it runs, with the copies that its engine makes: as its plan says."""
    return info.device_weights or shell.needs.need(name).parts.weights or info.weights_bytes


def _named(shell: "Shell", model: Model, rights: Rights) -> dict[str, Any]:
    """Return what is known of every model, adapters included."""
    now, inside, blot = shell.loop.time(), "load" in rights.may, shell.control.names.blot
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "default": model.name == shell.control.names.default,
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
