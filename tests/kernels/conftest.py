"""A kernel compiles on its first call, which may fall into any example: no example has a deadline."""

from hypothesis import settings

settings.register_profile("kernels", deadline=None)
settings.load_profile("kernels")
