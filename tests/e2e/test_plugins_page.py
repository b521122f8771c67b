"""What docs/hooks.md says of plugins works: every plugin of the page is loaded, and its test passes."""

import os
import re
import subprocess
import sys
from pathlib import Path

from ingled.testing import DaemonFixture, Wire

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
        "from ingled.hooks import hookimpl\n\n@hookimpl\ndef ingled_model(change):\n"
        f"    open({str(heard)!r}, 'a').write(change['state'] + '\\n')\n"
    )
    config = f'[daemon]\nplugin_folder = "{tmp_path}"\n[plugins.guard]\n'
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
