"""What docs/hooks.md says of plugins works: every plugin of the page is loaded, and its test passes."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from ingled.config import load
from ingled.config.tables import Hook, Plugin
from ingled.testing import DaemonFixture, Wire
from ingled.testing_plugins import HEAD, write_plugin

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_plugin_of_the_page_runs(tmp_path: Path) -> None:
    names = ("brief", "calm", "no_secrets")
    for name, text in zip(names, blocks("python plugin"), strict=True):
        (tmp_path / f"{name}.py").write_text(text)
    with DaemonFixture(f'[daemon]\nplugin_folder = "{tmp_path}"\n') as daemon, Wire(daemon.socket) as client:
        text, end = client.read(client.ask("go!"))
        assert text == "go."
        assert {hook["name"]: hook["verdict"] for hook in end["hooks"]} == {
            "no_secrets": "unchanged",
            "brief": "changed",
            "calm": "changed",
        }
        assert client.read(client.ask("a hunter2 b"))[1]["code"] == "refused_by_hook"
        text, end = client.read(client.ask("do PANIC now"))
        assert end["finish"] == "content_filter"


def test_the_tables_of_the_page_are_right(tmp_path: Path) -> None:
    """They load, have each key that there is and no other, and do what the page says."""
    told, rule = (text for text in blocks("toml") if not text.startswith("[project"))
    assert set(re.findall(r"^(\w+) = ", rule, re.MULTILINE)) == set(Hook.__struct_fields__)
    part = PAGE.split("The keys of `[plugins.NAME]`")[1].split("\n\n")[1]
    firsts = "".join(line.split("|")[1] for line in part.splitlines())
    assert set(re.findall(r"`(\w+)`", firsts)) == set(Plugin.__struct_fields__)
    file = tmp_path / "ingled.toml"
    file.write_text(told + rule)
    assert load(file).hooks["audit"].scope_all
    (tmp_path / "no_secrets.py").write_text(blocks("python plugin")[2])
    with DaemonFixture(f'[daemon]\nplugin_folder = "{tmp_path}"\n{told}{rule}') as daemon:
        with Wire(daemon.socket, tags=("editor",)) as client:
            assert client.read(client.ask("a swordfish"))[1]["code"] == "refused_by_hook"
        with Wire(daemon.socket) as client:
            assert client.read(client.ask("a swordfish"))[0] == "a swordfish"


def test_a_plugin_is_active_when_it_is_saved(tmp_path: Path) -> None:
    config = f'[daemon]\nplugin_folder = "{tmp_path}"\n[plugins.brief]\ndeadline_ms = 30_000\n'
    with DaemonFixture(config) as daemon, Wire(daemon.socket) as client:
        assert client.call("hooks")["hooks"] == []
        (tmp_path / "brief.py").write_text(blocks("python plugin")[0])
        deadline = time.monotonic() + 60
        while not client.call("hooks")["hooks"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = client.read(client.ask("hi"))[1]
        assert [(one["name"], one["verdict"]) for one in done["hooks"]] == [("brief", "changed")]
        for example in ('{"messages": [{"role": "user", "content": "hi"}]}', '{"prompt": "hi"}'):
            tried = daemon.cli("hooks", "test", "brief", input=example)
            assert (tried.returncode, "brief at prompt: changed" in tried.stdout) == (0, True), tried.stdout


def test_what_the_page_says_of_failures(tmp_path: Path) -> None:
    """A reason in `done.hooks` for what raises and for what ends the process; a guard that cannot run refuses."""
    for name, does in (("a_raises", "1 / 0"), ("b_ends", "import os; os._exit(3)")):
        write_plugin(tmp_path, name, f"@hookimpl\ndef ingled_prompt(messages):\n    {does}\n")
    config = f'[daemon]\nplugin_folder = "{tmp_path}"\n'
    with DaemonFixture(config) as daemon, Wire(daemon.socket) as client:
        text, end = client.read(client.ask("hi"))
        assert text == "hi"
        why = {one["name"]: (one["verdict"], one["why"]) for one in end["hooks"]}
        assert why["b_ends"] == ("skipped", "the hook host ended under it (exit status 3)")
        assert "ZeroDivisionError" in why["a_raises"][1]
    with DaemonFixture(config + "[plugins.nowhere]\n") as daemon, Wire(daemon.socket) as client:
        assert client.read(client.ask("hi"))[1]["code"] == "hook_failed"


def test_the_test_of_the_page_passes(tmp_path: Path) -> None:
    (text,) = blocks("python test")
    assert len([line for line in text.splitlines() if line.strip()]) <= 20
    (tmp_path / "test_ping.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        "test_ping.py",
    ]
    environ = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_an_installed_plugin_guards_an_answer_and_hears_of_models(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    (tmp_path / "ear.py").write_text(
        f"{HEAD}@hookimpl\ndef ingled_model(change):\n    open({str(heard)!r}, 'a').write(change['state'] + '\\n')\n"
    )
    config = f'[daemon]\nplugin_folder = "{tmp_path}"\n[plugins.guard]\ndeadline_ms = 30_000\n'
    with DaemonFixture(config) as daemon, Wire(daemon.socket) as client:
        harmless = "```sh\nrm -rf ./build\n```\n"
        text, end = client.read(client.ask(harmless))
        assert text.split() == harmless.split(), end
        text, end = client.read(client.ask('```sh\nX=rm; $X -r -f "/"\n```\nand more'))
        assert end["finish"] == "content_filter", (text, end)
        assert "more" not in text
        client.call("unload", model="ember", force=True)
        assert "guard" in {hook["name"] for hook in client.call("hooks")["hooks"]}
    assert heard.read_text().split()[-1] in ("stopping", "cold")


def test_check_config_names_what_is_wrong_with_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n")
    file = tmp_path / "ingled.toml"
    file.write_text(f'[daemon]\nplugin_folder = "{tmp_path}"\n[plugins.guard]\noptions = {{comands = "off"}}\n')
    command = [sys.executable, "-m", "ingled", "--check-config", "--engine", "echo", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "plugins.bad:" in done.stderr and "bad.py:1" in done.stderr and "nothing_of_this_name" in done.stderr
    assert "plugins.guard" in done.stderr and "commands" in done.stderr


def test_redact_hides_from_the_model_and_gives_back_in_the_stream() -> None:
    config = "[plugins.redact]\n"
    secret = "write to jane.doe@example.org, not to jane.doe@example.org, about AKIAQYLPMN5HHHFPZAM2 please"
    with DaemonFixture(config) as daemon, Wire(daemon.socket) as client:
        text, end = client.read(client.ask(secret))
        assert text == secret
        assert {(hook["name"], hook["point"], hook["verdict"]) for hook in end["hooks"]} >= {
            ("redact", "prompt", "changed"),
            ("redact", "chunk", "changed"),
        }
        value = {"messages": [{"role": "user", "content": secret}]}
        tested = client.call("hook_test", hook="redact", point="prompt", value=value)
        shown = tested["value"]["messages"][-1]["content"]
        assert "jane" not in shown and "AKIA" not in shown and shown.startswith("write to [")
        client.ask(secret, stream=False, credit=0)
        assert client.until("done", "failed")[-1]["result"]["text"] == secret
        assert "jane" not in daemon.log.read_text()
