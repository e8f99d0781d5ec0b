"""A kernel compiles on its first call, which may fall into any example: no example has a deadline.

The same examples on every run, and few of them; `--hypothesis-profile soak` draws many, others each time.
"""

from hypothesis import HealthCheck, settings

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CHOSEN = settings.get_current_profile_name()
settings.register_profile("merge_core", QUIET, max_examples=40, derandomize=True)
settings.register_profile("soak", QUIET, max_examples=1000)
if CHOSEN != "soak":
    settings.load_profile("merge_core")
