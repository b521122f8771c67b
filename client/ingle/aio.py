"""The asyncio client: the twin of `ingle.client`.

    async with Client() as client:
        async for delta in client.chat("Tell me a story.", stream=True):
            print(delta.text, end="", flush=True)

Cancelling the task that waits for an answer cancels the request in the daemon.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, Self, Unpack, overload

from ingle import verbs
from ingle.aio_provider import Provider as Provider
from ingle.asking import parts, turns
from ingle.async_line import AsyncLine
from ingle.errors import IngleError, from_failed
from ingle.line import ENDS
from ingle.options import Around, Messages, Op, Options
from ingle.results import Answer, Delta, Embeddings, Event, Model, Progress, RequestInfo, Status, Transcript, Who, read
from ingle.verbs import T, Verb
from ingle.wire.codec import Message

OnProgress = Callable[[Progress], None]


class Client:
    """A connection to the daemon, for the event loop that entered it. See `ingle.Client`; every method is
    a twin.
    """

    def __init__(
        self,
        socket: str | None = None,
        *,
        name: str = "python",
        tags: Sequence[str] = (),
        timeout: float = 10.0,
    ) -> None:
        self._given = (socket, name, tags, timeout)
        self._maybe_line: AsyncLine | None = None

    async def __aenter__(self) -> Self:
        line = AsyncLine(*self._given)
        try:
            await line.open()
        except BaseException:
            line.close()
            raise
        self._maybe_line = line
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._maybe_line is not None:
            await self._maybe_line.leave()

    def close(self) -> None:
        """Take leave of the daemon. Closing twice is fine.

        A daemon that is away hears nothing of this; leaving the `async with` block gives it two seconds to come back.
        """
        if self._maybe_line is not None:
            self._maybe_line.close()

    @property
    def _line(self) -> AsyncLine:
        if self._maybe_line is None:
            raise IngleError("the client is not connected: use `async with Client() as client`")
        return self._maybe_line

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
    ) -> Coroutine[Any, Any, Answer]: ...
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
    ) -> "Coroutine[Any, Any, Answer] | Stream":
        """Answer a conversation: awaited as a whole, or with `stream=True` piece by piece."""
        return self._ask("chat", {"messages": turns(messages, system)}, stream, on_progress, options)

    @overload
    def complete(
        self,
        prompt: str,
        *,
        stream: Literal[False] = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[Options],
    ) -> Coroutine[Any, Any, Answer]: ...
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
    ) -> "Coroutine[Any, Any, Answer] | Stream":
        """Go on with a text: awaited as a whole, or with `stream=True` piece by piece."""
        return self._ask("complete", {"prompt": prompt}, stream, on_progress, options)

    async def embed(
        self,
        texts: Sequence[str],
        *,
        dimensions: int | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[Around],
    ) -> Embeddings:
        """Return a vector for each text; `dimensions` cuts them short, where the model was made for that."""
        body, around = parts({"input": list(texts)}, {"dimensions": dimensions, **options})
        ref = self._line.session.request("embed", body, stream=False, **around)
        async with Stream(self._line, ref, on_progress) as answering:
            return await answering.embeddings()

    def attach(self, id: str, offset: int | None = None, *, on_progress: OnProgress | None = None) -> "Stream":
        """Take over the stream of a request, such as a detached one: from an offset on, or as much as the daemon
        still has (`Stream.offset`).
        """
        return Stream(self._line, self._line.session.attach(id, offset), on_progress, offset)

    async def cancel(self, id: str) -> bool:
        """End a request of this account; False when it was over: then its kept answer is dropped."""
        return bool((await self._line.answer(self._line.session.cancel(id)))["cancelled"])

    def _ask(
        self, op: Op, what: dict[str, Any], stream: bool, on_progress: OnProgress | None, options: Options
    ) -> "Coroutine[Any, Any, Answer] | Stream":
        body, around = parts(what, options)
        if stream:
            ref = self._line.session.request(op, body, stream=True, **around)
            return Stream(self._line, ref, on_progress)
        return self._whole(op, body, around, on_progress)

    async def _whole(self, op: Op, body: Message, around: dict[str, Any], on_progress: OnProgress | None) -> Answer:
        ref = self._line.session.request(op, body, stream=False, **around)
        async with Stream(self._line, ref, on_progress) as answering:
            return await answering.read()

    # ------------------------------------------------------------ the daemon

    async def models(self) -> list[Model]:
        """Return every model that the daemon knows."""
        return await self._tell(verbs.models())

    async def show(self, model: str) -> Model:
        """Return all about one model, with its options, log and story."""
        return await self._tell(verbs.show(model))

    async def status(self) -> Status:
        """Return how the daemon is."""
        return await self._tell(verbs.status())

    async def whoami(self) -> Who:
        """Return which account this is, and what it may do."""
        return await self._tell(verbs.whoami())

    async def requests(self, *, all: bool = False) -> list[RequestInfo]:
        """Return the requests of this account that run or are kept, or those of all accounts."""
        return await self._tell(verbs.requests(all))

    async def load(self, model: str, *, wait: bool = True, on_progress: OnProgress | None = None) -> str:
        """Make a model ready and return its state; without `wait`, only begin to."""
        return await self._tell(verbs.load(model, wait), on_progress)

    async def unload(self, model: str, *, force: bool = False, wait: bool = True) -> str:
        """Free a model's memory and return its state; `force` ends its requests; without `wait`, only begin to."""
        return await self._tell(verbs.unload(model, force, wait))

    async def sleep(self, model: str, *, level: int | None = None) -> int:
        """Have a model give memory back and stay close at hand; returns the level at which it sleeps then."""
        return await self._tell(verbs.sleep(model, level))

    async def wake(self, model: str, *, wait: bool = True, on_progress: OnProgress | None = None) -> str:
        """Wake a model that sleeps, and return its state; without `wait`, only begin to."""
        return await self._tell(verbs.wake(model, wait), on_progress)

    async def pin(self, model: str, pinned: bool = True) -> None:
        """Keep a model from being put out for others, or no longer."""
        await self._tell(verbs.pin(model, pinned))

    async def want(self, model: str, within: float = 5.0) -> dict[str, Any]:
        """Say that a model will be asked in so many seconds; returns `state`, `eta_ms`, `in_time` and `why`."""
        return await self._tell(verbs.want(model, within))

    async def give_back(self, bytes: int | None = None) -> list[str]:
        """Have idle models give so many bytes back, or all; returns which (the verb `yield`)."""
        return await self._tell(verbs.give_back(bytes))

    def events(self, topics: Sequence[str] = ("model", "request", "daemon")) -> "Events":
        """Hear what happens, from now on."""
        return Events(self._line, self._line.session.subscribe(topics))

    async def call(self, verb: str, **args: Any) -> Any:
        """Ask the daemon anything that it has a verb for; returns plain values."""
        return await self._line.answer(self._line.session.call(verb, args))

    async def _tell(self, verb: Verb[T], on_progress: OnProgress | None = None) -> T:
        ref, hear = self._line.session.call(verb.name, verb.args), verbs.hearing(on_progress)
        return verb.take(await self._line.answer(ref, forever=verb.forever, on_progress=hear))


