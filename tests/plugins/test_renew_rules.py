"""How the rules of others become ours: expressions for RE2, and words without which nothing can match."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "plugins" / "renew_rules.py"


@pytest.fixture(scope="module")
def renew() -> ModuleType:
    pytest.importorskip("yaml")
    spec = importlib.util.spec_from_file_location("renew_rules", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_white_space_and_comments_go_where_they_mean_nothing(renew: ModuleType) -> None:
    verbose = """(?x)(?i)
    (?: user | name )   (?# who )
    [\\ \t#]* = \\ \\#
    (a{3,1200})
    """
    assert renew.plain(verbose) == "(?i)(?:user|name)[ \t#]*= #(a{3,})"
    assert renew.plain(r"a b [ x]") == r"a b [ x]", "only with the flag"
    flags = re.VERBOSE | re.IGNORECASE
    for text in ("USER # = #aaa", "name= #aaaa", "name =#aaa", "user= # aaa"):
        body = verbose.strip().removeprefix("(?x)(?i)")
        assert bool(re.fullmatch(body, text, flags)) is bool(re.fullmatch(renew.plain(verbose), text)), text


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"\b(sk-ant-api[0-9]{2}-[a-z]{95})", {"sk-ant-api"}),
        (r"(ghu|ghs)_[a-zA-Z0-9]{36}", {"ghu_", "ghs_"}),
        (r"(?:Password|Pwd)\s*=", {"password", "pwd"}),
        (r"[Ss]ecret.{0,9}(x|y)", {"secret"}),
        (r"(?:token)?[a-z]{20}", set()),
        (r"(?:one|[a-z]+)x", {"x"}),
    ],
)
def test_words_are_found_without_which_nothing_matches(renew: ModuleType, pattern: str, words: set[str]) -> None:
    assert renew.needed(renew.parser.parse(pattern)) == words


def test_a_rule_is_written_or_left_out(renew: ModuleType) -> None:
    rule = {"id": "np.x.1", "name": "X", "pattern": "xoken=(a+):(b{9})", "categories": ["fuzzy", "secret"]}
    written = renew.of_rule(rule)
    assert "regex = '''xoken=(a+):(b{9})'''" in written and 'keywords = ["xoken="]' in written
    assert "secretGroup = 2" in written and "entropy = " in written
    assert renew.of_rule(rule | {"categories": ["identifier"]}) == "", "no secret"
    assert renew.of_rule(rule | {"pattern": "[a-z]{40}"}) == "", "no words"
    assert renew.of_rule(rule | {"pattern": "token(?=a)b"}) == "", "RE2 has no lookahead"
