"""The training script works: what it feeds, and that two steps write a whole model. Needs torch, which vLLM brings."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ingled.models.builtin import ember_path

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
ROWS = """
import json, sys
from itertools import islice
from pathlib import Path
from bench.ember.examples import training
from bench.ember.tokenizer import load
from bench.ember.train import Rows
rows = Rows(load(json.loads(Path(sys.argv[1]).read_text())), 20, hide=True)
hidden, arguments = 0, 0
for one in islice(training(), 2000):
    asked = rows.part("user", one.request, 0.0)
    row = rows.hide(asked, one)
    assert len(row.ids) == len(asked.ids) and row.weights == asked.weights
    text = rows.tokenizer.decode(row.ids, skip_special_tokens=False)
    hidden += rows.hidden in row.ids
    for piece, argument in one.pieces:
        if argument:
            arguments += 1
            assert piece in text, (piece, text)
print(hidden, arguments)
"""


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_words_are_hidden_and_arguments_never() -> None:
    hidden, arguments = map(int, run("-c", ROWS, str(ember_path() / "tokenizer.json")).split())
    assert 500 < hidden < 1900
    assert arguments > 1000


def test_two_steps_of_training_write_a_whole_model(tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = run("-m", "bench.ember.train", "--out", str(out), "--steps", "2", "--batch", "512", "--threads", "1")
    assert "step 2" in told and "step 1 " in told
    made = {file.name: file for file in out.iterdir()}
    assert set(made) == {file.name for file in ember_path().iterdir()} - {"README.md"}
    for name, file in made.items():
        if name.endswith(".json"):
            assert json.loads(file.read_text()) == json.loads((ember_path() / name).read_text()), name
    heads = []
    for folder in (out, ember_path()):
        data = (folder / "model.safetensors").read_bytes()
        heads.append(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))
    assert heads[0] == heads[1]
