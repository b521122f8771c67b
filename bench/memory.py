"""Estimated against measured memory: what the plan said before a first load, what the load took, and what was learned.

    python -m bench.memory [--shapes a b c] [--out bench/results/memory.json]

Each shape is a model with random weights in a folder of its own, loaded twice by a real daemon on the CPU: the first
time nothing has been measured, the second time the ledger has. The first load runs the largest batch as well, so what
is there once it is ready is seen at the second. `taken` is what the worker says of itself; as root it is held against
the kernel's page tables: pages of the worker's processes that no other process of the daemon has.
"""

import argparse
import json
import os
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingled.testing import DaemonFixture, Wire

from bench import proc, shapes
from bench.shapes import Shape

MIB = 1 << 20
LONG_S = 300.0
SEQUENCES = 16
BATCH = 2048
"""Tokens that are computed at once, where nothing is said; vLLM's default."""
WORDS_TOKENS = 8
"""Tokens of `the quick fire`."""
DRIVEN: tuple[dict[str, Any], ...] = ({}, {"top_p": 0.9}, {"top_p": 0.9, "logprobs": True, "top_logprobs": 5})
"""Options with which the largest batch is driven: they decide how much memory the choice of tokens takes."""


@dataclass(frozen=True)
class Case:
    """A model to measure, and how it is run."""

    shape: Shape
    vocabulary: int
    stored: str
    """`BF16` or `F32`."""
    context: int
    kv_mib: int
    architecture: str = "Qwen3ForCausalLM"
    sequences: int = SEQUENCES


CASES = {
    "12m": Case(Shape(256, 6, 4, 2, 64, 768, tied=True), 16_000, "F32", 2048, 64),
    "30m": Case(Shape(384, 8, 6, 6, 64, 1024), 24_000, "BF16", 4096, 256, "LlamaForCausalLM"),
    "80m": Case(Shape(640, 10, 10, 2, 64, 1792, tied=True), 50_000, "BF16", 8192, 192),
    "150m": Case(Shape(768, 10, 12, 4, 64, 2304, tied=True), 100_000, "BF16", 4096, 384),
    "35m": Case(Shape(320, 12, 5, 1, 64, 1024), 32_000, "BF16", 1024, 64, "LlamaForCausalLM", 32),
    "73m": Case(Shape(512, 16, 8, 2, 64, 1536, tied=True), 48_000, "F32", 2048, 160, sequences=8),
    "76m": Case(Shape(448, 6, 7, 7, 64, 1792), 64_000, "BF16", 8192, 256, "LlamaForCausalLM", 4),
    "134m": Case(Shape(768, 12, 12, 12, 64, 2048), 32_000, "BF16", 2048, 256, "LlamaForCausalLM", 24),
    "138m": Case(Shape(896, 10, 14, 2, 64, 2432, tied=True), 60_000, "BF16", 4096, 256, sequences=12),
}
LARGE = {
    "360m": Case(Shape(960, 32, 15, 5, 64, 2560, tied=True), 49_152, "BF16", 4096, 512, "LlamaForCausalLM"),
    "500m": Case(Shape(896, 24, 14, 2, 64, 4864, tied=True), 151_936, "F32", 4096, 256, sequences=12),
    "600m": Case(Shape(1024, 28, 16, 8, 128, 3072, tied=True), 151_936, "BF16", 4096, 1024, sequences=8),
    "1200m": Case(Shape(2048, 16, 32, 8, 64, 8192, tied=True), 128_256, "BF16", 4096, 1024, "LlamaForCausalLM", 8),
}
"""As large as models that people run: each takes minutes."""
SHAPES = CASES | LARGE
"""None of these shapes was looked at when the constants of `ingled.worker.vllm_plan` were chosen."""


def tensors(case: Case) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a model's tensors."""
    s, width = case.shape, case.shape.head_dim
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (case.vocabulary, s.hidden)}
    if not s.tied:
        found["lm_head.weight"] = (case.vocabulary, s.hidden)
    for layer in range(s.layers):
        at = f"model.layers.{layer}."
        found |= {
            f"{at}self_attn.q_proj.weight": (s.heads * width, s.hidden),
            f"{at}self_attn.k_proj.weight": (s.kv_heads * width, s.hidden),
            f"{at}self_attn.v_proj.weight": (s.kv_heads * width, s.hidden),
            f"{at}self_attn.o_proj.weight": (s.hidden, s.heads * width),
            f"{at}mlp.gate_proj.weight": (s.inner, s.hidden),
            f"{at}mlp.up_proj.weight": (s.inner, s.hidden),
            f"{at}mlp.down_proj.weight": (s.hidden, s.inner),
            f"{at}input_layernorm.weight": (s.hidden,),
            f"{at}post_attention_layernorm.weight": (s.hidden,),
        }
        if case.architecture.startswith("Qwen3"):
            found |= {f"{at}self_attn.{name}_norm.weight": (width,) for name in "qk"}
    return found | {"model.norm.weight": (s.hidden,)}


