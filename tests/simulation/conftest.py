"""A whole world in one thread and in no time: the server's own code on a network and a disk made of chance."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
