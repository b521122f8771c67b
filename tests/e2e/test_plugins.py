"""Plugins on a real daemon: filters and handlers, hot reload, and plugins that misbehave in every way."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ingled.processes import runs
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until
from ingled.testing_plugins import HEAD, hooks, write_plugin

CONFIG = """
[daemon]
plugin_folder = "{folder}"
adopt_grace = 20
{more}
[models.fast]
source = "builtin:ember"
preload = true

[models.slow]
source = "builtin:ember"
echo = {{delay_ms = 2}}
"""
UPPER = """
class Upper:
    held = 0
    def feed(self, text):
        return text.upper()
    def flush(self):
        return ""

@hookimpl
def ingled_chunk(call):
    return Upper()
"""
WICKED = {
    "raises": "raise RuntimeError('no')",
    "loops": "while True: time.sleep(0.01)",
    "backtracks": "re.match(r'(a+)+$', 'a' * 64 + 'b')",
    "eats": "x = bytearray(3 << 30)",
    "exits": "os._exit(3)",
    "segfaults": "import ctypes; ctypes.string_at(0)",
}
"""What a plugin does when the prompt says so."""
ENDLESS = ("loops", "backtracks")


def words(count: int) -> str:
    return " ".join(f"word{i}" for i in range(count))


class Folder:
    """A folder of plugins, and a daemon that has it."""

    def __init__(self, path: Path, files: dict[str, str], more: str = "") -> None:
        self.path = path
        for name, text in files.items():
            self.write(name, text)
        self.daemon = DaemonFixture(CONFIG.format(folder=path, more=more))

    def write(self, name: str, text: str) -> None:
        write_plugin(self.path, name, text)


def verdicts(end: dict[str, Any]) -> dict[str, str]:
    return {hook["name"]: hook["verdict"] for hook in end["hooks"]}


def test_the_first_plugin_counts_although_there_was_no_folder_and_no_host_runs_for_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    with DaemonFixture(CONFIG.format(folder=folder, more="")) as daemon, Wire(daemon.socket) as client:
        client.read(client.ask("x"))
        assert not hosts(daemon)
        folder.mkdir(parents=True)
        (folder / "first.py").write_text(HEAD + "@hookimpl\ndef ingled_prompt(messages):\n    return refuse('no')\n")
        wait_until(lambda: "first" in hooks(client))
        assert client.read(client.ask("x"))[1]["code"] == "refused_by_hook"
        (folder / "first.py").unlink()
        wait_until(lambda: not hooks(client) and not hosts(daemon))
        assert client.read(client.ask("x"))[1]["t"] == "done"
        (folder / "first.py").write_text(HEAD + "@hookimpl\ndef ingled_prompt(messages):\n    return refuse('no')\n")
        wait_until(lambda: "first" in hooks(client))


def hosts(daemon: DaemonFixture) -> list[int]:
    """Process ids of its hook hosts."""
    return [pid for pid in daemon.processes() if runs(pid, "ingled.hooks")]


def test_a_file_in_the_folder_is_a_plugin_at_every_point(tmp_path: Path) -> None:
    every = """
@hookimpl
def ingled_request(request):
    return changed(request | {"options": {"max_tokens": 2}})

@hookimpl
def ingled_prompt(messages, call):
    call.state = b"kept"
    return changed([m | {"content": "one two three"} for m in messages])

@hookimpl
def ingled_answer(answer, call):
    return note(text=answer["text"], state=call.state.decode())
"""
    folder = Folder(tmp_path, {"every": every, "upper": UPPER})
    with folder.daemon as daemon, Wire(daemon.socket) as client:
        for fields in ({}, {"op": "complete", "body": {"prompt": "x"}}):
            if fields:
                client.send({"t": "request", "ref": 77, "credit": 50, **fields})
                id = client.until("accepted")[-1]["id"]
            else:
                id = client.ask("anything")
            text, end = client.read(id)
            assert text.rstrip() == "ONE TWO"
            assert [hook["verdict"] for hook in end["hooks"]] == ["changed", "changed", "changed", "unchanged"]
            assert end["hooks"][-1]["note"]["state"] == "kept"
            assert end["finish"] == "length"
        client.ask("anything", stream=False, credit=0)
        assert client.until("done", "failed")[-1]["result"]["text"].rstrip() == "ONE TWO"


def test_a_filter_refuses_answers_and_a_handler_stops(tmp_path: Path) -> None:
    text = """
