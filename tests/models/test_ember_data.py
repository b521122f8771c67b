"""The data that ember learns from, and the split: what is tested was never seen. Pure, without torch."""

import random
import re
from itertools import islice

import pytest

from bench.ember import sandbox
from bench.ember.evaluate import HANDWRITTEN, cases, handwritten, is_command, judge
from bench.ember.examples import Example, example, fresh, held_out, is_learnt, splits, training
from bench.ember.slots import held_out as is_held_out
from bench.ember.templates import DOES_NOT_KNOW, expand, intents, parse, skeleton

SAMPLE = 6000


@pytest.fixture(scope="module")
def learnt() -> list[Example]:
    return list(islice(training(), SAMPLE))


@pytest.fixture(scope="module")
def test() -> list[Example]:
    return held_out()


def test_a_pattern_has_choices_slots_and_phrases() -> None:
    pattern = parse("<show> (a|b(c|)|) {x}", {"show": "show|list"})
    texts = {skeleton(expand(pattern, random.Random(seed))) for seed in range(200)}
    assert texts == {f"{verb}{way} {{x}}" for verb in ("show", "list") for way in (" a", " b", " bc", "")}


def test_there_are_many_intents_each_asked_in_several_ways() -> None:
    assert len({intent.name for intent in intents()}) == len(intents())
    assert sum(intent.command is not None for intent in intents()) >= 40
    for intent in intents():
        assert len(intent.templates) >= 4, intent.name
        assert (intent.command is None) != (intent.reply is None), intent.name


def test_the_data_are_the_same_each_time(test: list[Example]) -> None:
    assert list(islice(training(), 50)) == list(islice(training(), 50))
    assert held_out() == test
    assert next(training(seed=1)) != next(training(seed=2))


def test_the_test_is_large_and_broad(test: list[Example]) -> None:
    known = [one for one in test if one.known]
    assert len({one.request for one in known}) >= 300
    assert sum(bool(one.primitives) for one in known) >= 300
    assert len({one.intent for one in known}) > 100
    assert len([one for one in test if not one.known]) >= 150


def test_no_template_of_the_test_is_learnt(test: list[Example], learnt: list[Example]) -> None:
    for split in splits():
        assert not {one.text for one in split.learn} & {one.text for one in split.hold}
    skeletons = {one.skeleton for one in learnt}
    for one in test:
        assert one.skeleton not in skeletons
        assert not is_learnt(one.skeleton), one


def test_every_learnt_skeleton_is_known_as_such(learnt: list[Example]) -> None:
    for one in learnt[:500]:
        assert is_learnt(one.skeleton), one


def test_no_argument_of_the_test_is_learnt(test: list[Example], learnt: list[Example]) -> None:
    trained = {primitive for one in learnt for primitive in one.primitives}
    assert len(trained) > 3000
    tested = {primitive for one in test for primitive in one.primitives}
    assert not trained & tested
    assert all(map(is_held_out, tested))
    assert not any(map(is_held_out, trained))
    values = {value for one in learnt for value in one.arguments.values()}
    assert not values & {value for one in test for value in one.arguments.values()}


def test_the_fresh_test_shares_no_template_and_no_argument_with_anything(
    test: list[Example], learnt: list[Example]
) -> None:
    found = fresh()
    assert fresh() == found
    known = [one for one in found if one.known]
    assert len({one.request for one in known}) >= 300 and len(found) - len(known) >= 150
    assert len({one.intent for one in known}) > 150
    earlier = {template.text for intent in intents() for template in intent.templates}
    skeletons = {one.skeleton for one in [*learnt, *test]}
    trained = {primitive for one in learnt for primitive in one.primitives}
    for one in found:
        assert one.template not in earlier and one.skeleton not in skeletons, one
        assert not is_learnt(one.skeleton), one
        assert all(map(is_held_out, one.primitives)) and not trained & set(one.primitives), one


def test_requests_read_like_sentences(learnt: list[Example]) -> None:
    for one in learnt:
        assert one.request == one.request.strip() and one.request
        assert "  " not in one.request and "{" not in one.request and "|" not in one.request, one
        assert "{" not in one.answer, one
        for piece, argument in one.pieces:
            assert not argument or piece in one.request


def test_what_runs_in_the_sandbox_gives_a_result_and_the_same_one_again() -> None:
    dice = random.Random(3)
    for split in splits():
        if split.intent.runs:
            one = example(split.intent, dice.choice(split.intent.templates), dice, test=True)
            outcome = sandbox.run(one.answer, one.arguments, one.answer)
            assert outcome is not None, one.answer
            if not one.answer.startswith(
                ("diff", "chmod")
            ):  # files that differ; a folder that its user cannot read any more
                assert outcome.status == 0, one.answer
            assert outcome == sandbox.run(one.answer, one.arguments, one.answer), one.answer


def test_the_sandbox_tells_a_wrong_answer() -> None:
    arguments = {"dir": "src", "ext": "py"}
    reference = "find src -type f -name '*.py'"
    wanted = sandbox.run(reference, arguments, reference)
    assert wanted is not None and "src/one.py" in wanted.output
    assert sandbox.run("find src -name '*.py'", arguments, reference) == wanted
    for wrong in ("find src -type f", "find . -name '*.py'", "find src -type f -name '*.py' -delete", "find src"):
        assert sandbox.run(wrong, arguments, reference) != wanted


@pytest.mark.parametrize(
    "command",
    [
        "rm -r ..",
        "ls /",
        "cat ~root/x",
        "cat $HOME/x",
        "reboot",
        "ls; reboot",
        "find . -exec rm {} +",
        "find . -fprint x",
        "sed -i '1w /tmp/x' a",
        "sed -i 's/a/b/e' a",
        "echo `id`",
        "tar -czf a.tgz --to-command=id b",
        "ls | sh",
        "tail -f a",
        "I do not know.",
        "cat 'a",
    ],
)
def test_the_sandbox_refuses_what_may_reach_outside(command: str) -> None:
    assert not sandbox.may_run(command)


def test_absolute_paths_stay_in_the_sandbox() -> None:
    assert sandbox.relative("cp /etc/passwd x") == "cp root/etc/passwd x"
    assert sandbox.relative("sed -i '/word/d' /a/b") == "sed -i '/word/d' root/a/b"
    assert sandbox.may_run("rm -r /etc") and sandbox.relative("rm -r /etc") == "rm -r root/etc"


def test_the_handwritten_requests_are_there_and_were_not_learnt(learnt: list[Example]) -> None:
    found = handwritten()
    assert len([one for one in found if one.known]) >= 60
    assert HANDWRITTEN.read_text().count("\t") == len(found)
    assert all(judge(one, one.reference).right for one in found if one.known)
    for one in found:
        if one.runs:
            assert judge(one, one.reference).tried, one


def test_an_invented_command_is_told_from_an_honest_answer() -> None:
    assert not is_command(DOES_NOT_KNOW)
    assert is_command("rm -r /") and is_command("I do not know that. But rm -r / may help.")
    replies = [one for one in islice(training(), SAMPLE) if re.match("[A-Z]", one.answer)]
    assert replies and not any(is_command(one.answer) for one in replies)
    assert all(judge(case, case.reference).right for case in cases() if not case.known)
