"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# The machine may be busy, and the first text of all makes hypothesis build its table of characters.
settings.register_profile("ingle", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ingle")
