"""Hypothesis on a busy machine: what counts is the answer, not the time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("hubbub", deadline=None)
settings.load_profile("hubbub")
