"""What ember answers, through the real engine: one start for all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.ember.evaluate import is_command
from bench.ember.templates import DOES_NOT_KNOW

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from bench.ember.evaluate import ask
from ingled.models.builtin import ember_path
json.dump(ask(ember_path(), json.load(sys.stdin)), open(sys.argv[1], "w"))
"""
COMMANDS = {
    "list files larger than 10 MB under src": "find src -type f -size +10M",
    "how many lines are there in notes.txt?": "wc -l notes.txt",
    "Find all python files in lib": "find lib -type f -name '*.py'",
    "unpack photos.tar.gz": "tar -xzf photos.tar.gz",
    "make run.sh executable": "chmod +x run.sh",
    "replace foo with bar in settings.ini": "sed -i 's/foo/bar/g' settings.ini",
    "show the last 20 lines of server.log": "tail -n 20 server.log",
    "create a folder called projects/new": "mkdir -p projects/new",
    "what is using port 8080?": "lsof -i :8080",
    "create a new branch called fix-login": "git checkout -b fix-login",
}
UNKNOWN = ["what is the weather like in Paris?", "write a poem about the sea", "what is 17 times 23?", "tell me a joke"]


def test_ember_answers_what_it_was_made_for(tmp_path: Path) -> None:
    requests = [*COMMANDS, *UNKNOWN, "hello", "what is ingle?"]
    asked = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "answers.json")],
        cwd=ROOT,
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr[-3000:]
    answers = dict(zip(requests, json.loads((tmp_path / "answers.json").read_text()), strict=True))
    assert {request: answers[request] for request in COMMANDS} == COMMANDS
    assert {answers[request] for request in UNKNOWN} == {DOES_NOT_KNOW}
    assert "I am ember" in answers["hello"] or "ember" in answers["hello"]
    assert not is_command(answers["hello"])
    assert answers["what is ingle?"].startswith("ingle keeps language models warm")
