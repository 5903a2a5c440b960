"""Fixtures of tests/faults, and how examples are made there."""

from hypothesis import HealthCheck, settings

# The same examples each time, and as much time for one as it takes.
settings.register_profile(
    "faults",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
