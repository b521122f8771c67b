"""The drop-in folder: which plugins are in it, and whether they are other ones than when they were loaded.

watchdog only says when to look; what counts is the files' names, sizes and times. So byte code, swap files of editors
and a change that is taken back are no news, and where nothing can be watched, looking at times is enough.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

SETTLE_S = 0.1
"""Nothing has changed for so long: whoever writes is done."""
GATHER_S = 0.02
"""News come in swarms."""
LOOK_S = 2.0
"""Between two looks without any news: links to files elsewhere change unseen."""
LOOK_BLIND_S = 0.4
"""The same where nothing can be watched."""

State = dict[str, tuple[int, int, int]]


def drop_ins(folder: str | None) -> dict[str, Path]:
    """Return the plugins of the folder by name; no folder is an empty one."""
    if folder is None:
        return {}
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".py") and name[0] not in "._")
    except OSError:
        return {}
    return {name[:-3]: Path(folder, name) for name in names}


class Folder:
    """A folder of plugins, which need not exist yet."""

    def __init__(self, path: str, changed: Callable[[], None]) -> None:
        """What is there now is what will be loaded. `changed` is called by another thread."""
        self._path, self._tell = Path(path), changed
        self._loaded = self._told = self._state()
        self._news = threading.Event()
        self._observer: BaseObserver | None = None
        self._watched: tuple[Path, int] | None = None
        self._closed = False

    @property
    def changed(self) -> bool:
        """Return whether the plugins are other ones than those that were loaded."""
        return self._told != self._loaded

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        threading.Thread(target=self._run, name="folder", daemon=True).start()

    def close(self) -> None:
        """Watch no more; `changed` may be called once more."""
        self._closed = True
        self._news.set()

    def _run(self) -> None:
        while not self._closed:
            seeing = self._watch()
            if self._news.wait(LOOK_S if seeing else LOOK_BLIND_S):
                time.sleep(GATHER_S)
            self._news.clear()
            if not self._closed:
                self._look()
        if self._observer is not None:
            self._observer.stop()

    def _look(self) -> None:
        """Tell of a change, when it is complete."""
        state = self._state()
        if state == self._told:
            return
        before = None
        while state != before:
            time.sleep(SETTLE_S)
            before, state = state, self._state()
        if state != self._told:
            self._told = state
            self._tell()

    def _state(self) -> State:
        found: State = {}
        try:
            with os.scandir(self._path) as entries:
                for entry in entries:
                    if entry.name.endswith(".py") and not entry.name.startswith("."):
                        try:
                            stat = entry.stat()
                        except OSError:
                            continue
                        found[entry.name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            return {}
        return found

    def _watch(self) -> bool:
        """Watch the folder, or what of the way to it there is; returns whether that can be done."""
        place = self._path
        while True:
            try:
                now = (place, place.stat().st_ino)
                break
            except OSError:
                if place == place.parent:
                    return False
                place = place.parent
        if now == self._watched:
            return True
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers import Observer

        news = self._news

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                if event.event_type not in ("opened", "closed_no_write"):  # our own looking
                    news.set()

        try:
            if self._observer is None:
                self._observer = Observer()
                self._observer.daemon = True
                self._observer.start()
            self._observer.unschedule_all()
            self._observer.schedule(Handler(), str(place), recursive=False)
        except (OSError, RuntimeError) as error:  # no inotify watches left, no thread
            log.warning("the folder of plugins cannot be watched, and is looked at instead: %s", error)
            self._watched = None
            return False
        # It may have changed before the watch began.
        self._watched = now
        self._news.set()
        return True
