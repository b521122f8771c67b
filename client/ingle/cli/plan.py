"""`ingle plan`: would a model fit?"""

from __future__ import annotations

from ingle.bytesize import parse, spell
from ingle.cli.follow import waiting_for
from ingle.cli.grammar import JSON, Given, Option, Verb
from ingle.cli.output import StatusLine, duration, print_json, put, visible
from ingle.line import Line

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any

SOURCES = {
    "configured": "as configured",
    "measured": "as measured at the last load of its weights with its options",
    "estimated": "as the engine estimates",
    "bound": "at least: by the headers of its weights alone",
    "unknown": "not known",
}
PARTS = {"weights": "weights", "kv_cache": "KV cache", "activations": "activations", "process": "process"}
SAYS = {
    "fits": "it fits",
    "resident": "it is there",
    "evict": "it fits when others go",
    "wait": "it will fit, but not yet",
    "never": "it does not fit",
    "refused": "it cannot be loaded like that",
    "unknown": "whether it fits is not known",
}
UNFIT = 5


def run(given: Given) -> int:
    """Print what a model takes, and whether there is room."""
    args: dict[str, Any] = {"model": given.words[0]}
    for key in ("context", "dtype", "quantization", "kv-cache", "concurrency"):
        if given.value(key) is not None:
            args[key.replace("-", "_")] = given.value(key)
    status = StatusLine()
    with Line(given.value("socket")) as line:
        try:
            plan = line.call("plan", args, forever=True, on_progress=lambda m: status.show(_starts(m)))
        finally:
            status.clear()
    if given.switch("json"):
        print_json(plan)
    else:
        put("\n".join(visible(text) for text in _lines(plan)) + "\n")
    return UNFIT if plan["fits"] is False else 0


def _starts(progress: dict[str, Any]) -> str:
    """Return how far the engine's own start is: no model is loaded."""
    return waiting_for({**progress, "phase": "queued"}, bar=True)


def _lines(plan: dict[str, Any]) -> list[str]:
    need, device = plan["need"], plan["device"]
    lines = [f"{plan['model']}: {SAYS.get(plan['decision'], plan['decision'])}"]
    if plan.get("why"):
        lines.append(f"  {plan['why']}")
    if plan["evicts"]:
        lines.append(f"  would be put out: {', '.join(plan['evicts'])}")
    if plan["decision"] == "refused":
        return lines
    lines.append(f"needs          {spell(need['bytes'])} ({SOURCES.get(need['source'], need['source'])})")
    for key, name in PARTS.items():
        if need.get(key):
            lines.append(f"  {name:<13}{spell(need[key])}{_cache(plan) if key == 'kv_cache' else ''}")
    budget = device["budget_bytes"]
    whole = "no bound is known" if budget is None else f"{spell(budget)} for models"
    lines.append(f"room           {whole} ({device['name']}), {spell(device['taken_bytes'])} taken by others")
    lines.append(f"load           {'it was never loaded' if plan['load_s'] is None else duration(plan['load_s'])}")
    for one in plan["would_fit"]:
        lines.append(f"would fit      {_change(one)} ({spell(one['need_bytes'])})")
    if plan["decision"] == "never" and not plan["would_fit"]:
        lines.append("would fit      nothing: no shorter context, no other dtype, no fewer bits a weight")
    if plan.get("note"):
        lines.append(f"note           {plan['note']}")
    return lines


def _cache(plan: dict[str, Any]) -> str:
    context, answers = plan["options"].get("context"), plan["need"].get("answers")
    if not context or answers is None:
        return ""
    number = f"{answers:g}" if answers < 10 else f"{answers:.0f}"
    return f"  {number} answers of {context} tokens"


def _change(one: dict[str, Any]) -> str:
    value = one["value"]
    match one["what"]:
        case "unload":
            return f"without {', '.join(value)}"
        case "quantization":
            return f"a variant of it with {value}s a weight"
        case "kv_cache":
            return f"a KV cache of {value}"
        case what:
            return f"with {what} {value}"


VERB = Verb(
    "plan",
    run,
    """
    Says whether MODEL fits where models are, what it takes part by part and how that is known, which models
    would be put out for it, how long its last load took, and, when it does not fit, what would: a shorter
    context, another dtype, a quantized variant, other models not being there. With options it says so of the
    model as it would be with these; what it really runs with is in the daemon's configuration. While the
    engine still starts it waits for that, two minutes at most; then it says what the headers of the weights tell.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(
        Option(("--context",), "Tokens of prompt and answer together.", "N", int),
        Option(("--dtype",), "Such as bfloat16.", "DTYPE"),
        Option(("--quantization",), "As the engine names it, such as fp8.", "METHOD"),
        Option(("--kv-cache",), "Size of the KV cache, such as 512MiB.", "SIZE", parse),
        Option(("--concurrency",), "Room in the KV cache for so many answers of full length.", "N", int),
        JSON,
    ),
    examples=(
        ("ingle plan coder", "Would it fit?"),
        ("ingle plan coder --context 8192 --dtype bfloat16", "And like that?"),
    ),
    exits=((UNFIT, "It does not fit, or not now."),),
)
