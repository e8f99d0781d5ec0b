"""Clients of other versions, and other programs, in front of a real service: `make compat`."""
