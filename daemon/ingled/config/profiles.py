"""What must hold of the tables `[models.NAME]`, alone and together."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec

from ingled.config.tables import BUILTIN, Model
from ingled.config.typed import ConfigError, size
from ingled.link import FIELDS

OF_ADAPTERS = ("base", "adapter", "aliases", "default", "preload", "license", "revision", "sampling")
"""Keys of models that are adapters."""

RESERVED = ("model", "served_model_name", "tokenizer_mode", "load_format", "disable_log_stats", "enable_log_requests")
"""Fields of `AsyncEngineArgs` that the daemon sets itself."""


def profile(model: Model, at: str, file: Path | None) -> Model:
    """Return the profile with an absolute source. Raises ConfigError."""
    if model.memory is not None:
        size(model.memory, f"{at}.memory")
    for key in model.engine:
        if key == "runner":
            raise ConfigError(f"{at}.engine.runner: say {at}.runner, so that the daemon knows what the model makes")
        if key in RESERVED:
            raise ConfigError(f"{at}.engine.{key}: the daemon sets this itself; remove it")
        ours = next((ours for ours, theirs in FIELDS.items() if theirs == key), None)
        if ours is not None and getattr(model, ours) is not None:
            raise ConfigError(f"{at}.engine.{key}: {at}.{ours} sets the same; keep one of them")
    if model.runner == "pooling" and model.front == "core":
        raise ConfigError(f"{at}.front is 'core': a model with runner = 'pooling' is asked through AsyncLLM; remove it")
    if model.kv_cache is not None:
        if model.concurrency is not None:
            raise ConfigError(f"{at}.concurrency: {at}.kv_cache sets the size of the KV cache; keep one of them")
        model = msgspec.structs.replace(model, kv_cache=size(model.kv_cache, f"{at}.kv_cache"))
    if model.source.startswith("builtin:"):
        if model.source != BUILTIN:
            raise ConfigError(f"{at}.source is {model.source!r}: the built-in model is {BUILTIN!r}")
        return model
    if not model.source:
        raise ConfigError(f"{at}.source is missing: a folder with weights (or {at}.base and {at}.adapter)")
    return msgspec.structs.replace(model, source=_folder(model.source, file))


def adapter(model: Model, at: str, said: Iterable[str], file: Path | None) -> Model:
    """Return the adapter with an absolute folder. Raises ConfigError."""
    if model.base is None or model.adapter is None:
        there, other = ("adapter", "base") if model.base is None else ("base", "adapter")
        raise ConfigError(f"{at}.{other} is missing: {at}.{there} makes it an adapter, which needs both")
    for key in said:
        if key not in OF_ADAPTERS:
            allowed = ", ".join(OF_ADAPTERS)
            text = f"{at}.{key}: an adapter runs in the worker of its base, '{model.base}': say it there"
            raise ConfigError(f"{text} (allowed here: {allowed})")
    return msgspec.structs.replace(model, adapter=_folder(model.adapter, file))


def _folder(said: str, file: Path | None) -> str:
    """Return a folder of weights, which may be relative to the file that names it."""
    path = Path(said).expanduser()
    return str((path if path.is_absolute() else (file.parent if file else Path.cwd()) / path).absolute())


def check_bases(models: Mapping[str, Model]) -> None:
    """See that every adapter has a base that can carry one. Raises ConfigError."""
    for name, model in models.items():
        if model.base is None:
            continue
        at, base = f"models.{name}.base", models.get(model.base)
        if base is None:
            near = get_close_matches(model.base, models, n=1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(f"{at} is {model.base!r}: there is no such model{guess}")
        if base.base is not None:
            raise ConfigError(f"{at} is {model.base!r}: that is an adapter itself; name its base, '{base.base}'")
        if base.runner == "pooling":
            raise ConfigError(f"{at} is {model.base!r}: adapters of models that make vectors are not supported")


def check_name(name: str, at: str) -> None:
    """See that this can be the name of a model. Raises ConfigError."""
    if not 1 <= len(name) <= 128 or not name.isprintable() or any(c.isspace() or c in "\"'`$\\/" for c in name):
        raise ConfigError(f"{at}: a name has 1 to 128 printable characters, no blank, quote, slash or dollar sign")


def check_names(models: Mapping[str, Model]) -> None:
    """See that no name or alias stands for two models, and that one at most is the default. Raises ConfigError."""
    defaults = [name for name, model in models.items() if model.default]
    if len(defaults) > 1:
        raise ConfigError(f"models.{defaults[1]}.default: models.{defaults[0]} is the default already")
    owner = {name: f"models.{name}" for name in models}
    for name, model in models.items():
        for i, alias in enumerate(model.aliases):
            check_name(alias, f"models.{name}.aliases[{i}]")
            if alias in owner:
                raise ConfigError(f"models.{name}.aliases[{i}] is {alias!r}: {owner[alias]} has this name already")
            owner[alias] = f"models.{name}.aliases"
