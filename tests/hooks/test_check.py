"""`python -m ingled.hooks --check`: what --check-config asks of a process that ends then."""

import subprocess
import sys
from pathlib import Path

import msgspec
from ingled import link

GOOD = "from ingled.hooks import *\nprint('I print')\n@hookimpl\ndef ingled_prompt(messages):\n    return None\n"


def check(setup: link.Setup) -> tuple[int, link.Offers | None, str]:
    """Return the exit code, what was said, and what was written for people."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ingled.hooks", "--check"],
        input=msgspec.msgpack.encode(setup), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    offers = msgspec.msgpack.decode(done.stdout, type=link.Offers) if done.stdout else None
    return done.returncode, offers, done.stderr.decode()


def test_good_plugins_are_offered_and_what_they_print_disturbs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        GOOD + "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()"
    )
    code, offers, said = check(link.Setup({}, str(tmp_path)))
    assert (code, "I print" in said) == (0, True)
    assert offers is not None and offers.plugins[0].offer is not None


def test_a_problem_is_told_by_the_exit_code_too(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(GOOD)
    (tmp_path / "b.py").write_text("1 / 0")
    code, offers, _ = check(link.Setup({"c": link.Choice()}, str(tmp_path)))
    assert code == 1
    assert offers is not None
    assert [one.problem for one in offers.plugins][:2] == [
        "",
        f"{tmp_path}/b.py:1: ZeroDivisionError: division by zero",
    ]


def test_a_plugin_that_ends_the_process_is_named_last(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(GOOD)
    (tmp_path / "b.py").write_text("import os\nos._exit(3)")
    code, offers, said = check(link.Setup({}, str(tmp_path)))
    assert (code, offers) == (3, None)
    assert said.splitlines()[-1].endswith("loading plugin 'b'")
