"""The blocking client.

with Client() as client:
    with client.chat("Tell me a story.", stream=True) as story:
        for delta in story:
            print(delta.text, end="", flush=True)
    print(story.answer.usage)
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, Unpack, overload

from ingle import verbs
from ingle.asking import parts, turns
from ingle.errors import from_failed
from ingle.line import ENDS, Line
from ingle.options import Around, Messages, Op, Options
from ingle.results import Answer, Delta, Embeddings, Event, Model, Progress, RequestInfo, Status, Transcript, Who, read
from ingle.verbs import T, Verb
from ingle.wire.codec import Message

OnProgress = Callable[[Progress], None]


class Client:
    """A connection to the daemon, for one thread at a time: give each thread its own.

    Several streams may be open at once and be read in any order. When the daemon restarts, the client
    connects again by itself and resumes them; after `timeout` seconds without it, whatever waits raises
    Unreachable. Every error is an IngleError. Leaving the `with` block cancels what still runs and was not
    detached.
    """

    def __init__(
        self,
        socket: str | None = None,
        *,
        name: str = "python",
        tags: Sequence[str] = (),
        timeout: float = 10.0,
    ) -> None:
        self._line = Line(socket, name=name, tags=tags, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take leave of the daemon. Closing twice is fine.

        Where something runs and the daemon is away, it has two seconds to come back and hear of that.
        """
        self._line.close()

    # ------------------------------------------------------------ answers

    @overload
    def chat(
        self,
        messages: Messages,
        *,
        system: str | None = ...,
        stream: Literal[False] = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[Options],
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Messages,
        *,
        system: str | None = ...,
        stream: Literal[True],
        on_progress: OnProgress | None = ...,
        **options: Unpack[Options],
    ) -> "Stream": ...
    def chat(
        self,
        messages: Messages,
        *,
        system: str | None = None,
        stream: bool = False,
        on_progress: OnProgress | None = None,
        **options: Unpack[Options],
    ) -> "Answer | Stream":
        """Answer a conversation: as a whole, or with `stream=True` piece by piece."""
        return self._ask("chat", {"messages": turns(messages, system)}, stream, on_progress, options)

    @overload
    def complete(
        self,
        prompt: str,
        *,
        stream: Literal[False] = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[Options],
    ) -> Answer: ...
    @overload
    def complete(
        self,
        prompt: str,
        *,
        stream: Literal[True],
        on_progress: OnProgress | None = ...,
        **options: Unpack[Options],
    ) -> "Stream": ...
    def complete(
        self,
        prompt: str,
        *,
        stream: bool = False,
        on_progress: OnProgress | None = None,
        **options: Unpack[Options],
    ) -> "Answer | Stream":
        """Go on with a text, without a chat template: as a whole, or with `stream=True` piece by piece."""
        return self._ask("complete", {"prompt": prompt}, stream, on_progress, options)

    def embed(
        self,
        texts: Sequence[str],
        *,
        dimensions: int | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[Around],
    ) -> Embeddings:
        """Return a vector for each text; `dimensions` cuts them short, where the model was made for that."""
        body, around = parts({"input": list(texts)}, {"dimensions": dimensions, **options})
        with Stream(self._line, self._line.request("embed", body, stream=False, **around), on_progress) as answering:
            return answering.embeddings()

    def attach(self, id: str, offset: int | None = None, *, on_progress: OnProgress | None = None) -> "Stream":
        """Take over the stream of a request, such as a detached one: from an offset on, or as much as the daemon
        still has (`Stream.offset`).
        """
        return Stream(self._line, self._line.attach(id, offset), on_progress, offset)

    def cancel(self, id: str) -> bool:
        """End a request of this account; False when it was over: then its kept answer is dropped."""
        return bool(self._line.cancel(id)["cancelled"])

    def _ask(
        self, op: Op, what: dict[str, Any], stream: bool, on_progress: OnProgress | None, options: Options
    ) -> "Answer | Stream":
        body, around = parts(what, options)
        answering = Stream(self._line, self._line.request(op, body, stream=stream, **around), on_progress)
        if stream:
            return answering
        with answering:
            return answering.read()

    # ------------------------------------------------------------ the daemon

    def models(self) -> list[Model]:
        """Return every model that the daemon knows."""
        return self._tell(verbs.models())

    def show(self, model: str) -> Model:
        """Return all about one model, with its options, log and story."""
        return self._tell(verbs.show(model))

    def status(self) -> Status:
        """Return how the daemon is."""
        return self._tell(verbs.status())

    def whoami(self) -> Who:
        """Return which account this is, and what it may do."""
        return self._tell(verbs.whoami())

    def requests(self, *, all: bool = False) -> list[RequestInfo]:
        """Return the requests of this account that run or are kept, or those of all accounts."""
        return self._tell(verbs.requests(all))

    def load(self, model: str, *, wait: bool = True, on_progress: OnProgress | None = None) -> str:
        """Make a model ready and return its state; without `wait`, only begin to."""
        return self._tell(verbs.load(model, wait), on_progress)

    def unload(self, model: str, *, force: bool = False, wait: bool = True) -> str:
        """Free a model's memory and return its state; `force` ends its requests; without `wait`, only begin to."""
        return self._tell(verbs.unload(model, force, wait))

    def sleep(self, model: str, *, level: int | None = None) -> int:
        """Have a model give memory back and stay close at hand; returns the level at which it sleeps then."""
        return self._tell(verbs.sleep(model, level))

    def wake(self, model: str, *, wait: bool = True, on_progress: OnProgress | None = None) -> str:
        """Wake a model that sleeps, and return its state; without `wait`, only begin to."""
        return self._tell(verbs.wake(model, wait), on_progress)

    def pin(self, model: str, pinned: bool = True) -> None:
        """Keep a model from being put out for others, or no longer."""
        self._tell(verbs.pin(model, pinned))

    def want(self, model: str, within: float = 5.0) -> dict[str, Any]:
        """Say that a model will be asked in so many seconds; returns `state`, `eta_ms`, `in_time` and `why`."""
        return self._tell(verbs.want(model, within))

    def give_back(self, bytes: int | None = None) -> list[str]:
        """Have idle models give so many bytes back, or all; returns which (the verb `yield`)."""
        return self._tell(verbs.give_back(bytes))

    def events(self, topics: Sequence[str] = ("model", "request", "daemon")) -> "Events":
        """Hear what happens, from now on."""
        return Events(self._line, self._line.subscribe(topics))

    def call(self, verb: str, **args: Any) -> Any:
        """Ask the daemon anything that it has a verb for; returns plain values."""
        return self._line.call(verb, args)

    def _tell(self, verb: Verb[T], on_progress: OnProgress | None = None) -> T:
        hear = verbs.hearing(on_progress)
        return verb.take(self._line.call(verb.name, verb.args, forever=verb.forever, on_progress=hear))


