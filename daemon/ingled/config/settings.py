"""All settings of one daemon, and what its parts are told of them."""

from pathlib import Path
from typing import Any

import msgspec
from ingle.bytesize import parse
from ingle.wire.schema import Sampling
from msgspec import Struct

from ingled.config.tables import BUILTIN, Daemon, Engine, Hook, Model, Plugin, Rule
from ingled.core import accounts, residency
from ingled.core.placement import Device, Terms
from ingled.link import FIELDS, AddAdapter, Setup, Spec
from ingled.models.builtin import EMBER_OPTIONS, ember_path


class Config(Struct, frozen=True):
    """All settings of one daemon, with defaults filled in."""

    socket: Path
    runtime: Path
    state: Path
    daemon: Daemon
    models: dict[str, Model]
    engine: Engine = "vllm"
    plugins: dict[str, Plugin] = {}
    hooks: dict[str, Hook] = {}
    plugin_folder: Path | None = None
    rules: list[Rule] = []
    origins: dict[str, Path] = {}
    """Which file a key comes from, by its path."""

    @property
    def access(self) -> tuple[accounts.Rule, ...]:
        """Return the rules for accounts, in order."""
        return tuple(_access(rule, i) for i, rule in enumerate(self.rules))

    @property
    def setup(self) -> Setup:
        """Return what a host of plugins is told."""
        plugins = {name: plugin.choice for name, plugin in self.plugins.items()}
        folder = None if self.plugin_folder is None else str(self.plugin_folder)
        return Setup(plugins, folder, memory=self.daemon.plugin_memory)

    @property
    def default_model(self) -> str:
        """Return the model of requests that name none."""
        return next((name for name, model in self.models.items() if model.default), next(iter(self.models)))

    @property
    def metrics(self) -> Path | tuple[str, int] | None:
        """Return where metrics are served: a unix socket, or an address and a port."""
        text = self.daemon.metrics
        return None if text is None else metrics_place(text)

    @property
    def devices(self) -> list[Device]:
        """Return where models are, and how many bytes they may take together there; GPUs are found later."""
        said = self.daemon.memory
        if not isinstance(said, list):
            return [Device("memory", None if said is None else parse(said), whole=True)]
        return [Device(f"memory {index}", parse(size)) for index, size in enumerate(said)]

    @property
    def head_room(self) -> int | None:
        """Return the bytes that are left to others; None: as much as is usual."""
        return None if self.daemon.head_room is None else parse(self.daemon.head_room)

    def terms(self, name: str) -> Terms:
        """Return when this model may be resident."""
        model = self.models[name]
        need = 0 if model.memory is None else parse(model.memory)
        return Terms(
            need,
            weight=2.0**model.priority,
            min_resident=model.min_resident,
            group=model.group,
            exclusive=model.exclusive,
            devices=model.tensor_parallel or 1,
        )

    def fresh(self, name: str) -> residency.Model:
        """Return a model for the core, with nothing loaded."""
        model = self.models[name]
        return residency.Model(
            name,
            tuple(model.aliases),
            model.license,
            model.revision,
            model.ops,
            model.base,
            terms=self.terms(name),
            ttl=model.ttl,
            comes_back=model.comes_back,
            pin=model.pin,
            pinned=model.pin,
        )

    @property
    def specs(self) -> dict[str, Spec]:
        """Return what workers run, by model; adapters have none of their own."""
        return {name: self.spec(name) for name, model in self.models.items() if model.base is None}

    @property
    def adapters(self) -> dict[str, AddAdapter]:
        """Return what workers are told of adapters, by model."""
        return {name: self.adapter(name) for name, model in self.models.items() if model.base is not None}

    def adapter(self, name: str) -> AddAdapter:
        """Return what the worker of an adapter's base is told of it."""
        model = self.models[name]
        return AddAdapter(name, model.adapter or "", _chosen(model.sampling))

    def spec(self, name: str) -> Spec:
        """Return what a worker of this model runs, which is no adapter."""
        model = self.models[name]
        options: dict[str, Any] = {}
        source = model.source
        if source == BUILTIN:
            source = str(ember_path())
            options.update(EMBER_OPTIONS)
        values = {ours: getattr(model, ours) for ours in FIELDS}
        options.update({FIELDS[ours]: value for ours, value in values.items() if value is not None})
        options.update(model.engine)
        adapters = {other: one.adapter or "" for other, one in self.models.items() if one.base == name}
        chosen = _chosen(model.sampling)
        return Spec(name, self.engine, source, options, chosen, model.concurrency, model.echo, model.front, adapters)


def _chosen(sampling: Sampling) -> dict[str, Any]:
    """Return the sampling options that are said."""
    plain = Sampling()
    chosen = {key: getattr(sampling, key) for key in Sampling.__struct_fields__}
    found: dict[str, Any] = msgspec.to_builtins({key: one for key, one in chosen.items() if one != getattr(plain, key)})
    return found


def _access(rule: Rule, i: int) -> accounts.Rule:
    rights = accounts.Rights(
        tuple(rule.models),
        frozenset(rule.may),
        rule.priority,
        rule.open_requests,
        rule.waiting,
        rule.tokens_per_minute,
        rule.tokens_per_day,
        why=f"rules[{i}] of the configuration ({', '.join(rule.accounts)})",
    )
    return accounts.Rule(tuple(rule.accounts), rights)


def metrics_place(text: str) -> Path | tuple[str, int]:
    """Return a unix socket, or a loopback address and port. Raises ValueError."""
    if text.startswith("/"):
        return Path(text)
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if host not in ("127.0.0.1", "::1", "localhost") or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(text)
    return host, int(port)
