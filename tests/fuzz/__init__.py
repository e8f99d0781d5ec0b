"""Bytes from outside against every reader and codec: `make fuzz` for ten minutes, a short run in the tests."""
