"""How a daemon stands among other processes, and where its configuration comes from: what the command line says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingled.config import Config


@dataclass(frozen=True, slots=True)
class Place:
    """What `ingled` was started for."""

    version: str = ""
    """Of the package."""
    replace: bool = False
    """A daemon that has been asked to hand over is waited for."""
    nursery_is_unit: bool = False
    """The service manager starts the nursery."""
    hosts: Path | None = None
    """The folder in which hook hosts, in a unit of their own, meet this daemon; None: they are its children."""
    read_config: Callable[[Config], Config] = lambda config: config
    """Reads the configuration anew, given the one that is in force; raises ConfigError."""
    config_files: Callable[[], Sequence[Path]] = lambda: ()
    """The files that it is read from."""