HOOK = Hook(order=1)

class Until:
    held = 0
    def feed(self, text):
        if "word5" in text:
            raise Stop("five is enough", text.partition("word5")[0])
        return text
    def flush(self):
        return ""

@hookimpl
def ingled_prompt(messages):
    said = messages[-1]["content"]
    if said == "no":
        return refuse("not that")
    if said == "hi":
        return answered("hello yourself")

@hookimpl
def ingled_chunk():
    return Until()
"""
    folder = Folder(tmp_path, {"judge": text, "upper": UPPER})
    with folder.daemon as daemon, Wire(daemon.socket) as client:
        end = client.read(client.ask("no"))[1]
        assert (end["code"], end["fault"]) == ("refused_by_hook", "hook:judge")
        assert "not that" in end["message"]
        text, end = client.read(client.ask("hi"))
        assert (text, end["finish"], end["usage"]["completion"]) == ("HELLO YOURSELF", "stop", 0)
        text, end = client.read(client.ask(words(2000), model="slow", body={"max_tokens": 2000}))
        assert text == words(5).upper() + " "
        assert end["finish"] == "content_filter"
        assert end["usage"]["completion"] < 1500, "the engine has stopped"
        assert client.call("requests") == {"requests": []}


def test_saving_a_file_is_a_reload_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    say = "@hookimpl\ndef ingled_prompt(messages):\n    return answered('{}')\n"
    folder = Folder(tmp_path, {"say": say.format("one")})
    with folder.daemon as daemon, Wire(daemon.socket) as client:
        assert client.read(client.ask("x"))[0] == "one"
        begin = time.monotonic()
        folder.write("say", say.format("two"))
        wait_until(lambda: client.read(client.ask("x"))[0] == "two")
        took = time.monotonic() - begin
        print(f"a changed plugin took effect after {took:.2f} s")
        pid = hooks(client)["say"]["pid"]
        folder.write("say", "def ingled_promt(messages):\n    return None\n")
        wait_until(lambda: client.call("hooks")["problems"])
        problem = client.call("hooks")["problems"][0]
        assert problem["plugin"] == "say" and "say.py:3" in problem["why"] and "ingled_prompt" in problem["why"]
        assert client.read(client.ask("x"))[0] == "two"
        assert hooks(client)["say"]["pid"] == pid
        folder.write("say", say.format("three"))
        wait_until(lambda: client.read(client.ask("x"))[0] == "three")
        assert client.call("hooks")["problems"] == []
        (tmp_path / "say.py").unlink()
        wait_until(lambda: client.read(client.ask("x"))[0] == "x")
        assert hooks(client) == {}
        wait_until(lambda: pid not in daemon.processes())


def test_streams_in_flight_outlive_a_reload(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"upper": UPPER})
    with folder.daemon as daemon, Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        text = words(1500)
        id = client.ask(text, model="slow", body={"max_tokens": 1500})
        first = client.until("chunk")[-1]
        old = hooks(other)["upper"]["pid"]
        folder.write("upper", UPPER.replace("upper()", "lower()"))
        wait_until(lambda: hooks(other)["upper"]["pid"] not in (None, old))
        got, end = client.read(id, ack=len(first["x"]))
        assert first["x"] + got == text.upper()
        assert verdicts(end) == {"upper": "changed"}
        assert other.read(other.ask("A B"))[0] == "a b"
        wait_until(lambda: old not in daemon.processes())


@pytest.mark.parametrize("what", list(WICKED))
@pytest.mark.parametrize("policy", ["refuse", "skip"])
def test_a_wicked_plugin_harms_only_the_request_that_it_meets(tmp_path: Path, what: str, policy: str) -> None:
    deadline_ms = 4000 if what in ENDLESS else 30_000
    wicked = f"""
HOOK = Hook(order=9, deadline_ms={deadline_ms}, on_error="{policy}")

@hookimpl
def ingled_prompt(messages):
    if messages[-1]["content"] == "boom":
        {WICKED[what]}
