"""The documents say what the code does: verbs, codes, topics, keys and limits."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import ingle
from ingle.cli import events
from ingle.wire import limits, schema
from ingled.broker.front import LIMITS
from ingled.broker.reading import RESERVED_OPS
from ingled.broker.subscriptions import TOPICS
from ingled.broker.verbs import RESERVED as RESERVED_VERBS
from ingled.broker.verbs import VERBS
from ingled.config.tables import Daemon, Model

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "docs/protocol.md").read_text()


def section(number: int) -> str:
    return PROTOCOL.split(f"\n## {number}. ")[1].split("\n## ")[0]


def cells(text: str) -> set[str]:
    """Return the names in the first column of a section's tables."""
    firsts = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for first in firsts for name in re.findall(r"`(\w+)`", first)}


def test_the_protocol_lists_exactly_the_error_codes_that_there_are() -> None:
    assert cells(section(8)) == set(get_args(schema.Code))


def test_the_protocol_lists_exactly_the_verbs_and_topics_that_there_are() -> None:
    assert cells(section(6)) == set(VERBS)
    assert cells(section(7)) == set(TOPICS) == set(events.TOPICS)
    for name in RESERVED_VERBS | RESERVED_OPS:
        assert f"`{name}`" in PROTOCOL


def test_the_protocol_tells_every_sampling_option() -> None:
    assert cells(section(5)) == set(schema.Sampling.__struct_fields__)


def test_the_protocol_describes_every_message_with_all_its_fields() -> None:
    for message in get_args(schema.FromClient) + get_args(schema.ToClient):
        tag = str(message.__struct_config__.tag)
        assert re.search(rf"^`{tag}`", PROTOCOL, re.MULTILINE) or f"`{tag}` " in PROTOCOL, tag
        for field in message.__struct_fields__:
            assert f"`{field}`" in PROTOCOL, f"{tag}.{field}"


def test_the_protocols_limits_and_version_are_the_codes() -> None:
    for key, value in LIMITS.items():
        assert f"| `{key}` | {value} |" in section(2)
    assert f"version {limits.PROTOCOL[0]}.{limits.PROTOCOL[1]}" in PROTOCOL.splitlines()[0]
    told = re.findall(r"^\| (\d+)\.(\d+) \|", section(10), re.MULTILINE)
    assert tuple(map(int, told[-1])) == limits.PROTOCOL, "what is new is told of each, the last one included"


def test_the_annotated_example_has_every_key_of_the_configuration() -> None:
    text = (ROOT / "docs/ingled.example.toml").read_text()
    for key in Daemon.__struct_fields__ + Model.__struct_fields__ + ("socket", "state_dir"):
        if key not in ("echo",):  # for tests of ingle itself
            assert re.search(rf"^(# )?{key} = |\[models\.\w+\.{key}\]", text, re.MULTILINE), key


def test_the_version_stands_in_one_place_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ingle.__version__


def test_no_document_names_a_place_of_one_machine() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/*.toml"), *ROOT.glob("systemd/**/*")]:
        if path.is_file():
            text = path.read_text()
            assert not re.search(r"/work/|/opt/wheels|/root/", text), path
