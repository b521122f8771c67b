"""The tables of the configuration: what each key is, its default and what is allowed."""

from typing import Annotated, Any, Literal

import msgspec
from ingle.wire.hook_schema import Select
from ingle.wire.limits import HOOK_DEADLINE_MS
from ingle.wire.schema import TEXT_OPS, Sampling
from msgspec import Meta, Struct

from ingled.core.accounts import Class, Right
from ingled.link import Choice

Engine = Literal["vllm", "echo"]
ENGINES: tuple[str, ...] = ("vllm", "echo")
BUILTIN = "builtin:ember"


class Daemon(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[daemon]`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    adopt_grace: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    """Seconds that workers and nursery live on without a broker."""
    stuck: Annotated[float, Meta(ge=1, le=86400)] = 60.0
    """Seconds after which an engine or worker that answers nothing is killed and replaced."""
    drain: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    """Seconds that running requests may take when the daemon stops."""
    queue: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    """Most requests that wait for one model."""
    keep: Annotated[float, Meta(ge=0, le=86400)] = 600.0
    """Seconds for which the answer of a detached request is held."""
    keep_bytes: Annotated[int, Meta(ge=0)] = 64 << 20
    """Most bytes of such answers."""
    ready: Literal["warm", "listening"] = "warm"
    """When the service manager is told that the start is over: models with `preload` are ready, or the socket is."""
    idle_exit: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.0
    """Seconds without a client after which a daemon that systemd starts on demand stops; 0: never."""
    suspend: bool = True
    """Models are made ready for it when the machine is suspended, and looked at when it is back."""
    watch: bool = True
    """Files of configuration are read anew when they are saved."""
    plugin_memory: Annotated[int, Meta(ge=128 << 20)] = 1 << 30
    """Most bytes of memory that a host of plugins may have."""
    memory: int | str | list[int | str] | None = None
    """Bytes that all models may take together, such as "24GiB"; without it, what is free but for `head_room`.

    For models alone: what the daemon keeps for itself comes beside it.

    Several sizes are several devices: of GPUs in their order, of a CPU parts of its memory.
    """
    head_room: int | str | None = None
    """Bytes that are left to others; without it a twentieth of the memory, and at least 512 MiB."""
    memory_wait: Annotated[float, Meta(ge=0, le=86400)] = 60.0
    """Seconds that a model waits for memory that other programs hold, before it is refused."""
    patience: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    """Seconds that a model waits for busy ones before these are given nothing more."""
    metrics: str | None = None
    """Where Prometheus finds metrics: an absolute path of a unix socket, or a loopback address and port."""


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[models.NAME]`: a profile."""

    source: str = ""
    """Folder of the weights, or the built-in model."""
    base: str | None = None
    """The model that this one adapts: it runs in that one's worker."""
    adapter: str | None = None
    """Folder of the LoRA weights that make this model of its base."""
    aliases: list[str] = []
    default: bool = False
    preload: bool = False
    license: str | None = None
    revision: str | None = None
    context: Annotated[int, Meta(ge=16)] | None = None
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = None
    quantization: str | None = None
    max_sequences: Annotated[int, Meta(ge=1, le=65536)] | None = None
    kv_cache: int | str | None = None
    """Size of the KV cache, such as `512MiB`; read into bytes."""
    concurrency: Annotated[int, Meta(ge=1, le=65536)] | None = None
    """Answers of full length for which the KV cache has room, where `kv_cache` says nothing."""
    tensor_parallel: Annotated[int, Meta(ge=1, le=1024)] | None = None
    runner: Literal["generate", "pooling"] | None = None
    """What it makes: text, or with `pooling` vectors of texts (op `embed`)."""
    front: Literal["auto", "core", "async"] = "auto"
    """How the worker asks vLLM: its engine core directly where it can, always, or never (then through `AsyncLLM`)."""
    engine: dict[str, Any] = {}
    """Further fields of vLLM's `AsyncEngineArgs`."""
    memory: int | str | None = None
    """Bytes that it takes, such as "6GiB"."""
    ttl: Annotated[float, Meta(gt=0)] | None = None
    """Seconds without a request after which it is unloaded."""
    pin: bool = False
    """It is not put out for others."""
    min_resident: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds that it stays at least, once it is ready."""
    priority: Annotated[int, Meta(ge=-10, le=10)] = 0
    """One more: it is worth twice as much to have it there."""
    group: str | None = None
    """Of a group, one model is resident at a time."""
    exclusive: bool = False
    """It is resident alone."""
    comes_back: Annotated[float, Meta(gt=0)] | None = None
    """Once what took its place has been idle for so many seconds, it is loaded again."""
    sampling: Sampling = Sampling()
    echo: dict[str, Any] = {}
    """Options of the echo engine, for tests."""

    @property
    def ops(self) -> tuple[str, ...]:
        """Return what it can be asked."""
        return ("embed",) if self.runner == "pooling" else TEXT_OPS


class Plugin(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[plugins.NAME]`: a plugin that takes part in requests; what is not said is as its author has it."""

    enabled: bool = True
    order: Annotated[int, Meta(ge=0, le=1000)] | None = None
    deadline_ms: Annotated[int, Meta(ge=1, le=HOOK_DEADLINE_MS)] | None = None
    on_error: Literal["refuse", "skip"] | None = None
    security: bool | None = None
    trial: bool = False
    """It runs and is reported, and changes nothing."""
    models: list[str] = []
    accounts: list[str] = []
    tags: list[str] = []
    options: dict[str, Any] = {}

    @property
    def choice(self) -> Choice:
        """Return what its host is told."""
        select = Select(self.models, self.accounts, self.tags)
        return Choice(
            self.enabled, self.order, self.deadline_ms, self.on_error, self.trial, select, self.options, self.security
        )


class Hook(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[hooks.NAME]`: what a hook that a client offers under this name may do."""

    account: str | None = None
    """Only this account may offer it, such as `uid:1000`."""
    order: Annotated[int, Meta(ge=0, le=1000)] | None = None
    scope_all: bool = False
    """It may see the requests of all accounts."""


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[[rules]]`: what some accounts may do; the first rule that names an account decides."""

    accounts: Annotated[list[str], Meta(min_length=1)]
    """`uid:N`, the name of a user, `group:NAME`, `*`."""
    models: list[str] = msgspec.field(default_factory=lambda: ["*"])
    may: list[Right] = msgspec.field(default_factory=lambda: ["hook"])
    priority: Class = "normal"
    open_requests: Annotated[int, Meta(ge=1)] | None = None
    waiting: Annotated[int, Meta(ge=1)] | None = None
    """Most requests that wait for one model."""
    tokens_per_minute: Annotated[int, Meta(ge=1)] | None = None
    tokens_per_day: Annotated[int, Meta(ge=1)] | None = None
