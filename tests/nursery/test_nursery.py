"""The nursery with the echo engine: real forks, real workers, and a broker that the test plays."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ingled import link
from ingled.link import worker_log
from ingled.nursery.nursery import dismiss, status_words
from ingled.testing_link import SECRET, LinkBroker, group_members, start_nursery, wait_until


def spec(model: str = "m", **echo: Any) -> link.Spec:
    return link.Spec(model, "echo", "", echo=echo)


def fork(broker: LinkBroker, nursery: bytes, model: str = "m", **echo: Any) -> tuple[bytes, int]:
    """Start a worker; returns its peer and its pid."""
    broker.send(nursery, link.Start(spec(model, **echo)))
    _, forked = broker.wait(link.Forked, peer=nursery)
    assert forked.model == model
    worker, _ = broker.wait(link.Ready)
    return worker, forked.pid


def test_it_attaches_before_it_imports_and_says_when_it_can_fork(
    broker: LinkBroker, process: subprocess.Popen[bytes]
) -> None:
    _, attach = broker.wait(link.Attach)
    assert attach == link.Attach(SECRET, "nursery", process.pid)
    phases = []
    while "ready" not in phases:
        phases.append(broker.wait(link.Loading)[1].phase)
    assert phases[0] == "importing"


def test_a_worker_is_a_session_of_its_own_with_private_files(
    broker: LinkBroker, nursery: bytes, runtime: Path, process: subprocess.Popen[bytes]
) -> None:
    _, pid = fork(broker, nursery, "a/b c")
    assert os.getsid(pid) == os.getpgid(pid) == pid
    folder = runtime / "workers" / str(pid)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert Path(f"/proc/{pid}/cwd").readlink() == folder
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path(os.devnull)
    assert Path(f"/proc/{pid}/fd/2").readlink() == worker_log(runtime, "a/b c")
    sockets = {name for name in descriptors(pid) if name.startswith(("socket:", "pipe:"))}
    assert not sockets & descriptors(process.pid)


def descriptors(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(entry))
    return found


def test_two_workers_serve_side_by_side_and_one_death_is_told_in_words(
    broker: LinkBroker, nursery: bytes, runtime: Path
) -> None:
    _, one = fork(broker, nursery, "one")
    two_peer, two = fork(broker, nursery, "two")
    os.kill(one, signal.SIGKILL)
    _, exited = broker.wait(link.Exited)
    assert (exited.model, exited.pid, exited.status) == ("one", one, "killed by SIGKILL")
    assert not (runtime / "workers" / str(one)).exists()
    broker.send(two_peer, link.Run("r", "complete", link.pack_body({"prompt": "hello"}), True, 9, ""))
    assert broker.wait(link.Ended)[1].finish == "stop"
    assert group_members(two)


def test_a_worker_that_ends_by_itself_is_told_with_its_log(broker: LinkBroker, nursery: bytes) -> None:
    broker.send(nursery, link.Start(spec(fail="load")))
    _, exited = broker.wait(link.Exited)
    assert exited.status == "exit status 1"
    assert any("told to fail" in line for line in exited.log)


def test_a_log_is_kept_once(broker: LinkBroker, nursery: bytes, runtime: Path) -> None:
    for _ in range(3):
        broker.send(nursery, link.Start(spec(fail="load")))
        broker.wait(link.Exited)
    assert sorted(file.name for file in (runtime / "logs").glob("worker-*")) == ["worker-m.log", "worker-m.log.1"]


def test_kill_ends_a_worker(broker: LinkBroker, nursery: bytes) -> None:
    _, pid = fork(broker, nursery)
    broker.send(nursery, link.Kill(pid))
    broker.send(nursery, link.Kill(1))  # no worker of this nursery
    assert broker.wait(link.Exited)[1].status == "exit status 0"
    assert group_members(pid) == []


def test_kill_ends_a_worker_that_does_not_listen(broker: LinkBroker, nursery: bytes) -> None:
    _, pid = fork(broker, nursery)
    os.kill(pid, signal.SIGSTOP)
    broker.send(nursery, link.Kill(pid))
    assert broker.wait(link.Exited)[1].status == "killed by SIGKILL"


FRONT = """
import signal, subprocess, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""
"""Two processes that hear no SIGTERM, so that it stays with those that it was sent to."""


