"""What there is for models: devices, what models may have of each by what is free there, and who is short of memory."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ingled import link, machine
from ingled.broker.link_front import LinkFront
from ingled.broker.pressure import Pressure
from ingled.broker.worker import Worker
from ingled.config import Config
from ingled.core import events as on
from ingled.core.events import Survival
from ingled.core.placement import Device
from ingled.core.residency import MOVING, Model, State
from ingled.rooms import rooms

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks at how much memory is free."""
NEWS = 0.02
"""The budget is told again when it has changed by such a part."""


class Devices:
    """Knows the devices, and tells the core."""

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        workers: LinkFront,
        models: Mapping[str, Model],
        dispatch: Callable[[on.Event], None],
    ) -> None:
        self._config, self._loop, self._workers, self._models, self._dispatch = config, loop, workers, models, dispatch
        self.known = config.devices
        self.kind = "memory"
        """Of device: what a model takes of one it takes of another of its kind."""
        self.on_gpus, self._count = False, 0
        self.ask: Callable[[], None] = lambda: None
        """Has the engine asked for its GPUs: `seen` is told of them."""
        self._gpu_unsure = False
        """The memory of the GPU was read while a model was on its way."""
        self._pressure = Pressure(dispatch)
        self._gpus: dict[int, machine.Memory] = {}
        """Of those on which models are, as a worker has seen them last."""
        self._told: dict[int, tuple[Sequence[Device], int | None]] = {}
        """What the configuration said when the core was told of a device."""
        workers.on_room = self._room

    def start(self) -> None:
        """Begin to look at the memory of the machine now and then."""
        self._look_often()

    def reconfigure(self, config: Config) -> bool:
        """Go by another configuration; returns whether the engine has to be asked for its GPUs."""
        before, self._config = _said(self._config), config
        self.look()
        return self.on_gpus and before != _said(config)

    @property
    def several(self) -> bool:
        """Return whether a worker is to see those GPUs alone that it is started on."""
        return self.on_gpus and self._count > 1

    def survival(self) -> Survival:
        """Return what becomes of the memory in which models are while the machine is suspended."""
        if not self.on_gpus:
            return Survival.STAYS
        return Survival.SAVED if machine.saves_gpus() else Survival.LOST

    def _counted(self, index: int | None = None) -> int:
        """Return what models that are ready have now, of one device or in all, as far as they are taken to need it.

        What a model has beyond that would be given to another one, if it counted as what models may have.
        """
        counted = 0
        for worker in self._workers.workers.values():
            has, model = worker.taken or 0, self._models.get(worker.model)
            if model is not None:
                has = min(has, (model.sleep.left if model.asleep else model.terms.need) or has)
            if index is None:
                counted += has
            elif model is not None and index in model.on:
                counted += has // len(model.on)
        return counted

    def _look_often(self) -> None:
        self._loop.call_later(LOOK_S, self._look_often)
        self._workers.ends.look()
        self.look()

    def look(self) -> None:
        """Tell the core what is free now, and whether others are short of memory; not while a model moves."""
        if self._moving:
            return
        try:
            memory = machine.read(self._workers.nursery.pid)
        except OSError as error:
            log.error("the memory of this machine cannot be read: %s", error)
            return
        if not self.on_gpus:
            said, head_room, engine = self._config.devices, self._config.head_room, self._config.engine
            own = machine.kept(self._workers.own_pids, memory)
            self._none_behind(len(said))
            for index, device in enumerate(rooms(said, memory, head_room, engine, taken=self._counted(), daemon=own)):
                self._budget(index, device)
            self._pressure.seen(self._loop.time(), memory.missing(self._config.head_room))
            return
        self._dispatch(on.HostSeen(self._loop.time(), max(0, memory.free - memory.head_room)))
        self._pressure.seen(self._loop.time(), memory.missing(None), host=True)
        for index, gpu in self._gpus.items():
            missing = gpu.missing(self._config.head_room) if self._counted(index) else 0
            self._pressure.seen(self._loop.time(), missing, device=index)
        if self._gpu_unsure:
            self._gpu_unsure = False
            self.ask()

    @property
    def _moving(self) -> bool:
        """Return whether a model takes or gives back memory now: what is free then counts part of it."""
        return any(model.state in (*MOVING, State.STOPPING) for model in self._models.values())

    def _room(self, worker: Worker, gpus: Sequence[link.Gpu]) -> None:
        """A worker tells how it is with its GPUs now."""
        model = self._models.get(worker.model)
        indices = model.on if model is not None and self.several else range(len(gpus))
        self.on_gpus = True
        if gpus:
            self.kind = gpus[0].name
        for index, gpu in zip(indices, gpus, strict=False):
            self._gpus[index] = machine.Memory(gpu.total, gpu.free)
            if not self._moving:
                self._gpu(index, gpu)

    def seen(self, gpus: Sequence[link.Gpu]) -> None:
        """Models are on GPUs: their memory counts, as it is when nothing is being loaded."""
        before, self._gpu_unsure = self.on_gpus, self._moving
        if self._moving and before:
            return
        self.on_gpus, self._count, self.kind = True, len(gpus), gpus[0].name
        self._none_behind(len(gpus))
        for index, gpu in enumerate(gpus):
            self._gpu(index, gpu)

    def _gpu(self, index: int, gpu: link.Gpu) -> None:
        said = [device.budget for device in self._config.devices]
        most = said[index] if index < len(said) else said[0] if len(said) == 1 else 0  # one size is for each
        memory = machine.Memory(gpu.total, gpu.free)
        budget = memory.budget(self._counted(index), most, self._config.head_room)
        name, best = f"{gpu.name} {index}" if self._count > 1 else gpu.name, memory.most(most, self._config.head_room)
        self._budget(index, Device(name, budget, best))

    def _none_behind(self, count: int) -> None:
        """There are no more devices than so many: on what was said to be there beside, nothing is placed."""
        for index in range(count, len(self.known)):
            self._budget(index, replace(self.known[index], budget=0, most=0))

    def _budget(self, index: int, device: Device) -> None:
        known = self.known[index] if index < len(self.known) else None
        before, now = known.budget if known else None, device.budget or 0
        same = known is not None and device.name == known.name and _near(device.most, known.most)
        said = _said(self._config)
        if same and _near(now, before) and self._told.get(index) == said:
            return
        self._told[index] = said
        self.known[index:] = [device, *self.known[index + 1 :]]
        self._dispatch(on.DeviceSeen(self._loop.time(), device, index))


def _said(config: Config) -> tuple[Sequence[Device], int | None]:
    """Return what is configured of devices."""
    return config.devices, config.head_room


def _near(now: int | None, before: int | None) -> bool:
    """Return whether a size is still about the same."""
    return now == before if None in (now, before) else abs((now or 0) - (before or 0)) <= (before or 0) * NEWS
