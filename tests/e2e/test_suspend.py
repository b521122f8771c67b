# ruff: noqa: E402  # the package that it needs is looked for first
"""The machine is suspended: a real daemon, a real bus, and on it a logind that suspends nothing when it says so."""

import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

jeepney = pytest.importorskip("jeepney", reason="the environment is older than its lock: make setup")

from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until
from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_return, new_signal
from jeepney.io.blocking import DBusConnection, open_dbus_connection

NAME, PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MANAGER = DBusAddress(PATH, NAME, "org.freedesktop.login1.Manager")
DEADLINE_S = 60.0
GIB = 1 << 30
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>
"""
GPU = f'gpu = {{name = "Pretended", total = {80 * GIB}, free = {70 * GIB}, driver = "1"}}'
MEMORY = "memory = {weights = 20000000, kv_cache = 10000000, process = 2000000}"
ON_GPU = f"""
[models.a]
source = "/a"
echo = {{sleep = "works", delay_ms = 5, {MEMORY}, {GPU}}}
[models.awake]
source = "/awake"
echo = {{{MEMORY}, {GPU}}}
[models.forgets]
source = "/forgets"
echo = {{sleep = "forgets", {MEMORY}, {GPU}}}
"""
LONG = " ".join(f"word{i}" for i in range(600))
"""Three seconds of an answer of `a`, at least."""


class Logind:
    """A logind that asks everybody and then does nothing."""

    def __init__(self, address: str, delay_s: float, refuses: bool = False) -> None:
        self.delays: list[int] = []
        """Our ends of the descriptors that keep it waiting."""
        self._delay_s, self._refuses = delay_s, refuses
        self._wake, self._woken = os.pipe()
        self._bus: DBusConnection = open_dbus_connection(address, enable_fds=True)
        self._lock = threading.Lock()
        assert jeepney.io.blocking.Proxy(jeepney.message_bus, self._bus).RequestName(NAME) == (1,)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._bus.sock, self._wake], [], [])
            if self._wake in ready:
                return
            try:
                message = self._bus.receive(timeout=DEADLINE_S)
            except OSError:
                return  # the bus has gone
            if message.header.message_type is MessageType.method_call:
                self._answer(message)

    def _answer(self, message: Any) -> None:
        member = message.header.fields[HeaderFields.member]
        with self._lock:
            if member == "Get":
                assert message.body[1] == "InhibitDelayMaxUSec"
                self._bus.send(new_method_return(message, "v", (("t", int(self._delay_s * 1e6)),)))
            elif self._refuses:
                self._bus.send(
                    new_error(message, "org.freedesktop.DBus.Error.AccessDenied", "s", ("Permission denied",))
                )
            else:
                assert member == "Inhibit" and message.body[0] == "sleep" and message.body[3] == "delay"
                mine, theirs = os.pipe()
                self._bus.send(new_method_return(message, "h", (theirs,)))
                os.close(theirs)
                self.delays.append(mine)

    def say(self, suspends: bool) -> None:
        """Say that the machine is about to be suspended, or that it is back."""
        with self._lock:
            self._bus.send(new_signal(MANAGER, "PrepareForSleep", "b", (suspends,)))

    def suspend(self) -> None:
        """Ask everybody, and return when all who delay it have let go."""
        wait_until(lambda: bool(self.delays), DEADLINE_S)
        self.say(True)
        while self.delays:
            delay = self.delays.pop()
            ready, _, _ = select.select([delay], [], [], DEADLINE_S)
            assert ready and os.read(delay, 1) == b"", "somebody delays it for ever"
            os.close(delay)

    def close(self) -> None:
        os.write(self._woken, b"x")
        self._thread.join(DEADLINE_S)
        self._bus.close()
        for fd in (self._wake, self._woken, *self.delays):
            os.close(fd)


class Bus:
    """A bus of our own."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("dbus-daemon")
        if program is None:
            pytest.skip("needs dbus-daemon (the package dbus, or dbus-daemon)")
        self.socket, file = folder / "bus", folder / "bus.conf"
        file.write_text(BUS.format(socket=self.socket))
        self.address = f"unix:path={self.socket}"
        self.environ = {"DBUS_SYSTEM_BUS_ADDRESS": self.address}
        command = [program, f"--config-file={file}", "--nofork", "--nopidfile"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._machines: list[Logind] = []
        wait_until(self._listens, DEADLINE_S)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as one:  # it is there before the bus listens
            return one.connect_ex(str(self.socket)) == 0

    def logind(self, delay_s: float = 20.0, refuses: bool = False) -> Logind:
        self._machines.append(Logind(self.address, delay_s, refuses))
        return self._machines[-1]

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def close(self) -> None:
        for machine in self._machines:
            machine.close()
        self.end()


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    one = Bus(tmp_path)
    try:
        yield one
    finally:
        one.close()


def suspend_of(client: Wire) -> tuple[str, str]:
    found = client.call("status")["suspend"]
    return found["state"], found["why"] or ""


def in_state(client: Wire, name: str, *states: str) -> dict[str, Any]:
    """Return the model when it is in one of these states."""
    wait_until(lambda: client.call("show", model=name)["state"] in states, DEADLINE_S)
    return dict(client.call("show", model=name))


def is_on_gpu(client: Wire) -> None:
    wait_until(lambda: client.call("plan", model="a")["device"]["name"] == "Pretended", DEADLINE_S)


def say(client: Wire, model: str, text: str = "good morning") -> None:
    answer, end = client.read(client.ask(text, model=model))
    assert (answer, end["t"]) == (text, "done"), end


def test_models_leave_the_gpu_before_and_are_back_afterwards(bus: Bus) -> None:
    machine = bus.logind()
    with DaemonFixture(ON_GPU, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        is_on_gpu(client)
        wait_until(lambda: suspend_of(client) == ("ready", ""), DEADLINE_S)
        for name in ("a", "awake"):
            say(client, name)
        before = {name: client.call("show", model=name)["pid"] for name in ("a", "awake")}
        machine.suspend()
        assert client.call("show", model="a")["state"] == "sleeping"
        assert client.call("show", model="awake")["state"] == "cold", "it cannot sleep"
        assert suspend_of(client)[0] == "suspending"
        id = client.ask("good evening", model="a")
        while (progress := client.until("progress")[-1]).get("id") != id:
            pass  # it is of a plan that waited for the engine
        assert (progress["phase"], progress["what"]) == ("queued", "the machine is about to be suspended")
        machine.say(False)
        text, end = client.read(id)
        assert (text, end["t"]) == ("good evening", "done")
        assert client.call("show", model="a")["pid"] == before["a"], "it slept"
        assert in_state(client, "awake", "ready")["pid"] != before["awake"]
        wait_until(lambda: suspend_of(client) == ("ready", ""), DEADLINE_S)
        machine.suspend()
        machine.say(False)
        in_state(client, "a", "ready")


def test_a_stream_goes_on_where_it_was(bus: Bus) -> None:
    machine = bus.logind(delay_s=1.0)
    with DaemonFixture(ON_GPU, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        is_on_gpu(client)
        with Wire(daemon.socket) as other:
            id = other.ask(LONG, model="a", stream=True, credit=256)
            first = other.until("chunk")[-1]
            machine.suspend()
            assert client.call("show", model="a")["state"] == "sleeping"
            assert client.call("requests")["requests"][0]["state"] == "queued"
            machine.say(False)
            text, end = other.read(id, ack=len(first["x"]))
            assert (first["x"] + text, end["t"], end.get("resumed", 0)) == (LONG, "done", 0)


def test_a_suspend_that_comes_to_nothing_changes_nothing(bus: Bus) -> None:
    machine = bus.logind(delay_s=1.0)
    with DaemonFixture(ON_GPU, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        is_on_gpu(client)
        id = client.ask(LONG, model="a", stream=True, credit=256)
        first = client.until("chunk")[-1]
        wait_until(lambda: bool(machine.delays), DEADLINE_S)
        machine.say(True)
        machine.say(False)
        text, end = client.read(id, ack=len(first["x"]))
        assert (first["x"] + text, end["t"]) == (LONG, "done")


def test_in_ram_nobody_waits_and_nothing_stops(bus: Bus) -> None:
    machine = bus.logind()
    config = '[models.a]\nsource = "/a"\necho = {delay_ms = 5}\n'
    with DaemonFixture(config, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        id = client.ask(LONG, model="a", stream=True, credit=256)
        first = client.until("chunk")[-1]
        machine.suspend()
        assert client.call("show", model="a")["state"] == "ready"
        machine.say(False)
        text, end = client.read(id, ack=len(first["x"]))
        assert (first["x"] + text, end["t"]) == (LONG, "done")
        assert "memory stays" in daemon.log.read_text()


def test_what_does_not_wake_as_it_was_is_loaded_anew_and_may_sleep_again(bus: Bus) -> None:
    machine = bus.logind()
    with DaemonFixture(ON_GPU, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        is_on_gpu(client)
        say(client, "forgets")
        before = client.call("show", model="forgets")["pid"]
        machine.suspend()
        id = client.ask("good evening", model="forgets")
        machine.say(False)
        text, end = client.read(id)
        assert (text, end["t"]) == ("good evening", "done"), "nobody hears what came of it"
        after = client.call("show", model="forgets")
        assert after["pid"] != before and after["no_sleep"] is None
        assert "did not outlive that the machine was suspended" in daemon.log.read_text()


def test_a_bus_that_goes_while_the_machine_is_suspended_leaves_nobody_waiting(bus: Bus) -> None:
    machine = bus.logind()
    with DaemonFixture(ON_GPU, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        is_on_gpu(client)
        say(client, "a")
        machine.suspend()
        id = client.ask("good evening", model="a")
        bus.end()
        text, end = client.read(id)
        assert (text, end["t"]) == ("good evening", "done")
        assert suspend_of(client) == ("unavailable", "the system bus has closed the connection")


def test_logind_may_refuse_to_be_delayed(bus: Bus) -> None:
    machine = bus.logind(refuses=True)
    with DaemonFixture(ON_GPU, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        is_on_gpu(client)
        state = ("listening", "logind lets nobody here delay it: Permission denied")
        wait_until(lambda: suspend_of(client) == state, DEADLINE_S)
        say(client, "a")
        machine.say(True)
        in_state(client, "a", "sleeping")
        machine.say(False)
        in_state(client, "a", "ready")
        finding = daemon.cli("doctor").stdout
        assert "cannot make models ready" in finding and "NVreg_PreserveVideoMemoryAllocations=1" in finding


def test_a_bus_without_logind_gets_one_later(bus: Bus) -> None:
    with DaemonFixture(ON_GPU, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        wait_until(lambda: suspend_of(client) == ("unavailable", "there is no logind on the system bus"), DEADLINE_S)
        bus.logind()
        wait_until(lambda: suspend_of(client) == ("ready", ""), DEADLINE_S)


def test_others_on_the_bus_are_not_believed(bus: Bus) -> None:
    machine = bus.logind()
    with DaemonFixture(ON_GPU, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        is_on_gpu(client)
        say(client, "a")
        wait_until(lambda: suspend_of(client) == ("ready", ""), DEADLINE_S)
        with open_dbus_connection(bus.address) as stranger:
            names = [f":1.{number}" for number in range(6)]
            for name in names:
                lie = new_signal(MANAGER, "PrepareForSleep", "b", (True,))
                lie.header.fields[HeaderFields.destination] = name
                stranger.send(lie)
            assert jeepney.io.blocking.Proxy(jeepney.message_bus, stranger).GetNameOwner(NAME), "the bus has them all"
        say(client, "a")
        assert suspend_of(client) == ("ready", "") and "about to be suspended" not in daemon.log.read_text()
        machine.suspend()
        machine.say(False)


def test_without_a_bus_it_says_so_and_works(tmp_path: Path) -> None:
    environ = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/none"}
    with DaemonFixture(environ=environ) as daemon, Wire(daemon.socket) as client:
        state, why = suspend_of(client)
        assert (state, why) == ("unavailable", f"there is no system bus: {tmp_path}/none does not exist")
        assert "suspend   the daemon does not hear of it: there is no system bus" in daemon.cli("status").stdout
        text = "models are not made ready when the machine is suspended, all else works: there is no system bus"
        assert text in daemon.log.read_text() and "Errno" not in daemon.log.read_text()
        assert "suspend" in daemon.cli("doctor").stdout
        say(client, "ember")


def test_it_is_switched_off_and_on_by_a_reload(bus: Bus) -> None:
    machine = bus.logind()
    off = "[daemon]\nsuspend = false\nwatch = false\n"
    with DaemonFixture(off + ON_GPU, environ=bus.environ) as daemon, Wire(daemon.socket) as client:
        assert suspend_of(client) == ("off", "the configuration says so")
        assert not machine.delays
        daemon.file.write_text(off.replace("suspend = false", "suspend = true") + ON_GPU)
        assert "daemon.suspend" in client.call("reload")["changed"]
        wait_until(lambda: suspend_of(client) == ("ready", ""), DEADLINE_S)
        daemon.file.write_text(off + ON_GPU)
        client.call("reload")
        (delay,) = machine.delays
        assert select.select([delay], [], [], DEADLINE_S)[0] and os.read(delay, 1) == b"", "it is let go"
        assert suspend_of(client) == ("off", "the configuration says so")
