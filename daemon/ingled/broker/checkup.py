"""The verb `doctor`: the daemon looks at its machine and configuration, with its own rights, in a thread."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from ingle.wire.schema import Result
from msgspec import Struct

from ingled.broker.front import Connection
from ingled.core.events import Survival

if TYPE_CHECKING:
    from ingled.broker.shell import Shell
    from ingled.doctor import Finding


def doctor(shell: "Shell", connection: Connection, ref: int, args: Struct) -> None:
    """Answer when everything has been looked at."""
    from ingled.doctor import Verdict, examine, suspending

    number, needs, nursery = connection.number, shell.needs, shell.workers.nursery.pid
    verdicts = {}
    for name in shell.specs:
        need = needs.need(name)
        verdicts[name] = Verdict(needs.problems.get(name), need.bytes, least=need.source == "bound")
    suspend = suspending(shell.suspend.state, shell.suspend.why, loses=shell.devices.survival() is Survival.LOST)

    def looked(done: "asyncio.Future[list[Finding]]") -> None:
        error = done.exception()
        if error is not None:
            shell.front.fail(number, ref, "internal", f"the check failed: {error!r}", "please report it")
        else:
            findings = [asdict(one) for one in [*done.result(), suspend]]
            shell.front.send(number, Result(ref, {"findings": findings}))

    work = shell.loop.run_in_executor(None, examine, shell.config, verdicts, list(shell.devices.known), nursery)
    work.add_done_callback(looked)
