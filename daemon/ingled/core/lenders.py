"""Idle models give memory back that others than models need: because somebody asks, or because it is short. Pure."""

from typing import TYPE_CHECKING

from ingle.bytesize import spell
from ingle.wire.schema import Result

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import visible
from ingled.core.ladder import LIGHT
from ingled.core.residency import State
from ingled.core.topology import share

if TYPE_CHECKING:
    from ingled.core.residents import Residents


class Lenders:
    """The models whose memory others can have."""

    def __init__(self, residents: "Residents") -> None:
        self._residents = residents
        self._helpless: set[int | None] = set()
        """Devices whose memory is short, of which it has been told that nobody is idle; None: all of them."""

    def give_back(self, e: on.YieldAsked) -> list[do.Effect]:
        """Have idle models give memory back, until so many bytes are free or none is left."""
        out, names, freed = self._free(e.now, e.need, "gives its memory back")
        gone = visible(names, e.caller.rights)
        return [*out, do.Send(e.caller.conn, Result(e.ref, {"models": gone, "bytes": freed}))]

    def short(self, e: on.MemoryShort) -> list[do.Effect]:
        """Others need memory: idle models give it back, those first that it costs least to bring back."""
        there = [one for one in self._residents.there.values() if e.device is None or e.device in one.on]
        due = self._residents.sleepers.due
        if any(one.state in (State.STOPPING, State.DOZING) or one.name in due for one in there):
            return []  # it comes already
        why = "gives memory back that others need"
        freed_by = self._free_host(e.now, e.bytes, why) if e.host else self._free(e.now, e.bytes, why, e.device)
        out, names, freed = freed_by
        devices = [one for index, one in enumerate(self._residents.devices) if e.device in (None, index)]
        where = "the machine" if e.host else "device " + ", ".join(f"'{one.name}'" for one in devices)
        text = f"{where} has {spell(e.bytes)} less for others than they are to have"
        if not names:
            told = e.device in self._helpless
            self._helpless.add(e.device)
            return [] if told else [do.Log("warning", f"{text}, and no model is idle that could give some back")]
        self._helpless.discard(e.device)
        told_to = do.Publish("daemon", {"what": "pressure", "bytes": e.bytes})
        return [do.Log("warning", f"{text}: {', '.join(names)} give back {spell(freed)}"), told_to, *out]

    def _free_host(self, now: float, need: int, why: str) -> tuple[list[do.Effect], list[str], int]:
        """Put models out whose weights wait in the machine's memory."""
        out: list[do.Effect] = []
        gone: list[str] = []
        freed = 0
        for model in self._residents.idle(now, State.SLEEPING):
            if freed < need and model.level == LIGHT:
                freed += model.sleep.weights
                gone.append(model.name)
                out += self._residents.put_out(now, model, why)
        return out, gone, freed

    def _free(
        self, now: float, need: int | None, why: str, device: int | None = None
    ) -> tuple[list[do.Effect], list[str], int]:
        """Have idle models give back so many bytes (None: all that sleep can free); those that sleep go last.

        `device`: only those that are on it, and what they have there.
        """
        out: list[do.Effect] = []
        gone: list[str] = []
        freed = 0
        for model in [*self._residents.idle(now), *(() if need is None else self._residents.idle(now, State.SLEEPING))]:
            if need is not None and freed >= need:
                break
            if device is not None and device not in model.on:
                continue
            asleep, level = model.state is State.SLEEPING, self._residents.level_of(now, model)
            gives = model.sleep.left if asleep else model.terms.need - (model.sleep.left if level else 0)
            freed += gives if device is None else share(gives, len(model.on))
            gone.append(model.name)
            if level:
                self._residents.sleepers.due[model.name] = (level, why)
            else:
                out += self._residents.put_out(now, model, why)
        return out, gone, freed
