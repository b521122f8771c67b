"""Chunk handlers: one for each hook of a stream, each fed with what the one before it gives out."""

import time
from collections.abc import Mapping

from ingle.verdicts import Stop
from ingle.wire.hook_schema import HookCall, HookReply, HookResult
from ingle.wire.hook_schema import Verdict as Kind

from ingled.hooks.blame import one_line
from ingled.hooks.registry import Plugin
from ingled.hooks.runner import At, about_call, failed, new_state
from ingled.hooks.specs import Call, Handler

FAILED_BEFORE = "it failed earlier in this stream"


class Stream:
    """The handlers of the hooks of one call, for one answer. Used by one thread at a time."""

    def __init__(self, plugins: Mapping[str, Plugin]) -> None:
        self._plugins = plugins
        self._handlers: dict[str, Handler | None] = {}
        """None leaves the text alone."""
        self._calls: dict[str, Call] = {}
        self._states: dict[str, bytes | None] = {}
        self._broken: set[str] = set()

    def run(self, call: HookCall, at: At) -> HookReply:
        """Run a call: new text, and a flush where it says so. What a handler raises is a result.

        A handler that fails is left out from then on, and the next gets what it got; whoever called is to begin the
        stream anew without it, because what it held is lost.
        """
        text: str = call.value.get("text", "")
        results: list[HookResult] = []
        stopped: HookResult | None = None
        for index, name in enumerate(call.hooks):
            at(index)
            began, before = time.perf_counter_ns(), text
            verdict: Kind = "unchanged"
            reason, held = "", 0
            try:
                handler = self._handler(call, name)
                if handler is not None:
                    try:
                        text = ""
                        if before:
                            text = _checked(handler.feed(before))
                        # One that holds nothing is asked for the rest at the end only: there it may add to the text.
                        if call.last or stopped or (call.flush and _held(handler)):
                            text += _checked(handler.flush())
                        held = _held(handler)
                    except Stop as stop:
                        text += _checked(stop.text)
                        verdict, reason = "stop", one_line(stop.reason)
                if verdict == "unchanged" and text != before:
                    verdict = "changed"
                us = (time.perf_counter_ns() - began) // 1000
                result = HookResult(name, verdict, reason, us, self._state(name), held)
            except BaseException as error:
                self._broken.add(name)
                text = before
                result = failed(name, error, self._plugins, began)
            if stopped is None:
                results.append(result)
                stopped = result if verdict == "stop" and result.verdict == "stop" else None
            elif result.verdict == "error":
                return self._stopped_in_vain(call, results, result)
        changed = any(result.verdict in ("changed", "stop") for result in results)
        return HookReply(call.call, results, {"text": text} if changed else None)

    def _stopped_in_vain(self, call: HookCall, results: list[HookResult], error: HookResult) -> HookReply:
        """One behind the handler that stopped has failed at what that gave out: this counts, and the rest is void.

        A reply ends with the stop, and could not tell it; without the one that failed, the stream will stop again.
        """
        told = {result.hook: result for result in results[:-1]}
        told[error.hook] = error
        return HookReply(call.call, [told.get(name, HookResult(name)) for name in call.hooks], {"text": ""})

    def _handler(self, call: HookCall, name: str) -> Handler | None:
        if name in self._broken:
            raise RuntimeError(FAILED_BEFORE)
        if name in self._handlers:
            return self._handlers[name]
        if call.seq:
            raise LookupError("this host has not seen the beginning of the stream")
        plugin = self._plugins.get(name)
        caller = None if plugin is None else plugin.callers.get("chunk")
        if plugin is None or caller is None:
            raise LookupError(f"this host runs no plugin '{name}' with a chunk handler")
        about = about_call(call, name)
        self._states[name] = about.state
        found = caller(call=about, options=plugin.options)
        handler: Handler | None = found[0] if found else None
        if handler is not None:
            for method in ("feed", "flush"):
                if not callable(getattr(handler, method, None)):
                    raise TypeError(f"ingled_chunk returned a {type(handler).__name__}, which has no {method}()")
        self._calls[name], self._handlers[name] = about, handler
        return handler

    def _state(self, name: str) -> bytes | None:
        about = self._calls[name]
        state = new_state(about, self._states[name])
        if state is not None:
            self._states[name] = state
        return state


def _checked(text: object) -> str:
    """Return what a handler gave out. Raises TypeError or ValueError for what cannot be sent."""
    if not isinstance(text, str):
        raise TypeError(f"it gave out a {type(text).__name__}, not text")
    if not text.isascii():
        text.encode()
    return text


def _held(handler: Handler) -> int:
    held: object = handler.held
    if not isinstance(held, int) or held < 0:
        raise TypeError(f"its `held` is {held!r}, not a number of characters")
    return held
