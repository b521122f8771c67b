"""Messages of hook hosts and their keeper, and for them: the plugins that they run, calls and replies. Pure."""

from typing import Any

from ingle.wire.hook_schema import HookCall, HookOffer, HookReply, OnError, Select
from msgspec import Struct


class Choice(Struct, frozen=True, forbid_unknown_fields=True):
    """A plugin that the configuration names: None leaves the plugin's own default."""

    enabled: bool = True
    order: int | None = None
    deadline_ms: int | None = None
    on_error: OnError | None = None
    trial: bool = False
    select: Select = Select()
    options: dict[str, Any] = {}
    security: bool | None = None


class Setup(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="setup"):
    """Host: run these plugins. The answer is `Offers`."""

    plugins: dict[str, Choice]
    """By name; of those that are installed but not named here none runs. Files of the folder run unless disabled."""
    folder: str | None = None
    """Drop-in folder."""
    only: list[str] | None = None
    """Run of these plugins no others."""
    without: list[str] = []
    """Plugins that run in a host of their own."""
    memory: int = 1 << 30
    """Most bytes of memory that the host may have."""


class Plugin(Struct, frozen=True, forbid_unknown_fields=True):
    """A plugin that a host was to run: what it offers, or the problem for which it cannot."""

    name: str
    version: str = "0"
    source: str = ""
    """`entry point MODULE`, or the path of a drop-in file."""
    offer: HookOffer | None = None
    """With `ref` 0; name, order, policy and selection as the configuration has them."""
    problem: str = ""
    """In one line: file, line and reason."""
    digest: str = ""
    """Of its module's file: another one, another plugin."""


class Offers(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="offers"):
    """All plugins of this host; it takes calls from now on. Sent again after an attach."""

    plugins: list[Plugin]


class HookReplies(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="hook_replies"):
    """Answers to calls, those of one moment together."""

    replies: list[HookReply]


class Stale(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="stale"):
    """The drop-in folder has changed: a fresh host would run something else."""


class HookCalls(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="hook_calls"):
    """Calls for hooks of this host, and streams that are over."""

    calls: list[HookCall] = []
    ended: list[str] = []


class StartHost(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="start_host"):
    """Keeper: start a hook host for a group of plugins. The answer is `HostStarted` or `HostNotStarted`."""

    group: str


class HostStarted(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="host_started"):
    """A host has been started for a group of plugins. It attaches by itself, maybe before this arrives."""

    group: str
    pid: int


class HostNotStarted(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="host_not_started"):
    """The system has refused to start a host."""

    group: str
    why: str


class HostEnded(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="host_ended"):
    """A host that the keeper has started has ended."""

    pid: int
    status: str
    """For people."""
    log: list[str] = []


OfHosts = Offers | HookReplies | Stale | HostStarted | HostNotStarted | HostEnded
"""What they say to the broker."""

ForHosts = Setup | HookCalls | StartHost
"""What it says to them."""
