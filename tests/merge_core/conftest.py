"""A kernel compiles on its first call, which may fall into any example: no example has a deadline."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "merge_core", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("merge_core")
