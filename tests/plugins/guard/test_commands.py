"""Dangerous commands are found however they are written, and harmless ones are left alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle_plugins.guard.danger import CATEGORIES
from ingle_plugins.guard.shell import Shell

HERE = Path(__file__).parent


def entries(name: str) -> list[str]:
    text = (HERE / name).read_text().split("\n", 1)[1]
    return [entry.strip("\n") for entry in text.split("\n%%") if entry.strip()]


DANGEROUS = [tuple(entry.split("\n", 1)) for entry in entries("dangerous.txt")]
HARMLESS = entries("harmless.txt")


@pytest.mark.parametrize(("harm", "command"), DANGEROUS, ids=str)
def test_a_dangerous_command_is_found_with_its_harm(harm: str, command: str) -> None:
    assert harm in CATEGORIES
    assert harm in {finding.category for finding in Shell().run(command)}


@pytest.mark.parametrize("command", HARMLESS, ids=str)
def test_a_harmless_command_is_not(command: str) -> None:
    assert [finding for finding in Shell().run(command) if finding.category != "disrupt"] == []


def test_the_corpus_is_large_enough_for_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    found = sum(bool(Shell().run(command)) for _, command in DANGEROUS)
    wrong = sum(any(f.category != "disrupt" for f in Shell().run(command)) for command in HARMLESS)
    print(f"found {found} of {len(DANGEROUS)} dangerous; flagged {wrong} of {len(HARMLESS)} harmless")
    assert len(set(DANGEROUS)) >= 150 and len(set(HARMLESS)) >= 120


@pytest.mark.parametrize(("harm", "command"), DANGEROUS[::7], ids=str)
def test_it_is_found_inside_of_other_things(harm: str, command: str) -> None:
    around = [
        f"if true; then\n{command}\nfi",
        f"f() {{\n{command}\n}}",
        f"(\n{command}\n)",
        f"echo a\n{command}\necho b",
    ]
    for script in around:
        assert Shell().run(script), script


def test_the_policy_adds_folders_and_commands() -> None:
    assert Shell().run("rm -rf /data") == []
    assert Shell(protect=frozenset({"/data"})).run("rm -rf /data/*")
    deny = [["terraform", "destroy"], ["git", "push", "--force"]]
    assert [f.category for f in Shell(deny=deny).run("cd x && terraform destroy -auto-approve")] == ["denied"]
    assert Shell(deny=deny).run("git push origin main --force")
    assert Shell(deny=deny).run("git push origin main; terraform plan") == []


def test_what_a_shell_learns_holds_for_what_follows() -> None:
    shell = Shell()
    assert shell.run("X=rm") == []
    assert shell.copy().run("$X -rf /")
    assert shell.run("unset X; X=ls") == []
    assert shell.run("$X -rf /") == []


def test_a_reboot_is_a_harm_of_its_own() -> None:
    assert [finding.category for finding in Shell().run("sudo reboot")] == ["disrupt"]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 3000 + "rm -rf /" + ")" * 3000,
        "$(" * 500 + "rm -rf /" + ")" * 500,
        "sh -c " * 500 + "x",
        "eval " * 2000 + "x",
        "{a,b}" * 200,
        "X=a; " + "X=$X$X$X$X; " * 200,
        "for a in {1..9} 1 2 3 4; do " * 40 + "rm x; " + "done; " * 40,
        "f() { f2; f2; }; " + "".join(f"f{n}() {{ f{n + 1}; f{n + 1}; f{n + 1}; }}; " for n in range(2, 40)) + "f2",
        "a=(" + "x " * 20000 + '); echo "${a[@]}${a[@]}"',
        "cat <<A <<B <<C\n" * 300,
        "'" * 5001 + '"' * 5001 + "`" * 3001,
        "$'" + "\\" * 9001,
        "\x00\x01\x02\x03\x04 rm -rf /tmp/\x00",
        "echo " + "a" * 200000,
        "alias a=b b=a; a",
        "a() { b; }; b() { a; }; a",
        "find " + "-exec find " * 500 + "\\;",
    ],
    ids=range(17),
)
def test_a_hostile_script_takes_no_time_and_raises_nothing(text: str) -> None:
    Shell().run(text)


@given(st.text(st.sampled_from("rm -f/$(){}[]<>|&;'\"`\\\n=*~#!Xabc"), max_size=80))
def test_no_text_makes_it_raise(text: str) -> None:
    Shell().run(text)