def test_the_front_of_a_worker_is_asked_to_leave_and_not_its_engine() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FRONT], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as front:
        try:
            assert front.stdout is not None
            engine = int(front.stdout.readline())
            dismiss(front.pid)
            assert (sent(front.pid, signal.SIGTERM), sent(engine, signal.SIGTERM)) == (True, False)
        finally:
            os.killpg(front.pid, signal.SIGKILL)


def sent(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has been sent a signal that it does not hear."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return any(words[0] == "ShdPnd:" and int(words[1], 16) >> (number - 1) & 1 for words in lines)


def test_a_plan_is_answered_without_starting_a_worker(broker: LinkBroker, nursery: bytes) -> None:
    broker.send(nursery, link.Plan(7, spec(memory={"weights": 5})))
    broker.send(nursery, link.Plan(8, spec(delay=3)))
    assert broker.wait(link.Planned)[1] == link.Planned(7, estimate=link.Estimate(weights=5))
    _, planned = broker.wait(link.Planned)
    assert planned.ref == 8 and planned.reason is not None and "delay" in planned.reason
    assert not any(isinstance(message, link.Forked) for _, message in broker.seen)


def test_stop_leaves_the_workers_alone(broker: LinkBroker, nursery: bytes, process: subprocess.Popen[bytes]) -> None:
    worker, pid = fork(broker, nursery)
    broker.send(nursery, link.Stop())
    assert process.wait(60) == 0
    broker.send(worker, link.Run("r", "complete", link.pack_body({"prompt": "hello"}), True, 9, ""))
    assert broker.wait(link.Ended)[1].finish == "stop"
    broker.send(worker, link.Stop())
    wait_until(lambda: not group_members(pid))


def test_sigterm_is_stop(broker: LinkBroker, nursery: bytes, process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(60) == 0


def test_it_ends_when_no_broker_renews_its_lease(runtime: Path) -> None:
    with LinkBroker(runtime, grace=1.0) as broker:
        process = start_nursery(runtime, "echo")
        while broker.wait(link.Loading)[1].phase != "ready":
            pass
        broker.answers = False
        assert process.wait(60) == 0


def test_it_attaches_to_the_next_broker_and_tells_what_happened_meanwhile(
    broker: LinkBroker, nursery: bytes, runtime: Path
) -> None:
    _, pid = fork(broker, nursery)
    broker.close()
    os.kill(pid, signal.SIGKILL)
    with LinkBroker(runtime) as successor:
        peer, attach = successor.wait(link.Attach)
        assert attach.role == "nursery"
        assert successor.wait(link.Exited)[1].pid == pid
        if (peer, link.Loading("ready", 100)) not in successor.seen:  # who died before the attach is told before it
            assert successor.wait(link.Loading, peer=peer)[1] == link.Loading("ready", 100)


def test_who_is_answered_with_attach_and_state(broker: LinkBroker, nursery: bytes) -> None:
    broker.send(nursery, link.Who())
    broker.wait(link.Attach)
    assert broker.wait(link.Loading)[1] == link.Loading("ready", 100)


@pytest.mark.parametrize(("status", "words"), [(0, "exit status 0"), (256, "exit status 1"), (9, "killed by SIGKILL")])
def test_status_words(status: int, words: str) -> None:
    assert status_words(status) == words


def test_a_log_path_stays_in_its_folder(tmp_path: Path) -> None:
    assert worker_log(tmp_path, "../../etc/x y").parent == tmp_path / "logs"
