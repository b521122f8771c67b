"""What the service manager is told while models load, while the daemon serves, and while it drains."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

from ingled.broker import service
from ingled.core.residency import MOVING, Model, State

LOOK_S = 1.0
"""Between two looks at how far things are; a model's change of state is seen at once."""


def unsettled(models: Iterable[Model]) -> list[Model]:
    """Return the models that are on their way to be ready, or to fail."""
    return [one for one in models if one.state in (*MOVING, State.STOPPING) or one.restart_at is not None]


def words(models: Iterable[Model]) -> str:
    """Return in one line how the models are: what loads and what has failed is named."""
    found = list(models)
    loading = [f"{model.doing} {model.percent}%" for model in found if model.state is State.LOADING]
    failed = [f"{model.name} has failed" for model in found if model.state is State.FAILED]
    ready = sum(1 for model in found if model.state is State.READY)
    told = [f"{ready} of {len(found)} models ready", *failed]
    return ", ".join([f"loading {'; '.join(loading)}", *told] if loading else told)


class Readiness:
    """Tells `READY=1` when the models that are to be warm are, or at once."""

    def __init__(self, models: Mapping[str, Model], wait_for: Iterable[Model]) -> None:
        """`wait_for` are the models of which each has to be ready, or to have failed; `models` may change."""
        self._models, self._wait_for = models, list(wait_for)
        self._changed = asyncio.Event()
        self._told = ""
        self.ready = False

    def changed(self) -> None:
        """A model has another state."""
        self._changed.set()

    async def keep_telling(self) -> None:
        """Tell the manager what there is to tell, for ever."""
        while True:
            self._changed.clear()
            self.tell()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_S)

    def tell(self) -> None:
        """Tell what has changed, and while it takes long, that it is not over."""
        text = words(self._models.values())
        if not self.ready and not unsettled(self._wait_for):
            self.ready = True
            service.notify("READY=1", f"STATUS={text}")
        elif text != self._told:
            service.status(text)
        if not self.ready:
            service.extend()
        self._told = text
