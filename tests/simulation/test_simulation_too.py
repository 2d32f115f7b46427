"""The other half of the seeds, in a file of its own so that two workers can share them."""

from __future__ import annotations

import pytest

from simulation.test_simulation import ALONE, CHUNK, live_through


@pytest.mark.skipif(ALONE is not None, reason="HUBBUB_SEED names another seed")
@pytest.mark.parametrize("first", range(100, 200, CHUNK))
def test_every_promise_is_kept_in_these_worlds_too(first: int) -> None:
    live_through(range(first, first + CHUNK))