def write(case: Case, folder: Path) -> int:
    """Write a model with random weights; returns their bytes."""
    import numpy

    shapes.write(case.shape, folder, case.vocabulary)
    config = json.loads((folder / "config.json").read_text())
    kind = {"Qwen3ForCausalLM": "qwen3", "LlamaForCausalLM": "llama"}[case.architecture]
    config |= {"architectures": [case.architecture], "model_type": kind}
    config |= {"dtype": {"F32": "float32", "BF16": "bfloat16"}[case.stored], "max_position_embeddings": case.context}
    (folder / "config.json").write_text(json.dumps(config))
    head: dict[str, Any] = {}
    at, width = 0, 4 if case.stored == "F32" else 2
    for name, size in tensors(case).items():
        count = int(numpy.prod(size)) * width
        head[name] = {"dtype": case.stored, "shape": size, "data_offsets": [at, at + count]}
        at += count
    text = json.dumps(head).encode()
    dice = numpy.random.default_rng(1)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for size in tensors(case).values():
            numbers = dice.standard_normal(int(numpy.prod(size)), dtype=numpy.float32) * numpy.float32(0.02)
            if width == 2:  # bfloat16 is the upper half
                file.write((numbers.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes())
            else:
                file.write(numbers.tobytes())
    return at


def profile(name: str, case: Case, folder: Path) -> str:
    """Return a model's table of the configuration."""
    dtype = "float32" if case.stored == "F32" else "bfloat16"
    return f"""
[models.{name}]
source = "{folder}"
context = {case.context}
dtype = "{dtype}"
max_sequences = {case.sequences}
kv_cache = "{case.kv_mib}MiB"
engine = {{enforce_eager = true}}
"""


def measure(name: str, case: Case) -> dict[str, Any]:
    """Plan, load, work, unload and load again one model; returns the figures, in bytes and seconds."""
    with tempfile.TemporaryDirectory(prefix="ingle-memory-") as folder:
        weights = write(case, Path(folder))
        # What vLLM keeps of an architecture is kept: a first load is one of this model, not one of its kind.
        cache = {"VLLM_CACHE_ROOT": os.environ.get("VLLM_CACHE_ROOT") or str(Path.home() / ".cache/vllm")}
        text = profile(name, case, Path(folder))
        with DaemonFixture(text, engine="vllm", environ=cache) as daemon, Wire(daemon.socket) as client:
            deadline = time.monotonic() + LONG_S
            while (plan := client.call("plan", model=name))["need"]["source"] != "estimated":
                if time.monotonic() > deadline:
                    raise RuntimeError(f"no estimate of {name}: {plan}")
                time.sleep(0.5)
            first = load(client, name)
            peaks = [drive(client, name, case)]
            learned = client.call("plan", model=name)
            second = load(client, name)
            peaks.append(drive(client, name, case))
    return {
        "model": name,
        "weights_bytes": weights,
        "estimated": plan["need"],
        "first": first,
        "peaks": peaks,
        "learned": learned["need"],
        "ledger_load_s": learned["load_s"],
        "second": second,
    }


def drive(client: Wire, name: str, case: Case) -> int | None:
    """Run the largest batch of a model that is ready, and unload it; return the most that the kernel saw, as root."""
    for body in DRIVEN:
        if failed := work(client, name, case, case.sequences, body):
            raise RuntimeError(f"{name}: {failed}")
    most = kernel_peak(client, name)
    client.call("unload", model=name)
    wait(client, name, "cold")
    return most


def load(client: Wire, name: str) -> dict[str, Any]:
    """Load a model; returns what it took, how long, and what the kernel says of it."""
    client.call("load", model=name, wait=False)
    model = wait(client, name, "ready")
    return {
        "taken": model["taken_bytes"],
        "kernel": kernel_bytes(client, name),
        "load_s": model["load_s"],
    }


def wait(client: Wire, name: str, state: str) -> dict[str, Any]:
    """Return the model once it is in this state. Raises RuntimeError when it fails, or takes too long."""
    deadline = time.monotonic() + LONG_S
    while (model := client.call("show", model=name))["state"] != state:
        if model["state"] == "failed" or time.monotonic() > deadline:
            raise RuntimeError(f"{name} is {model['state']}: {model['why']}")
        time.sleep(0.1)
    return dict(model)


def work(client: Wire, name: str, case: Case, sequences: int, body: dict[str, Any], batch: int = BATCH) -> str:
    """Fill the largest batch: as many prompts at once as there may be, with tokens for two batches and more.

    Returns what failed, if anything did.
    """
    words = min((case.context - 96) // WORDS_TOKENS, 2 * batch // sequences // WORDS_TOKENS + 1)
    text, salt = " ".join("the quick fire" for _ in range(words)), time.monotonic_ns() % 1000
    whole = {"max_tokens": 24, "temperature": 0.7, "ignore_eos": True} | body
    open_ids = {client.ask(f"{salt} {at} {text}", model=name, body=whole, stream=False) for at in range(sequences)}
    deadline = time.monotonic() + LONG_S
    while open_ids:
        message = client.receive(deadline - time.monotonic())
        if message.get("id") not in open_ids:
            continue  # of a model that failed before
        if message["t"] == "failed":
            return str(message["message"])
        if message["t"] == "done":
            open_ids.discard(message["id"])
            if message.get("resumed"):
                return "its worker died, and another one went on"
    return ""


def kernel_bytes(client: Wire, name: str) -> int | None:
    """Return the bytes of pages that only this model's processes have, by the page tables; None if not root."""
    if os.geteuid() != 0:
        return None
    own = pids(client, name)
    nursery = client.call("status")["nursery"]["pid"]
    others = {process.pid for process in proc.tree([nursery], proc.processes())} - own
    return len(pages(own) - pages(others)) * proc.PAGE


def pids(client: Wire, name: str) -> set[int]:
    """Return a model's processes."""
    return {process.pid for process in proc.tree([client.call("show", model=name)["pid"]], proc.processes())}


def kernel_peak(client: Wire, name: str) -> int | None:
    """Return the most that a model's processes have had since it was ready, by page tables and the kernel's peaks."""
    now = kernel_bytes(client, name)
    return None if now is None else now + sum(map(fallen, pids(client, name)))


def fallen(pid: int) -> int:
    """Return by how much less of a process is resident than at most."""
    lines = (line.split() for line in (proc.PROC / str(pid) / "status").read_text().splitlines())
    sizes = {words[0]: int(words[1]) * 1024 for words in lines if words[0] in ("VmHWM:", "VmRSS:")}
    return sizes["VmHWM:"] - sizes["VmRSS:"]


def pages(pids: set[int]) -> set[int]:
    """Return the frames of memory that processes have, those of files left out."""
    found: set[int] = set()
    for pid in pids:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as table:
            for line in maps:
                begin, _, end = line.split()[0].partition("-")
                first, last = int(begin, 16), int(end, 16)
                if first >= 1 << 63:
                    continue
                table.seek(first // proc.PAGE * 8)
                entries = struct.unpack(f"<{(last - first) // proc.PAGE}Q", table.read((last - first) // proc.PAGE * 8))
                found.update(one & ((1 << 55) - 1) for one in entries if one >> 63 and not one >> 61 & 1)
    return found


def error(said: int, was: int) -> float:
    """Return by how many percent an estimate is off."""
    return round((said - was) / was * 100, 2)


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown, in MiB: when it is ready, and at most, after the largest batch."""
    lines = [
        "| model | weights | estimated: ready | is | off | estimated: peak | is | off | learned: peak | is | off |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in results:
        said, taken = ready(one["estimated"]), one["second"]["taken"]
        first, second = (peak or one["learned"]["bytes"] for peak in one["peaks"])
        pairs = [(said, taken), (one["estimated"]["bytes"], first), (one["learned"]["bytes"], second)]
        cells = [one["model"], f"{one['weights_bytes'] / MIB:.1f}"]
        for before, after in pairs:
            cells += [f"{before / MIB:.1f}", f"{after / MIB:.1f}", f"{error(before, after):+.1f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ready(need: dict[str, Any]) -> int:
    """Return of a need what is there once the model is ready: all but what a batch takes while it is computed."""
    return int(need["bytes"] - (need["activations"] or 0))


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(CASES))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = []
    for name in arguments.shapes:
        results.append(measure(name, SHAPES[name]))
        print(table(results[-1:]), flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
