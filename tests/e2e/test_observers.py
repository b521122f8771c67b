"""Observers on a real daemon: they are told of every end, and what they fail at harms nobody."""

import json
from pathlib import Path
from typing import Any

from ingled.testing import Wire
from ingled.testing_link import wait_until
from ingled.testing_plugins import daemon_with, hooks, told

NOTHING = """
@hookimpl
def ingled_prompt(messages):
    return None
"""
WATCHES = """
import json
@hookimpl
def ingled_observe(answer, call):
    with open("{file}", "a") as out:
        failed = answer.get("failed") or {{}}
        out.write(json.dumps([call.id, answer["finish"], failed.get("code"), answer["text"]]) + "\\n")
"""
REFUSES = """
@hookimpl
def ingled_prompt(messages):
    return refuse("no") if messages[-1]["content"] == "refuse" else None
"""


def test_observers_are_told_of_every_end(tmp_path: Path) -> None:
    file, folder = tmp_path / "seen", tmp_path / "plugins"
    folder.mkdir()

    def seen(id: str) -> list[Any]:
        wait_until(lambda: any(line[0] == id for line in lines()))
        (found,) = (line[1:] for line in lines() if line[0] == id)
        return list(found)

    def lines() -> list[Any]:
        text = file.read_text() if file.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    slow = "[models.slow]\nsource = 'builtin:ember'\necho = {delay_ms = 20}\npreload = true\n"
    plugins = {"watches": WATCHES.format(file=file), "refuses": REFUSES}
    with daemon_with(folder, slow, **plugins) as daemon, Wire(daemon.socket) as client:
        id = client.ask("hello")
        assert told(client.read(id)[1], "watches")["verdict"] == "told"
        assert seen(id) == ["stop", None, "hello"]
        id = client.ask("refuse")
        end = client.read(id)[1]
        assert [(hook["name"], hook["verdict"]) for hook in end["hooks"]] == [
            ("refuses", "refuse"),
            ("watches", "told"),
        ]
        assert seen(id) == ["failed", "refused_by_hook", ""]
        long = " ".join(f"word{i}" for i in range(500))
        id = client.ask(long, model="slow")
        client.until("chunk")
        daemon.cli("cancel", id)
        assert client.until("failed")[-1]["code"] == "cancelled"
        finish, code, text = seen(id)
        assert (finish, code) == ("failed", "cancelled")
        assert text and long.startswith(text), "what there was of the answer"
        with Wire(daemon.socket) as leaves:
            id = leaves.ask(long, model="slow")
            leaves.until("chunk")
        assert seen(id)[:2] == ["failed", "cancelled"]
        id = client.ask(long, model="slow", deadline_ms=300)
        assert client.read(id)[1]["code"] == "deadline"
        assert seen(id)[:2] == ["failed", "deadline"]


def test_what_an_observer_fails_at_is_counted_and_logged(tmp_path: Path) -> None:
    fails = "@hookimpl\ndef ingled_observe(answer):\n    raise RuntimeError(f'cannot keep {answer[\"text\"]}')\n"
    with daemon_with(tmp_path, fails=fails, watches=REFUSES) as daemon, Wire(daemon.socket) as client:
        assert told(client.read(client.ask("geheim"))[1], "fails")["verdict"] == "told"
        wait_until(lambda: hooks(client)["fails"]["failures"] == 1)
        assert "cannot keep geheim" in hooks(client)["fails"]["last_failure"]
        wait_until(lambda: "hook 'fails' failed at 'observe'" in daemon.log.read_text())
        assert "geheim" not in daemon.log.read_text(), "what a hook says may quote a prompt"
        for _ in range(4):
            client.read(client.ask("x"))
        wait_until(lambda: hooks(client)["fails"]["state"] == "tripped")
        assert told(client.read(client.ask("x"))[1], "fails")["verdict"] == "skipped"


def test_observers_are_told_of_the_last_ends_before_the_daemon_ends(tmp_path: Path) -> None:
    file, folder = tmp_path / "seen", tmp_path / "plugins"
    folder.mkdir()
    slow = WATCHES.replace("with open", "time.sleep(0.05)\n    with open").format(file=file)
    with daemon_with(folder, watches=slow) as daemon, Wire(daemon.socket) as client:
        ids = [client.ask(f"number {number}") for number in range(20)]  # 8 at a time: most of them wait
        for _ in ids:
            client.until("done")
        assert daemon.stop() == 0
    assert sorted(json.loads(line)[0] for line in file.read_text().splitlines()) == sorted(ids)


def test_an_observer_that_hangs_delays_nobody_and_meets_its_deadline(tmp_path: Path) -> None:
    hangs = (
        "HOOK = Hook(deadline_ms=200)\n@hookimpl\ndef ingled_observe(answer):\n"
        "    while answer['text'] == 'hang':\n        time.sleep(0.01)\n"
    )
    file = tmp_path / "seen"
    folder = tmp_path / "plugins"
    folder.mkdir()
    plugins = {"hangs": hangs, "zwatches": WATCHES.format(file=file)}
    with daemon_with(folder, **plugins) as daemon, Wire(daemon.socket) as client:
        assert client.read(client.ask("hang"))[1]["t"] == "done"
        assert client.read(client.ask("go on"))[1]["t"] == "done"
        wait_until(lambda: hooks(client)["hangs"]["failures"] >= 1)
        assert "no answer within 200 ms" in hooks(client)["hangs"]["last_failure"]
        wait_until(lambda: file.exists() and len(file.read_text().splitlines()) == 2)


def test_an_observer_that_ends_its_host_has_failed_and_gets_one_of_its_own(tmp_path: Path) -> None:
    dies = "@hookimpl\ndef ingled_observe(answer):\n    if answer['text'] == 'die':\n        os._exit(3)\n"
    with daemon_with(tmp_path, dies=dies, other=NOTHING) as daemon, Wire(daemon.socket) as client:
        for count in (1, 2):
            assert client.read(client.ask("die"))[1]["t"] == "done"
            wait_until(lambda count=count: hooks(client)["dies"]["failures"] == count)  # type: ignore[misc]
        wait_until(lambda: hooks(client)["dies"]["pid"] not in (None, hooks(client)["other"]["pid"]))
        assert told(client.read(client.ask("x"))[1], "other")["verdict"] == "unchanged"