"""
    folder = Folder(tmp_path, {"wicked": wicked, "upper": UPPER})
    with folder.daemon as daemon, Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        client.read(client.ask("warm"))
        with Wire(daemon.socket) as stream:
            text = words(1200)
            streamed = stream.ask(text, model="slow", body={"max_tokens": 1200})
            first = stream.until("chunk")[-1]["x"]
            slowest, stop = [0.0], threading.Event()

            def ask_status() -> None:
                with Wire(daemon.socket) as asker:
                    while not stop.is_set():
                        begin = time.monotonic()
                        asker.call("status")
                        slowest[0] = max(slowest[0], time.monotonic() - begin)
                        time.sleep(0.002)

            asker = threading.Thread(target=ask_status)
            asker.start()
            try:
                for _ in range(2):
                    bad = client.ask("boom")
                    others = [other.ask(f"fine {i}") for i in range(5)]
                    end = client.until("done", "failed")[-1]
                    assert end["id"] == bad
                    if policy == "refuse":
                        assert (end["t"], end["code"], end["fault"]) == ("failed", "hook_failed", "hook:wicked")
                    else:
                        assert end["t"] == "done"
                    met = {hook["name"]: hook for hook in end["hooks"]}["wicked"]
                    assert met["verdict"] in ("error", "skipped") and met["why"]
                    ends = [other.until("done", "failed")[-1] for _ in others]
                    assert [one["t"] for one in ends] == ["done"] * 5, ends
                    assert all(verdicts(one)["wicked"] == "unchanged" for one in ends), ends
                got, end = stream.read(streamed, ack=len(first))
                assert first + got == text.upper()
                assert verdicts(end)["upper"] == "changed"
            finally:
                stop.set()
                asker.join()
        print(f"{what}, {policy}: {met['verdict']}: {met['why'][:90]}; slowest status {slowest[0] * 1000:.1f} ms")
        assert set(hooks(other)) == {"wicked", "upper"}
        assert other.read(other.ask("fine"))[0] == "FINE"


def test_handled_streams_outlive_the_broker(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"upper": UPPER})
    with folder.daemon as daemon:
        text = words(1500)
        clients = [Wire(daemon.socket) for _ in range(10)]
        ids = [client.ask(text, model="slow", body={"max_tokens": 1500}) for client in clients]
        firsts = [client.until("chunk")[-1]["x"] for client in clients]
        daemon.kill()
        daemon.start()
        with Wire(daemon.socket) as other:
            for id, first in zip(ids, firsts, strict=True):
                other.send({"t": "attach", "ref": 1, "id": id, "offset": len(first), "credit": 100})
                assert other.until("accepted", "failed")[-1]["t"] == "accepted"
                got, end = other.read(id, ack=len(first))
                assert first + got == text.upper()
                assert verdicts(end) == {"upper": "changed"}
        for client in clients:
            client.close()


def test_handled_streams_outlive_their_worker(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"upper": UPPER})
    with folder.daemon as daemon, Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        text = words(1000)
        id = client.ask(text, model="slow", body={"max_tokens": 1000})
        first = client.until("chunk")[-1]["x"]
        os.kill(next(m["pid"] for m in other.call("models")["models"] if m["name"] == "slow"), signal.SIGKILL)
        got, end = client.read(id, ack=len(first))
        assert first + got == text.upper()
        assert end["resumed"] == 1


def test_a_configured_plugin_that_cannot_run_lets_no_request_pass(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"broken": "def (\n"}, "[plugins.broken]\norder = 3\n[plugins.gone]\non_error = 'skip'\n")
    with folder.daemon as daemon, Wire(daemon.socket) as client:
        end = client.read(client.ask("x"))[1]
        assert (end["t"], end["code"], end["fault"]) == ("failed", "hook_failed", "hook:broken")
        folder.write("broken", "@hookimpl\ndef ingled_prompt(messages):\n    return None\n")
        wait_until(lambda: client.read(client.ask("x"))[1]["t"] == "done")
        end = client.read(client.ask("x"))[1]
        assert verdicts(end) == {"gone": "skipped", "broken": "unchanged"}


def test_hook_hosts_leave_with_the_daemon_and_leave_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"upper": UPPER})
    with folder.daemon as daemon:
        with Wire(daemon.socket) as client:
            assert client.read(client.ask("x"))[0] == "X"
            pid = hooks(client)["upper"]["pid"]
        assert pid in daemon.processes()
        assert daemon.stop() == 0
        assert daemon.processes() == set()
        assert list(Path(f"{daemon.socket}.d", "hosts").iterdir()) == []
