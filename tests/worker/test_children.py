"""How a worker's children have ended is known, by whom they were reaped."""

import multiprocessing
import os
import signal
import time

import pytest
from ingled.worker.children import Children
from ingled.worker.vllm_log import rank_killed

FORK = multiprocessing.get_context("fork")


def start() -> multiprocessing.process.BaseProcess:
    child = FORK.Process(target=time.sleep, args=(600,))
    child.start()
    return child


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("reaped", [False, True])
def test_who_was_killed_is_told(number: signal.Signals, reaped: bool) -> None:
    children, first, second = Children(), start(), start()
    try:
        assert not children.killed()
        assert first.pid is not None
        os.kill(first.pid, number)
        assert multiprocessing.connection.wait([first.sentinel], 60)
        if reaped:
            first.join(60)
        assert children.killed() is (number is signal.SIGKILL)
    finally:
        for one in (first, second):
            one.kill()
            one.join(60)


def test_who_ends_by_itself_was_not_killed() -> None:
    children, child = Children(), FORK.Process(target=os._exit, args=(1,))
    child.start()
    children.look()
    child.join(60)
    assert not children.killed()


@pytest.mark.parametrize(
    ("words", "killed"),
    [
        ("Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor.", True),
        ("Worker proc VllmWorker-1 died unexpectedly (exit code: None), shutting down executor.", True),
        ("Worker proc VllmWorker-1 died unexpectedly, shutting down executor.", True),
        ("Worker proc VllmWorker-1 died unexpectedly (exit code: -11), shutting down executor.", False),
        ("Worker proc VllmWorker-1 died unexpectedly (exit code: 1), shutting down executor.", False),
        ("RuntimeError: no weights", False),
    ],
)
def test_of_its_own_processes_vllm_tells(words: str, killed: bool) -> None:
    assert rank_killed(["INFO ready", f"(EngineCore pid=7) ERROR 11-29 [multiproc_executor.py:315] {words}"]) is killed
