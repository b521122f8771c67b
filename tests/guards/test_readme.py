"""What the README shows can be done: its commands exist, its Python runs, its configuration is right."""

import re
import subprocess
import sys
import time
from pathlib import Path

from ingled.config import load
from ingled.testing import DaemonFixture, Wire

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for found, text in fences if found == kind]


def test_every_verb_of_the_readme_exists() -> None:
    verbs = set(re.findall(r"(?:^|[$;|] )ingle ([a-z]+)\b", "\n".join(blocks("")), re.MULTILINE))
    assert {"ask", "ps", "load", "attach"} <= verbs
    for verb in verbs:
        done = subprocess.run([sys.executable, "-m", "ingle", "help", verb], capture_output=True, check=False)
        assert done.returncode == 0, verb


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", "\n".join(blocks("")))) <= targets


def test_the_readmes_python_prints_an_answer() -> None:
    (code,) = blocks("python")
    with DaemonFixture() as daemon:
        environ = daemon.environ | {"INGLE_SOCKET": str(daemon.socket)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
    assert (done.stdout, done.stderr) == ("why is the sky blue?", "")


def test_the_readmes_configuration_is_right(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    file = tmp_path / "ingled.toml"
    file.write_text(text)
    assert load(file).models["qwen"].context == 16384


def test_the_readmes_plugin_and_filter_do_what_it_says(tmp_path: Path) -> None:
    (plugin,) = blocks("py")
    (guard,) = (text for text in blocks("sh") if text.startswith("#!"))
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "brief.py").write_text(plugin)
    script = tmp_path / "no-passwords.sh"
    script.write_text(guard)
    script.chmod(0o755)
    (command,) = re.findall("^# (ingle hook run .*)$", guard, re.MULTILINE)
    words = [sys.executable, "-m", *command.replace("run", "run --deadline-ms 10000", 1).split()]
    with DaemonFixture(f'[daemon]\nplugin_folder = "{plugins}"\n') as daemon, Wire(daemon.socket) as client:
        environ = daemon.environ | {"INGLE_SOCKET": str(daemon.socket)}
        with subprocess.Popen(words, cwd=tmp_path, env=environ) as process:
            try:
                deadline = time.monotonic() + 60
                while len(client.call("hooks")["hooks"]) < 2:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                done = client.read(client.ask("hi"))[1]
                assert done["hooks"][0] | {"us": 0} == {
                    "name": "brief", "version": "0", "point": "prompt", "verdict": "changed", "us": 0
                }  # fmt: skip
                failed = client.read(client.ask("it is hunter2"))[1]
                assert (failed["code"], "no passwords, please" in failed["message"]) == ("refused_by_hook", True)
            finally:
                process.kill()


def test_the_files_that_the_readme_links_exist() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link