class _Leaving:
    """What is open under a ref, and is cancelled when its reader leaves."""

    def __init__(self, line: Line, ref: int) -> None:
        self._line = line
        self._ref = ref
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def close(self) -> None:
        """Cancel it in the daemon, if it has not ended, and hear no more of it."""
        if not self._ended:
            self._ended = True
            self._line.drop(self._ref)

    def _next(self) -> Message:
        message = self._line.next(self._ref)
        self._ended = message["t"] in ENDS
        return message


class Stream(_Leaving):
    """An answer as it comes: iterate over it. Leaving its `with` block before the end cancels the request."""

    def __init__(self, line: Line, ref: int, on_progress: OnProgress | None = None, offset: int | None = 0) -> None:
        super().__init__(line, ref)
        self._said = Transcript(on_progress, offset)
        self._ahead: list[Delta] = []

    def __next__(self) -> Delta:
        while not self._ahead and not self._ended:
            self._step()
        if self._ahead:
            return self._ahead.pop(0)
        raise StopIteration

    @property
    def id(self) -> str:
        """The request's id; waits until the daemon has accepted it."""
        while self._said.id is None and not self._ended:
            self._step()
        return self._said.id or ""

    @property
    def offset(self) -> int | None:
        """Where the text begins, in UTF-8 bytes of the whole answer: 0, unless it was attached to. None when that
        is where the daemon still has it, and nothing has been read yet.
        """
        return self._said.offset

    @property
    def text(self) -> str:
        """The text that has arrived so far, also after a failure."""
        return self._said.text

    @property
    def answer(self) -> Answer:
        """The whole answer. Raises ValueError before the end."""
        if self._said.answer is None:
            raise ValueError("the answer has not ended: iterate to the end, or call read()")
        return self._said.answer

    def read(self) -> Answer:
        """Read to the end and return the whole answer."""
        while not self._ended:
            self._step()
        return self.answer

    def embeddings(self) -> Embeddings:
        """Read to the end of a request for vectors, and return them. Raises ValueError for another request."""
        while not self._ended:
            self._step()
        if self._said.embeddings is None:
            raise ValueError("this request was answered with text: call read()")
        return self._said.embeddings

    def cancel(self) -> None:
        """Ask the daemon to end the request; reading on then raises Cancelled, unless it was just done.

        A daemon that is away is told when this client has come back, by whatever it waits for next or is closed.
        """
        if not self._ended:
            self._line.stop(self._ref)

    def _step(self) -> None:
        delta = self._said.add(self._next())
        if delta is not None:
            self._ahead.append(delta)


class Events(_Leaving):
    """Events as they come: iterate over it, for ever. Leaving its `with` block ends the subscription."""

    def __next__(self) -> Event:
        while not self._ended:
            message = self._next()
            if message["t"] == "failed":
                raise from_failed(message)
            if message["t"] == "event":
                return read(message, Event)
        raise StopIteration
