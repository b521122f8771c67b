"""What the worker asks of an engine: a Protocol and the values that cross it. Pure.

An answer is pulled, and no task waits for each: the engine says that there is something, and one step of it makes one
turn of the worker. Nothing is generated into a queue of ours: text that nobody pulls is merged into the next `Delta`,
so that a reader without credit costs no memory that grows with messages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingle.wire.schema import Body, Sampling

from ingled.link import AddAdapter, Family, Gpu, Info

Report = Callable[[str, int], None]
"""Called with the phase and the percent of loading."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the engine sees it."""

    id: str
    body: Body
    stream: bool = True
    """False: only the whole answer is wanted, in one `Delta`."""
    salt: str = ""
    """Requests share cached prefixes only with requests of the same salt."""
    priority: int = 0
    """Lower is served earlier, as in vLLM."""
    tokens: tuple[int, ...] = ()
    """Tokens that an earlier engine produced: the answer goes on behind them, and they count as its own."""
    offset: int = 0
    """Bytes of the answer's text that have been sent; the first `Delta` begins there."""

    adapter: str = ""
    """The adapter that answers, which has been added; else the model itself."""

    @property
    def logprobs(self) -> int | None:
        """Return how many alternatives to each token are wanted; None: no logprobs at all."""
        body = self.body
        return body.top_logprobs if isinstance(body, Sampling) and body.logprobs else None


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended and what it took."""

    finish: str
    """`stop`, `length`, `repetition` or `abort`."""
    prompt: int
    cached: int
    completion: int
    first_ms: float = 0.0
    """From the arrival in the engine to the first token."""
    stop: str | None = None
    """The stop string that was met."""


@dataclass(slots=True)
class Delta:
    """What has been generated since the last pull; the last one of a request carries `end`."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[dict[str, Any]] | None = None
    """For each token `{token, logprob, top: [{token, logprob}]}`, where asked for."""
    end: End | None = None
    vectors: bytes = b""
    """Of an embedding, all of them as the client gets them (`worker.vectors`)."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the engine is; the counts of tokens are totals since its start, as are `crowd` and `batch`."""

    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    crowd: int = 0
    """Most requests that have run at once."""
    batch: int = 0
    """Most tokens of prompts that were done in one step, those that it found in its cache left out.

    If one of them was begun in an earlier step, that one was full: so many were computed at once, or the largest batch.
    """


class EngineRefused(Exception):
    """The engine does not take a request, or failed at it; the fields are those of `link.RunFailed`."""

    def __init__(self, code: str, message: str, hint: str, *, at: str | None = None, fault: str = "client") -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.at, self.fault = code, message, hint, at, fault


class EngineDead(Exception):
    """The engine is gone or hangs: nothing will come from it any more."""


class EngineHangs(EngineDead):
    """It is there, and answers nothing."""


@dataclass(frozen=True, slots=True)
class Slept:
    """What an engine keeps of its devices while it sleeps, and what it has given back, in bytes."""

    left: int
    freed: int


class SleepError(Exception):
    """The engine did not sleep or wake as it should, and has to be started anew; the text says what it did."""


class LoadError(Exception):
    """The model cannot be loaded; the text is the engine's own reason in one line."""


class Answer(Protocol):
    """What a request that runs has generated."""

    def take(self) -> Delta | None:
        """Return what has been generated since the last call, or None when there is nothing yet: `news` tells then.

        The first call may raise EngineRefused, any call EngineDead; nothing comes after an error or an `end`.
        """
        ...

    @property
    def counts(self) -> tuple[int, int] | None:
        """Return the tokens of prompt and answer once the engine is done, taken or not; `news` tells. None before."""
        ...

    def abort(self) -> None:
        """End the request now: the next `Delta`, or the one behind it, has an `end` with finish `abort`."""
        ...

    def close(self) -> None:
        """Give the request up without another word, where the engine ends."""
        ...


class Engine(Protocol):
    """A model that generates text, or makes vectors of texts."""

    async def load(self, report: Report) -> Info:
        """Load the model. Raises LoadError."""
        ...

    @property
    def fills(self) -> bool:
        """Whether a largest batch shows what it takes."""
        ...

    async def fill(self, report: Report) -> bool:
        """Run the largest batch once, where that shows what it takes; returns whether it has run. Raises LoadError.

        Only after a load, before any request.
        """
        ...

    def run(self, request: Request, news: Callable[[], None]) -> Answer:
        """Begin to generate. `news` is called when there is something to take, never before this has returned.

        A request with `tokens` goes on behind them; EngineRefused with code `worker_died` when it cannot.
        """
        ...

    def hold(self, request: Request) -> None:
        """Be told of a request that will be run later, when there is a place for it."""
        ...

    def forget(self, id: str) -> None:
        """Be told that a request which was to be run later will not be."""
        ...

    async def add_adapter(self, add: AddAdapter) -> None:
        """Load an adapter; one that is there is loaded anew. Raises LoadError, and then everything is as it was."""
        ...

    async def drop_adapter(self, name: str) -> None:
        """Forget an adapter, if it is there. No request may run on it."""
        ...

    def load_now(self) -> Load:
        """Return how busy the engine is."""
        ...

    def measure(self, wanted: bool) -> None:
        """Count for Prometheus from now on, or no more."""
        ...

    def families(self) -> list[Family]:
        """Return what has been counted, under the engine's own names."""
        ...

    async def health(self, deadline: float) -> None:
        """Return when the engine has answered. Raises EngineDead, after `deadline` seconds at the latest."""
        ...

    def killed(self) -> bool:
        """Return whether one of its processes was ended by SIGKILL, by somebody else than this worker."""
        ...

    def gpus(self) -> list[Gpu]:
        """Return how it is with its GPUs; none on a CPU, or where the driver does not tell. It may take a moment."""
        ...

    async def sleep(self, level: int) -> Slept:
        """Give weights and KV cache back, when all requests have ended. Raises SleepError."""
        ...

    async def check(self) -> None:
        """Answer a fixed prompt, as before if it was answered before. Raises SleepError."""
        ...

    async def wake(self) -> int:
        """Be as before; returns the bytes that it has of its devices. Raises SleepError."""
        ...

    async def shutdown(self) -> None:
        """End the engine's processes. Requests must have ended before."""
        ...


def prompt_too_long(prompt: int, context: int) -> EngineRefused:
    """Return the refusal of a prompt that leaves no room for an answer."""
    return EngineRefused(
        "prompt_too_long",
        f"the prompt has {prompt} tokens, and prompt and answer together may have {context}",
        f"shorten the prompt by at least {prompt - context + 1} tokens, or choose a model with a longer context",
        at="body",
    )


def no_such_adapter(name: str) -> EngineRefused:
    """Return the refusal of a request for an adapter that has not been added."""
    return EngineRefused("conflict", f"adapter '{name}' is not loaded", "try again", fault="daemon")


def answer_too_long(wanted: int, prompt: int, context: int) -> EngineRefused:
    """Return the refusal of a `max_tokens` that the context cannot hold."""
    room = context - prompt
    return EngineRefused(
        "bad_value",
        f"max_tokens is {wanted}, but after a prompt of {prompt} tokens there is room for {room} of {context}",
        f"ask for at most {room} tokens, or leave max_tokens out to use all the room",
        at="body.max_tokens",
    )
