"""Settings of all tests."""

import os
import tempfile

from hypothesis import HealthCheck, settings

# The machine may be busy, and the first text of all makes hypothesis build its table of characters.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What somebody's change is judged by is the same each time; new cases are looked for with --hypothesis-profile=search.
settings.register_profile("same", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("same")

# The path of a unix socket has 107 bytes at most, and ours lie deep in folders of temporary files.
if len(tempfile.gettempdir()) > 30:
    tempfile.tempdir = os.environ["TMPDIR"] = "/tmp"
