"""Verbs about hooks: which there are, and what one of them does (docs/protocol.md, section 6)."""

import time
from typing import TYPE_CHECKING, Any

import msgspec
from ingle.wire.hook_schema import HookReply, Point
from ingle.wire.schema import Result
from msgspec import Struct

from ingled.broker.front import Connection
from ingled.broker.reading import Nothing

if TYPE_CHECKING:
    from ingled.broker.shell import Shell


class HookTestArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `hook_test`."""

    hook: str
    point: Point
    value: dict[str, Any]


def hooks(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    """Tell of all hooks that this caller may see, and of plugins that cannot run."""
    now, caller = shell.loop.time(), connection.caller
    entries = [
        one
        for one in shell.control.pipeline.registry.entries.values()
        if one.account is None or caller.sees(one.account)
    ]
    entries.sort(key=lambda one: (one.offer.order, one.name, one.key))
    found = []
    for one in entries:
        host = shell.hosts.current(one.provider.partition(":")[2]) if one.account is None else None
        inside = one.account is not None or "requests" in caller.rights.may
        found.append(one.describe(now, inside) | {"pid": host.pid if host else None})
    shell.front.send(connection.number, Result(ref, {"hooks": found, "problems": problems(shell)}))


def problems(shell: "Shell") -> list[dict[str, str]]:
    """Return which plugins cannot run, and why."""
    return [{"plugin": name, "why": why} for name, why in sorted(shell.hosts.broken.why.items())]


def hook_test(shell: "Shell", connection: Connection, ref: int, args: HookTestArgs) -> None:
    """Show a hook a value, and tell what it makes of it."""
    entries = shell.control.pipeline.registry.entries
    entry = entries.get(f"{connection.account}/{args.hook}") or entries.get(args.hook)
    front, number = shell.front, connection.number
    if entry is None or entry.account not in (None, connection.account):  # the name may be the key of somebody's hook
        text = f"args.hook is '{args.hook[:64]}': there is no such hook"
        front.fail(number, ref, "bad_value", text, "see `ingle hooks`", at="args.hook")
        return
    if entry.broken or args.point not in entry.offer.points or args.point in ("observe", "model"):
        why = entry.broken or f"hook '{entry.name}' answers at {', '.join(entry.offer.points)}"
        front.fail(number, ref, "bad_value", f"args.point is '{args.point}': {why}", "", at="args.point")
        return
    about = {"account": connection.account, "model": "", "op": "chat", "stream": True, "context": []}
    about |= {"client": connection.client.name, "tags": list(connection.client.tags)}
    began = time.perf_counter()

    def answer(reply: HookReply | str) -> None:
        if isinstance(reply, str):
            front.fail(number, ref, "hook_failed", f"hook '{args.hook}': {reply}", "see `ingle hooks`")
            return
        results = [msgspec.to_builtins(result, builtin_types=(bytes,)) for result in reply.results]
        for result in results:
            result.pop("state", None)  # it may hold what the hook has taken out
        us = round((time.perf_counter() - began) * 1e6)
        front.send(number, Result(ref, {"results": results, "value": reply.value, "us": us}))

    said = args.value.get("call")
    call = {**about, **(said if isinstance(said, dict) else {}), "account": connection.account}
    shell.hooks.test(entry, args.point, {**args.value, "call": call}, answer)
