"""How glibc is to keep the memory of the nursery and its workers: set before they run, unless the operator has."""

import os
import subprocess
from pathlib import Path

import pytest
from ingled import link
from ingled.nursery.heap import SETTINGS, VARIABLE, wanted
from ingled.testing_link import LinkBroker


def test_what_is_wanted_is_added_to_what_is_there() -> None:
    found = wanted({})
    assert found == ":".join(f"glibc.malloc.{name}={value}" for name, value in SETTINGS.items())
    assert wanted({VARIABLE: "glibc.rtld.nns=2"}) == f"glibc.rtld.nns=2:{found}"


def test_it_is_wanted_once_and_never_where_the_operator_has_settings_of_his_own() -> None:
    assert wanted({VARIABLE: wanted({}) or ""}) is None
    assert wanted({VARIABLE: "glibc.malloc.arena_max=1"}) is None


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="it is glibc that has them")
def test_the_nursery_has_been_started_with_it_under_its_own_number(
    broker: LinkBroker, process: subprocess.Popen[bytes]
) -> None:
    _, attach = broker.wait(link.Attach)
    assert isinstance(attach, link.Attach) and attach.pid == process.pid
    environ = dict(
        line.split("=", 1) for line in Path(f"/proc/{process.pid}/environ").read_text().split("\0") if "=" in line
    )
    assert wanted(environ) is None, "as the C library read it at its start"
