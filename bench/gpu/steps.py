"""The steps of the GPU check that look at a daemon: each is one claim, told by what is seen from outside."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from ingle import Client

from bench.gpu import card
from bench.gpu.house import GRACE_S, LONG, PATIENCE_S, PROMPT, House, Place, gone, options
from bench.gpu.sheet import Sheet
from bench.memory import Case, error, ready
from bench.memory import write as write_weights
from bench.shapes import SHAPES, Model

MIB = 1 << 20
ESTIMATE_OFF = 15.0
"""Percent that a plan may be off."""
TOLD_OFF = 5.0
"""Percent by which `ingle ps` and `nvidia-smi` may differ."""
LOST = 64 * MIB
"""What may be missing after everything has been given back; the driver rounds to 2 MiB, and keeps some tables."""

Step = Callable[[Sheet, Place], None]


@contextmanager
def folder() -> Any:
    """Give a folder for models, until the step is over."""
    with tempfile.TemporaryDirectory(prefix="igg-") as name:
        yield Path(name)


def mib(size: int | None) -> str:
    """Return a size as it stands in a table."""
    return "not told" if size is None else f"{size / MIB:,.0f} MiB"


def answer(sheet: Sheet, place: Place) -> None:
    """Load a small and a large model through the command, and ask them."""
    with folder() as at:
        models = {"small": place.model(place.small, at / "s", eager=False)}
        if place.large != place.small:
            models["large"] = place.model(place.large, at / "l", eager=False)
        with House(models) as house, house.client() as client:
            for name in models:
                sheet.figures[f"{name} ({models[name].name}): load, s"] = house.load(name)
                shown = house.show(name)
                sheet.check(f"`ingle load` makes {name} ready", shown["state"] == "ready", shown["state"])
                asked = ["ask", "--model", name, "--max-tokens", "16", "--temperature", "0", PROMPT]
                done = house.daemon.cli(*asked)
                sheet.check(f"`ingle ask` is answered by {name}", not done.returncode and bool(done.stdout.strip()))
                texts = {house.answer(client, name, place.tokens) for _ in range(2)}
                sheet.check(f"{name} answers a prompt twice the same", len(texts) == 1, f"{place.tokens} tokens")
                sheet.check_gpu(f"{name} is on the GPU", shown["device"] != "cpu", str(shown["device"]))
                used = card.used_by(shown["pid"])
                sheet.check_gpu(f"the driver shows the memory of {name}", bool(used), mib(used))


def together(sheet: Sheet, place: Place) -> None:
    """Two models under one budget, both of which stream at the same time."""
    with folder() as at:
        models = {"one": place.model(place.middle, at / "m"), "other": place.model(place.large, at / "l")}
        with House(models) as house:
            for name in models:
                house.load(name)
            device = house.wire.call("plan", model="one")["device"]
            listed = {name: house.listed(name) for name in models}
            taken = sum(one["taken_bytes"] for one in listed.values())
            budget = device["budget_bytes"]
            both = all(one["state"] == "ready" for one in listed.values())
            sheet.check("two models are there at once", both, ", ".join(one["state"] for one in listed.values()))
            sheet.check("what they take is within one budget", taken <= budget, f"{mib(taken)} of {mib(budget)}")
            total = card.cards()[0].total if place.on_gpu else 0
            sheet.check_gpu("the budget is the GPU's", 0 < budget < total, f"{device['name']}: {mib(budget)}")
            times: dict[str, list[float]] = {name: [] for name in models}

            start = threading.Barrier(2, timeout=PATIENCE_S)

            def stream(name: str) -> None:
                with house.client() as client:
                    start.wait()
                    for _ in client.chat(PROMPT, model=name, stream=True, **options(LONG)):
                        times[name].append(time.monotonic())

            threads = [threading.Thread(target=stream, args=(name,)) for name in models]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            sheet.check("both streams come to their end", all(times.values()))
            begin, end = max(its[0] for its in times.values()), min(its[-1] for its in times.values())
            during = {name: sum(begin <= one <= end for one in its) for name, its in times.items()}
            seen = ", ".join(f"{name}: {count} chunks" for name, count in during.items())
            sheet.check("chunks of both come while both are open", min(during.values()) > 1, seen)


def plan(sheet: Sheet, place: Place) -> None:
    """The plan before a first load against what the load took; `ingle ps` against `nvidia-smi`; all comes back."""
    shapes = dict.fromkeys((place.small, place.middle, place.large))
    with folder() as at:
        models = {f"m{number}": place.model(shape, at / shape, eager=False) for number, shape in enumerate(shapes)}
        with House(models) as house:
            for name, model in models.items():
                before = card.used()
                said = house.plan(name)
                sheet.figures[f"{model.name}: load, s"] = house.load(name)
                listed = house.listed(name)
                taken, estimated = int(listed["taken_bytes"]), ready(said["need"])
                off = error(estimated, taken)
                sheet.figures |= {f"{model.name}: estimated, MiB": estimated / MIB, f"{model.name}: off, %": off}
                column = (int(listed["weights_bytes"] or 0) + int(listed["kv_bytes"] or 0)) / MIB
                sheet.figures |= {
                    f"{model.name}: taken, MiB": taken / MIB,
                    f"{model.name}: weights and KV, MiB": column,
                }
                how = f"{mib(estimated)} estimated, {mib(taken)} taken: {off:+.1f} %"
                good = said["need"]["source"] == "estimated" and abs(off) <= ESTIMATE_OFF
                sheet.check(f"{model.name}: the plan is within {ESTIMATE_OFF:.0f} %", good, how)
                what = f"{model.name}: ingle ps and nvidia-smi say the same within {TOLD_OFF:.0f} %"
                told = card.used_by(listed["pid"])
                if place.on_gpu and told is None:
                    sheet.not_run(what, "nvidia-smi tells nothing of single processes here")
                else:
                    difference = error(taken, told) if told else 0.0
                    seen = f"{mib(taken)} and {mib(told)}: {difference:+.1f} %"
                    sheet.check_gpu(what, bool(told) and abs(difference) <= TOLD_OFF, seen)
                house.unload(name)
                left = card.settled(before + LOST) - before
                sheet.check_gpu(f"{model.name}: unloaded, its memory is free again", left <= LOST, f"{mib(left)} stay")


def evict(sheet: Sheet, place: Place) -> None:
    """Three models where there is room for two: the third puts out the idle one, not the one that is busy."""
    with folder() as at:
        model = place.model(place.small, at)
        with House(dict.fromkeys("abc", model)) as house:
            need = house.plan("a")["need"]["bytes"]
            house.restart(need * 5 // 2)
            house.plan("a")
            with house.client() as client, house.client() as other:
                alone = house.answer(client, "a", LONG)
                house.load("b")
                used, worker = card.used(), house.worker("b")
                stream = client.chat(PROMPT, model="a", stream=True, **options(LONG))
                text = next(iter(stream)).text
                said = house.wire.call("plan", model="c")
                wanted = (said["decision"], said["evicts"]) == ("evict", ["b"])
                sheet.check("the plan says who will go", wanted, f"{said['decision']} {said['evicts']}")
                begin = time.monotonic()
                third = house.answer(other, "c", place.tokens)
                sheet.figures["the third model has answered after, s"] = time.monotonic() - begin
                text += "".join(delta.text for delta in stream)
                states = {name: house.show(name)["state"] for name in "abc"}
                right = states == {"a": "ready", "b": "cold", "c": "ready"}
                sheet.check("the idle one went, the busy one stayed", right, str(states))
                sheet.check("the busy one's answer was not disturbed", text == alone)
                sheet.check("the third one answers as the others would", alone.startswith(third))
                sheet.check("the processes of the one that went are gone", gone({worker}))
                left = card.settled(used + LOST) - used
                sheet.check_gpu("its memory went to the third", left <= LOST, f"{mib(left)} more than before")
                back = house.answer(other, "b", place.tokens)
                sheet.check("it comes back when it is asked", alone.startswith(back))


def kill(sheet: Sheet, place: Place) -> None:
    """SIGKILL of EngineCore, of a worker, of the broker with a successor and without one."""
    used = card.used()
    with folder() as at, House({"m": place.model(place.small, at)}) as house:
        house.load("m")
        awake = card.used()
        for what, find in (("EngineCore", house.core), ("worker", house.worker)):
            _kill_engine(sheet, house, what, find)
            now = card.settled(awake + LOST)
            sheet.check_gpu(f"{what} killed: the card has nothing twice", now - awake <= LOST, mib(now - awake))
        before = house.worker("m")
        with house.client() as client:
            stream = client.chat(PROMPT, model="m", stream=True, **options(LONG))
            next(iter(stream))
            killed = house.kill_broker()
            house.daemon.start()
            next(iter(stream))
            sheet.figures["broker killed: the stream goes on after, s"] = time.monotonic() - killed
            usage = stream.read().usage
        sheet.check("broker killed: the stream comes to its end", usage.completion == LONG)
        sheet.check("broker killed: the next one adopts the worker", house.worker("m") == before)
        pids = {one.pid for one in psutil.Process(before).children(recursive=True)} | house.daemon.processes()
        killed = house.kill_broker()
        house.until(lambda: gone(pids), "worker, EngineCore and nursery leave when no broker comes", GRACE_S + 60)
        sheet.figures["no broker: all processes are gone after, s"] = time.monotonic() - killed
        sheet.check("no broker: every process leaves", gone(pids), f"{len(pids)} processes")
        left = card.settled(used + LOST) - used
        sheet.check_gpu("no broker: the card is as it was before", left <= LOST, f"{mib(left)} stay")


def _kill_engine(sheet: Sheet, house: House, what: str, find: Callable[[str], int]) -> None:
    """Kill a process under a running stream: the model comes back, and the stream goes on."""
    old = {house.worker("m"), house.core("m")}
    with house.client() as client:
        stream = client.chat(PROMPT, model="m", stream=True, **options(LONG))
        next(iter(stream))
        os.kill(find("m"), signal.SIGKILL)
        begin = time.monotonic()
        usage = stream.read().usage
        again = stream.answer.resumed
    sheet.figures[f"{what} killed: the answer was whole after, s"] = time.monotonic() - begin
    whole = usage.completion == LONG
    sheet.check(f"{what} killed: the stream comes to its end", whole, f"resumed {again} times")
    house.until(lambda: gone(old), f"the processes of a killed {what} are gone")
    sheet.check(f"{what} killed: its processes are gone", gone(old))
    house.until(lambda: house.show("m")["state"] == "ready", f"another worker is ready after a killed {what}")
    sheet.check(f"{what} killed: another worker is ready", house.worker("m") not in old)


def sleep(sheet: Sheet, place: Place) -> None:
    """Sleep and wake, many times, at both levels: the same tokens, the times, and the memory that is lost."""
    with folder() as at, House({"m": weighty(place, at)}) as house, house.client() as client:
        sheet.figures["cold load, s"] = house.load("m")
        for level in (1, 2):
            cycles(sheet, place, house, client, level)
        house.unload("m")
        sheet.figures["cold load with everything cached, s"] = house.load("m")


def weighty(place: Place, at: Path) -> Model:
    """Write a model with random weights in a file: level 2 reads them again, and vLLM reads no dummy weights again."""
    model = place.model(place.small, at, eager=False)
    shape = SHAPES[place.small]
    case = Case(shape, shape.words, "BF16", model.options["max_model_len"], place.kv_bytes // MIB)
    write_weights(case, at)
    return replace(model, options={key: value for key, value in model.options.items() if key != "load_format"})


def cycles(sheet: Sheet, place: Place, house: House, client: Client, level: int) -> None:
    """Let a model that is ready sleep at one level and wake, as often as is said."""
    what = f"level {level}: {place.cycles} times asleep and awake"
    tokens, worker = house.answer(client, "m", place.tokens), house.worker("m")
    awake, host = card.used(), psutil.virtual_memory().available
    down, up, texts, states = [], [], [], set()
    asleep, kept = awake, 0
    for _ in range(place.cycles):
        begin = time.monotonic()
        done = house.daemon.cli("sleep", "m", "--level", str(level), timeout=PATIENCE_S)
        if done.returncode:
            said = done.stderr.strip().replace("\n", " ")
            if place.on_gpu:
                sheet.check(what, False, said)
            else:
                sheet.not_run(what, said)
            return
        down.append(time.monotonic() - begin)
        states.add(house.show("m")["state"])
        asleep = min(asleep, card.used())
        kept = max(kept, host - psutil.virtual_memory().available)
        begin = time.monotonic()
        done = house.daemon.cli("wake", "m", timeout=PATIENCE_S)
        up.append(time.monotonic() - begin)
        texts.append(house.answer(client, "m", place.tokens) if not done.returncode else done.stderr)
    same = sum(text == tokens for text in texts)
    sheet.check(f"{what}, the same tokens after each", same == place.cycles, f"{same} of {place.cycles}")
    woke = states == {"sleeping"} and house.worker("m") == worker
    sheet.check(f"level {level}: it slept and woke, and was not loaded again", woke, ", ".join(sorted(states)))
    lost = card.settled(awake + LOST) - awake
    sheet.check_gpu(f"level {level}: no memory of the GPU is lost", lost <= LOST, f"{mib(lost)} after all of them")
    freed = awake - asleep
    weights = int(house.show("m")["weights_bytes"] or 0)
    enough = freed >= (weights + place.kv_bytes) * 9 // 10
    sheet.check_gpu(f"level {level}: asleep, weights and KV cache are free", enough, f"{mib(freed)} free")
    sheet.figures |= {
        f"level {level}: to sleep, s, median": sorted(down)[len(down) // 2],
        f"level {level}: to wake, s, median": sorted(up)[len(up) // 2],
        f"level {level}: freed of the GPU, MiB": freed / MIB,
        f"level {level}: taken of the machine's memory, MiB": kept / MIB,
    }
