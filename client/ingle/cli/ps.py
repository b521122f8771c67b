"""`ingle ps`: the models that are in memory."""

from __future__ import annotations

from ingle.bytesize import spell
from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import duration, next_step, print_json, put, table, text_of, visible
from ingle.line import Line

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any

HEADINGS = (
    *("NAME", "STATE", "DEVICE", "MEMORY", "WEIGHTS", "CACHE", "USED"),
    *("RUNNING", "WAITING", "TOKENS/S", "IDLE", "EXPIRES"),
)
NUMBERS = HEADINGS[3:]
LOG_LINES = 5


def run(given: Given) -> int:
    """Print the models that are not cold."""
    with Line(given.value("socket")) as line:
        models = [one for one in line.call("models")["models"] if one["state"] != "cold" or one.get("waits")]
    if given.switch("json"):
        print_json({"models": models})
    else:
        table(HEADINGS, [_row(model) for model in models], NUMBERS)
        for model in models:
            if model["state"] == "failed":
                put(_failure(model))
            elif model.get("waits"):
                put(f"\n{visible(model['waits'])}\n")
    return 0


def _failure(model: dict[str, Any]) -> str:
    """Why a model is not there, what may be done, and the last words of its worker."""
    why = f"\n{model['name']}: {model.get('why') or 'failed'}; {next_step(model)}"
    lines = [why, *(model.get("log") or [])[-LOG_LINES:]]
    return visible("\n  ".join(lines) + "\n", lines=True)


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    use, rate = model.get("kv_use"), model.get("tokens_s")
    base, awake = model.get("base"), model["state"] != "sleeping"
    return (
        f"{model['name']} (on {base})" if base else model["name"],
        _state(model),
        _device(model),
        spell(model.get("taken_bytes") or model.get("rss_bytes")),
        spell(model.get("weights_bytes") if awake else None),
        spell(model.get("kv_bytes") if awake else None),
        "-" if use is None or not awake else f"{use * 100:.0f}%",
        text_of(model.get("running")),
        text_of(model.get("waiting")),
        "-" if rate is None else f"{rate:.1f}",
        duration(model.get("idle_s")),
        "pinned" if model.get("pinned") else duration(model.get("expires_s")),
    )


def _device(model: dict[str, Any]) -> str:
    """Where the model runs; where there are several places, which."""
    devices = model.get("devices") or []
    return ", ".join(devices) if devices and devices != ["memory"] else text_of(model.get("device"))


def _state(model: dict[str, Any]) -> str:
    percent, level = model.get("percent"), model.get("sleep_level")
    if model["state"] == "sleeping" and level is not None:
        return f"sleeping {level}"
    return f"{model['state']} {percent:.0f}%" if model["state"] == "loading" and percent is not None else model["state"]


VERB = Verb(
    "ps",
    run,
    """
    Prints a line for each model that is not cold: its state, where it runs, the memory that it takes in all, of
    that its weights and KV cache, how full the cache is, requests that run and that wait, tokens per second of
    late, for how long it has had nothing to do, and when it is unloaded if that goes on. A model that is wanted
    and waits for room is listed too, with what it waits for. Of a model that sleeps, the level stands behind its
    state. An adapter runs on its base, whose memory and tokens are those of both. A dash: not known, or never.
    """,
    options=(JSON,),
    examples=(("ingle ps", "Who is warm?"), ("watch -n1 ingle ps", "Looks again every second.")),
)
