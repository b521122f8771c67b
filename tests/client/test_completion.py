"""The completion scripts, in the shells themselves, with names that a shell would like to expand."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

NASTY = ["$(echo${IFS}pwned>&2)", "`echo${IFS}pwned>&2`", "a;b", "*", "qwen:7b", "two words", "it's", "\x1b[31mred"]


def shell_or_skip(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def bin(ingle: Any, daemon: Any, folder: Path) -> dict[str, str]:
    """An environment with an `ingle` that talks to a daemon whose models have nasty names."""
    daemon.models = [{"name": "tiny", "aliases": NASTY, "state": "cold"}]
    (folder / "bin").mkdir()
    command = folder / "bin" / "ingle"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ingle "$@"\n')
    command.chmod(0o755)
    environment: dict[str, str] = ingle.environment
    return environment | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "ZDOTDIR": str(folder),
        "LANG": "C.UTF-8", "TERM": "dumb",
    }  # fmt: skip


def complete_in_bash(line: str, environment: dict[str, str], script: str) -> list[str]:
    """Return what bash would put on the command line."""
    bash = shell_or_skip("bash")
    lines = f"""{script}
    COMP_LINE=$1 COMP_POINT=${{#1}} COMP_WORDBREAKS=$' \\t\\n"><=;|&(:'
    _ingle
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ran = subprocess.run(
        [bash, "--norc", "-u", "-c", lines, "bash", line], env=environment, capture_output=True, text=True, timeout=100
    )
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def unquoted(words: list[str]) -> list[str]:
    ran = subprocess.run(["bash", "-c", "printf '%s\\n' " + " ".join(words)], capture_output=True, text=True)
    return ran.stdout.splitlines()


def test_bash_runs_nothing_and_quotes(ingle: Any, daemon: Any, bin: dict[str, str]) -> None:
    script = ingle("completion", "bash").stdout
    said = complete_in_bash("ingle show ", bin, script)
    shown = [*NASTY[:-1], "\\x1b[31mred"]
    assert unquoted(said) == ["tiny", *shown]  # so nothing runs at Enter either
    assert complete_in_bash("ingle ask -m ti", bin, script) == ["tiny"]
    assert unquoted(complete_in_bash("ingle load $(ec", bin, script)) == [NASTY[0]]
    assert unquoted(complete_in_bash("ingle load \\$\\(ec", bin, script)) == [NASTY[0]]
    assert complete_in_bash("ingle load qwen:", bin, script) == ["7b"]
    assert complete_in_bash("ingle events h", bin, script) == ["hook"]
    assert complete_in_bash("ingle help ex", bin, script) == ["exit-codes"]
    assert complete_in_bash("ingle ask --model qwen:7", bin, script) == ["7b"]
    assert complete_in_bash("ingle sho", bin, script) == ["show"]
    assert complete_in_bash("ingle help sho", bin, script) == ["show"]
    assert complete_in_bash("ingle models --na", bin, script) == ["--names"]
    assert complete_in_bash("ingle cancel ", bin, script) == [""]
    assert complete_in_bash("ingle hook ", bin, script) == ["run"]
    assert complete_in_bash("ingle hook run --dea", bin, script) == ["--deadline-ms"]
    assert complete_in_bash("ingle hooks t", bin, script) == ["test", "trace"]
    assert complete_in_bash("ingle config ", bin, script) == ["show", "check"]
    assert complete_in_bash("ingle config show --eff", bin, script) == ["--effective"]
    assert complete_in_bash("ingle config show ", bin, script) == [""]
    daemon.hook_list = [{"name": name} for name in ("redact", "$(pwned)", "shout")]
    assert unquoted(complete_in_bash("ingle hooks test ", bin, script)) == ["redact", "$(pwned)", "shout"]
    assert complete_in_bash("ingle completion b", bin, script) == ["bash"]


def test_bash_completes_files_where_a_file_is_meant(ingle: Any, bin: dict[str, str], folder: Path) -> None:
    script = ingle("completion", "bash").stdout
    (folder / "new.toml").touch()
    lines = f"""{script}
    cd {folder}; COMP_LINE='ingle config check ne' COMP_POINT=21 COMP_WORDS=(ingle config check ne) COMP_CWORD=3
    compopt() {{ :; }}  # which works only while bash itself completes
    _ingle; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ran = subprocess.run([shell_or_skip("bash"), "--norc", "-c", lines], env=bin, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("new.toml\n", "")


def test_fish_runs_nothing(ingle: Any, bin: dict[str, str]) -> None:
    fish = shell_or_skip("fish")

    def complete(line: str) -> list[str]:
        script = ingle("completion", "fish").stdout + "\ncomplete -C $argv[1]"
        ran = subprocess.run([fish, "-N", "-c", script, line], env=bin, capture_output=True, text=True, timeout=100)
        assert ran.stderr == ""
        return [found.partition("\t")[0] for found in ran.stdout.splitlines()]

    assert set(complete("ingle show ")) == {"tiny", *NASTY[:-1], "\\x1b[31mred"}
    assert complete("ingle ask -m ti") == ["tiny"]
    assert complete("ingle sho") == ["show"]
    assert complete("ingle models --na") == ["--names"]
    assert complete("ingle hook ") == ["run"]
    assert complete("ingle hooks ") == ["test", "trace"]
    assert set(complete("ingle config ")) == {"show", "check"}


def typed_in_zsh(zsh: str, environment: dict[str, str], script: Path, keys: str, wanted: str) -> str:
    """Type in a real zsh until something appears; returns all that was seen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(zsh, [zsh, "-f", "-i"], environment | {"TERM": "xterm"})
    try:
        os.write(terminal, f"PS1='>'; unsetopt beep; source {script} && print rea''dy\n".encode())
        raw, seen, end, asked = "", "", monotonic() + 100, False
        while wanted not in seen:
            assert select.select([terminal], [], [], max(0.0, end - monotonic()))[0], seen
            raw += os.read(terminal, 4096).decode(errors="replace")
            seen = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\x08", "", raw)
            seen = re.sub(" +", " ", seen)
            if "ready\r\n" in seen and not asked:
                asked = True
                os.write(terminal, keys.encode())
        return raw
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def test_zsh_runs_nothing_and_quotes(ingle: Any, bin: dict[str, str], folder: Path) -> None:
    zsh = shell_or_skip("zsh")
    script = folder / "script"
    script.write_text(ingle("completion", "zsh").stdout)
    for keys, wanted in (
        ("ingle sho\tti\t", "show tiny"),
        (r"ingle ask -m \$\(ec" + "\t", r"\$\(echo\$\{IFS\}pwned\>\&2\)"),
        ("ingle models --na\t", "models --names"),
        ("ingle show \t", "31mred"),
        ("ingle config ch\t", "config check"),
    ):
        seen = typed_in_zsh(zsh, bin, script, keys, wanted)
        assert "\npwned" not in seen
        assert "\x1b[31m" not in seen