class _Leaving:
    """What is open under a ref, and is cancelled when its reader leaves."""

    def __init__(self, line: AsyncLine, ref: int) -> None:
        self._line = line
        self._ref = line.expect(ref)
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    def close(self) -> None:
        """Cancel it in the daemon, if it has not ended, and hear no more of it."""
        if not self._ended:
            self._ended = True
            self._line.drop(self._ref)

    async def _next(self) -> Message:
        if self._ended:
            raise StopAsyncIteration
        try:
            message = await self._line.next(self._ref)
        except asyncio.CancelledError:
            self.close()
            raise
        self._ended = message["t"] in ENDS
        return message


class Stream(_Leaving):
    """An answer as it comes: `async for` over it. Cancelling the task that reads it cancels the request."""

    def __init__(
        self, line: AsyncLine, ref: int, on_progress: OnProgress | None = None, offset: int | None = 0
    ) -> None:
        super().__init__(line, ref)
        self._said = Transcript(on_progress, offset)

    async def __anext__(self) -> Delta:
        while True:
            delta = self._said.add(await self._next())
            if delta is not None:
                return delta

    @property
    def id(self) -> str | None:
        """The request's id; None before the daemon has accepted it and the first thing was read."""
        return self._said.id

    @property
    def offset(self) -> int | None:
        """Where the text begins, in UTF-8 bytes of the whole answer: 0, unless it was attached to. None when that
        is where the daemon still has it, and nothing has been read yet.
        """
        return self._said.offset

    @property
    def text(self) -> str:
        """The text that has been read so far, also after a failure."""
        return self._said.text

    @property
    def answer(self) -> Answer:
        """The whole answer. Raises ValueError before the end."""
        if self._said.answer is None:
            raise ValueError("the answer has not ended: iterate to the end, or await read()")
        return self._said.answer

    async def read(self) -> Answer:
        """Read to the end and return the whole answer."""
        async for _ in self:
            pass
        return self.answer

    async def embeddings(self) -> Embeddings:
        """Read to the end of a request for vectors, and return them. Raises ValueError for another request."""
        async for _ in self:
            pass
        if self._said.embeddings is None:
            raise ValueError("this request was answered with text: await read()")
        return self._said.embeddings

    def cancel(self) -> None:
        """Ask the daemon to end the request; reading on then raises Cancelled, unless it was just done.

        A daemon that is away is told when this client has come back, unless it is closed before.
        """
        if not self._ended:
            self._line.stop(self._ref)


class Events(_Leaving):
    """Events as they come: `async for` over it, for ever. Leaving its `async with` block ends the
    subscription.
    """

    async def __anext__(self) -> Event:
        while True:
            message = await self._next()
            if message["t"] == "failed":
                raise from_failed(message)
            if message["t"] == "event":
                return read(message, Event)
