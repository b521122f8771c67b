"""One hook host as the broker sees it: its process, what its threads are at, and what goes out to it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ingle.wire.hook_schema import HookCall

from ingled import link
from ingled.broker.peer import Peer


@dataclass(slots=True)
class Host:
    """One process."""

    group: str
    pid: int
    fd: int
    setup: link.Setup
    file: Path
    """In which its threads note what they are at: the broker reads it also when the host hangs or is dead."""
    peer: Peer | None = None
    plugins: list[link.Plugin] | None = None
    heard_at: float = 0.0
    draining: bool = False
    judged: bool = False
    stuck: set[int] = field(default_factory=set)
    """Calls that are late, and at which it still is."""
    calls: list[HookCall] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """What goes out at the end of this turn of the loop."""

    def busy(self) -> dict[int, int]:
        """Return the calls that its threads are at, and the index of the hook within each."""
        return {call: index for call, index, _ in self._table()}

    def threads(self) -> dict[int, tuple[int, int]]:
        """Return by thread the call that it is at, and the processor time that it has used, in clock ticks."""
        return {thread: (call, _ticks(self.pid, thread)) for call, _, thread in self._table()}

    def _table(self) -> list[tuple[int, int, int]]:
        try:
            data = self.file.read_bytes()
        except OSError:
            return []
        whole = len(data) // link.HOST_SLOT.size * link.HOST_SLOT.size
        return [slot for slot in link.HOST_SLOT.iter_unpack(data[:whole]) if slot[0]]


class Mail:
    """What goes out to hosts: text for the handlers of many streams together, once in a turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[Peer, link.ToPeer], None]) -> None:
        self._loop, self._send = loop, send

    def call(self, host: Host, call: HookCall) -> None:
        """Send a call, and before it what waits."""
        if call.point == "chunk":
            self._flush_later(host)
            host.calls.append(call)
        else:
            host.calls.append(call)
            self._flush(host)

    def end(self, host: Host, id: str) -> None:
        """Tell a host that a stream is over."""
        self._flush_later(host)
        host.ended.append(id)

    def _flush_later(self, host: Host) -> None:
        if not host.calls and not host.ended:
            self._loop.call_soon(self._flush, host)

    def _flush(self, host: Host) -> None:
        calls, ended, host.calls, host.ended = host.calls, host.ended, [], []
        if host.peer is not None and (calls or ended):
            self._send(host.peer, link.HookCalls(calls, ended))


def _ticks(pid: int, thread: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return 0
