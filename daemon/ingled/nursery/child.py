"""What a forked child does before and around the worker's own main."""

import contextlib
import faulthandler
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ingled import journal
from ingled.link import STACKS_SIGNAL, Planned, Spec, Start, encode, worker_log


def worker_folder(runtime: Path, pid: int) -> Path:
    """Return the private folder of a worker."""
    return runtime / "workers" / str(pid)


def become_worker(runtime: Path, order: Start) -> int:
    """Turn this forked child into a worker and run it; returns its exit status."""
    spec = order.spec
    if order.visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible(order.devices, os.environ.get("CUDA_VISIBLE_DEVICES"))
    log, journalled = worker_log(runtime, spec.model), journal.connected()
    detach(log)
    if journalled:  # what we say ourselves; the engine's words, and how far it is, are in the file
        handler = journal.JournalHandler("ingle-worker", {"MODEL": spec.model}, library=False)
        logging.getLogger("ingled").addHandler(handler)
    folder = worker_folder(runtime, os.getpid())
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700)
    os.chdir(folder)
    from ingled.worker.serve import serve

    try:
        return serve(runtime, spec, folder, log, order.devices, fill=order.fill)
    except BaseException:
        traceback.print_exc()
        return 1


def visible(devices: Sequence[int], mine: str | None) -> str:
    """Return what lets a worker see these GPUs alone, of those that this process may see."""
    names = mine.split(",") if mine else []
    return ",".join(names[index].strip() if index < len(names) else str(index) for index in devices)


def become_plan(spec: Spec, ref: int, pipe: int) -> int:
    """Say in this forked child what a model would take, and write the answer to the pipe."""
    os.setsid()
    reset_signals()
    os.nice(10)  # a model that is being loaded comes first
    from ingled.worker.catalog import plan

    try:
        planned = plan(spec, ref)
    except BaseException as error:
        traceback.print_exc()
        planned = Planned(ref, note=f"{type(error).__name__}: {error}")
    os.write(pipe, encode(planned)[: 32 << 10])
    return 0


def detach(log: Path) -> None:
    """Leave everything of the nursery behind: session, signals, descriptors; write to the log file."""
    os.setsid()
    reset_signals()
    with contextlib.suppress(OSError):  # when memory runs out, a worker goes: it comes back, and the broker knows how
        Path("/proc/self/oom_score_adj").write_text("500")
    log.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_name(f"{log.name}.1"))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)  # the engine's processes inherit it
    os.closerange(3, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True, stream=sys.stderr
    )


def reset_signals() -> None:
    """Give all signals their default again."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
