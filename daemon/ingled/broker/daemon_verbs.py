"""Verbs about the daemon itself, and its requests (docs/protocol.md, section 6)."""

import os
import resource
import time
from typing import TYPE_CHECKING

from ingle.wire.limits import PROTOCOL
from ingle.wire.schema import Result
from msgspec import Struct

from ingled.broker import reload as reloading
from ingled.broker.front import Connection
from ingled.broker.hook_verbs import problems
from ingled.broker.reading import Nothing
from ingled.config import ConfigError
from ingled.core.accounts import lacking, visible
from ingled.core.requests import Stage
from ingled.core.residency import State

if TYPE_CHECKING:
    from ingled.broker.shell import Shell


class RequestsArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `requests`."""

    all: bool = False


class ShutdownArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `shutdown`."""

    hand_over: bool = False


def status(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    """Tell how the daemon is."""
    control, front = shell.control, shell.front
    states = [control.models[name].state for name in visible(control.models, connection.rights)]
    routers = (front.router, shell.workers.router)
    value = {
        "daemon": {
            **shell.identity,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - shell.started_at, 1),
            "socket": str(shell.config.socket),
            "state_dir": str(shell.config.state),
            "rss_bytes": rss_bytes(),
            "draining": control.draining,
            "config_problem": shell.config_problem,
        },
        "protocol": list(PROTOCOL),
        "models": {
            "total": len(states),
            "ready": states.count(State.READY),
            "loading": states.count(State.LOADING),
            "failed": states.count(State.FAILED),
        },
        "requests": {
            "filtering": control.requests.stages[Stage.FILTERING],
            "running": control.requests.stages[Stage.RUNNING],
            "queued": control.requests.stages[Stage.QUEUED],
            "ending": control.requests.stages[Stage.ENDING],
            "done_total": control.requests.done_total,
            "failed_total": control.requests.failed_total,
        },
        "connections": len(front.connections),
        "sessions": front.sessions,
        "dropped": {
            "unreadable": front.unreadable,
            "no_identity": sum(router.no_identity for router in routers),
            "clogged": front.router.clogged,
            "held_back": sum(router.held_back for router in routers),
        },
        "nursery": {"state": shell.workers.nursery.phase, "pid": shell.nursery.pid},
        "suspend": shell.suspend.describe(),
    }
    front.send(connection.number, Result(ref, value))


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def whoami(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    """Tell who the caller is here, and what it may do."""
    person, rights = shell.people.person(connection.peer.uid), connection.rights
    value = {
        "account": person.account,
        "user": person.user,
        "groups": sorted(person.groups),
        "models": visible(shell.control.models, rights),
        **rights.describe(),
        "open_requests": shell.control.requests.open_of(person.account),
        "tokens_left": shell.control.desk.quotas.left(shell.loop.time(), person.account),
    }
    shell.front.send(connection.number, Result(ref, value))


def requests(shell: "Shell", connection: Connection, ref: int, args: RequestsArgs) -> None:
    """Tell of the open requests of this account, or of all."""
    now, account = shell.loop.time(), connection.account
    if args.all and "requests" not in connection.rights.may:
        text, hint = lacking("requests", account, "see the requests of others")
        shell.front.fail(connection.number, ref, "not_allowed", text, hint, at="args.all")
        return
    found = [
        {
            "id": record.id,
            "model": record.model,
            "state": record.stage.value,
            "op": record.op,
            "age_s": round(now - record.arrived, 1),
            "offset": stream.end if (stream := shell.flow.streams.get(record.id)) else 0,
            "detach": record.detach,
            "account": record.account,
        }
        for record in shell.control.requests.records.values()
        if args.all or record.account == account
    ]
    shell.front.send(connection.number, Result(ref, {"requests": found}))


def reload(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    """Read the configuration anew; the answer comes when plugins run as it says."""
    try:
        found = reloading.reload(shell)
    except ConfigError as error:
        hint = "nothing has changed; put it right and reload again"
        shell.front.fail(connection.number, ref, "bad_value", str(error), hint)
        return

    def answer() -> None:
        value = {**found.describe(), "problems": problems(shell)}
        shell.front.send(connection.number, Result(ref, value))

    shell.hosts.when_settled(answer)


def config(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    """Tell the settings that hold."""
    value = {"settings": reloading.effective(shell.config), "problem": shell.config_problem}
    shell.front.send(connection.number, Result(ref, value))


def shutdown(shell: "Shell", connection: Connection, ref: int, args: ShutdownArgs) -> None:
    """Stop, or hand over to the next daemon."""
    value = {"draining": not args.hand_over, "running": shell.running}
    shell.front.send(connection.number, Result(ref, value))
    if args.hand_over:
        shell.hand_over()
    else:
        shell.drain()
