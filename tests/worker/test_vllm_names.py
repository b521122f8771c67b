"""Every name of vLLM that ingle uses exists, with the parameters it passes: here, and in the sources of other versions.

The sources are read, never imported. What the oldest version has is written down beside this file; the slow tests read
its wheel, and that of the newest one that we know.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from ingled import testing_vllm
from ingled.testing_vllm import NoWheel, Sources, from_folder, from_skeleton, from_wheel
from ingled.worker.vllm_names import CORE_USES, END_USES, METRIC_USES, NOW_USES, TEMPLATE_USES, USES

SKELETON = Path(__file__).with_name(f"vllm-{testing_vllm.OLDEST}.json")


def wheel(version: str) -> Path:
    try:
        return testing_vllm.wheel(version)
    except NoWheel as error:
        pytest.skip(f"no network: {error}")


@pytest.mark.vllm
def test_the_installed_vllm_has_every_name_that_is_used() -> None:
    found = find_spec("vllm")
    assert found and found.origin, "vllm is not installed"
    sources = Sources(from_folder(Path(found.origin).parents[1]))
    assert sources.missing() == []
    assert sources.missing((*END_USES, *METRIC_USES, *NOW_USES)) == []


def test_the_oldest_vllm_has_every_name_that_is_used() -> None:
    renew = f"or used for the first time: python -m ingled.testing_vllm > {SKELETON}"
    assert Sources(from_skeleton(SKELETON)).missing() == [], renew


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_skeleton_is_that_of_the_wheel() -> None:
    read = from_wheel(wheel(testing_vllm.OLDEST))
    assert Sources(read).missing() == []
    assert testing_vllm.skeleton(read) == json.loads(SKELETON.read_text())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_newest_vllm_that_we_know_has_every_name_that_is_used() -> None:
    assert Sources(from_wheel(wheel(testing_vllm.NEWEST))).missing() == []


LOOK = (
    "import sys, json; from ingled.worker.vllm_names import absent; print(json.dumps(absent(json.loads(sys.argv[1]))))"
)


def looked_up(uses: tuple[str, ...]) -> object:
    """Return what a process of its own finds absent: this one does not import vLLM."""
    command = [sys.executable, "-W", "ignore", "-c", LOOK, json.dumps(uses)]
    environ = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environ)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.vllm
@pytest.mark.timeout(400)
def test_names_are_looked_up_at_start_too() -> None:
    gone = (
        "vllm.v1.engine:NoSuchThing",
        "vllm.v1.engine:EngineCoreOutput(request_id, no_such_field)",
        "vllm.v1.no_such_module:EngineCoreOutput",
        "vllm.v1.engine.detokenizer:IncrementalDetokenizer.no_such_call()",
    )
    assert looked_up((*CORE_USES, *TEMPLATE_USES, *gone)) == list(gone)


def test_what_is_gone_is_found(tmp_path: Path) -> None:
    assert f"{USES[0]}: no such name" in Sources(from_folder(tmp_path)).missing()
    file = tmp_path / "vllm" / "renderers" / "params.py"
    file.parent.mkdir(parents=True)
    file.write_text("class ChatParams:\n    other: int\n")
    use = "vllm.renderers.params:ChatParams(chat_template_kwargs)"
    assert f"{use}: no parameter chat_template_kwargs" in Sources(from_folder(tmp_path)).missing()


def test_a_skeleton_has_the_names_and_nothing_that_runs(tmp_path: Path) -> None:
    source = '''
import secrets
from vllm.other import Base
from elsewhere import x
HIDDEN = "a text"
if secrets:
    ON = 1
class Args(Base):
    """Words."""
    size: int = 3
    def __init__(self, a, *, b=HIDDEN):
        self.kept = secrets.token_hex()
        parser.add_argument("--the-option", help="a help")
'''
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "some.py").write_text(source)
    made = testing_vllm.skeleton(from_folder(tmp_path), ["vllm.some:Args(a)"])
    assert Sources(made.get).missing(["vllm.some:Args(a, b)", "vllm.some:Args.kept", "vllm.some:ON"]) == []
    text = made["vllm/some.py"]
    assert "--the-option" in text and "from vllm.other import Base" in text
    assert not any(word in text for word in ("secrets", "a text", "a help", "Words", "elsewhere"))
