"""Waits for the first plugin where there is none: no hook host runs for nobody, and the broker watches the folder."""

import asyncio
import contextlib
from collections.abc import Callable

from ingled import link
from ingled.folder import Folder, drop_ins


class FirstPlugin:
    """Whether there is a plugin to run, and news of the first one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, setup: link.Setup, came: Callable[[], None]) -> None:
        """`came` is called when there may be one where there was none."""
        self._loop, self.setup, self._came = loop, setup, came
        self._watch: Folder | None = None

    @property
    def there(self) -> bool:
        """Return whether there is a plugin to run."""
        choices = self.setup.plugins
        files = (name for name in drop_ins(self.setup.folder) if name not in choices)
        return any(choice.enabled for choice in choices.values()) or any(files)

    def wait(self) -> bool:
        """Begin to wait; returns whether there is one already."""
        self.stop()
        folder = self.setup.folder
        if folder is not None and not self.there:
            watch = Folder(folder, self._changed)
            if not self.there:  # one may have come before the folder's state was noted
                self._watch = watch
                watch.start()
        return self._watch is None and self.there

    def stop(self) -> None:
        """Wait no more."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _changed(self) -> None:
        """Called by the thread that watches, for as long as there is a loop."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._came)
