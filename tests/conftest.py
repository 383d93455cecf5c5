"""What every test shares: hypothesis draws the same examples on every run, and keeps none on disk."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("zabzmq", derandomize=True, deadline=None, database=None)
settings.load_profile("zabzmq")
