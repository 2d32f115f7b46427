"""The directory of a slow program's files: it is empty after each test, and no process is left that was given one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.programs import Scripts


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("looks for processes in /proc")
    directory = tmp_path / "contexts"
    directory.mkdir()
    scripts = Scripts(directory)
    yield scripts
    assert (scripts.files(), scripts.processes()) == ([], [])
