"""Settings of all tests."""

import os
import random
import tempfile
import threading
import traceback
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy, and the first text of all makes hypothesis build its table of characters.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What somebody's change is judged by is the same each time; new cases are looked for with --hypothesis-profile=search.
settings.register_profile("same", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("same")


@pytest.fixture
def chance() -> random.Random:
    """What a test rolls its dice with: the same each time, others with --hypothesis-profile=search."""
    seed = 7 if settings.get_current_profile_name() == "same" else random.randrange(1 << 30)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture(autouse=True)
def threads_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thread that fails has its test fail, and what is told of that is where the thread was."""
    failed: list[str] = []

    def tell(said: threading.ExceptHookArgs) -> None:
        name = said.thread.name if said.thread is not None else "a thread"
        where = "".join(traceback.format_exception(said.exc_type, said.exc_value, said.exc_traceback))
        failed.append(f"{name}: {said.exc_type.__name__}: {said.exc_value}\n{where}")

    monkeypatch.setattr(threading, "excepthook", tell)
    yield
    if failed:
        pytest.fail("\n".join(failed), pytrace=False)


# The path of a unix socket has 107 bytes at most, and ours lie deep in folders of temporary files.
if len(tempfile.gettempdir()) > 30:
    tempfile.tempdir = os.environ["TMPDIR"] = "/tmp"
