"""The configuration: TOML, typed and frozen, read at start and at a reload (docs/configuration.md).

Every error names the path of its key and what is allowed there. Nothing here reads a clock, a socket or a model.
"""

from ingled.config.reading import load
from ingled.config.settings import Config
from ingled.config.typed import ConfigError

__all__ = ["Config", "ConfigError", "load"]
