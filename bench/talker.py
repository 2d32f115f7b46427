"""A program in C or Python that answers a line with a line of JSON, and says under "void" what went wrong."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from bench import machine
from bench.result import Void


class Talker:
    """A generator or a floor. `told` has its answers since they were last cleared."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.told: list[dict[str, Any]] = []

    def hear(self) -> dict[str, Any]:
        """Its next line. Raises Void when it saw something wrong."""
        told: dict[str, Any] = json.loads(machine.line_from(self._process.stdout))
        if told["void"]:
            raise Void(told["void"])
        self.told.append(told)
        return told

    def ask(self, line: str) -> float:
        """Its rate in a round."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(self.hear()["rate"])

    def median(self, what: str) -> float:
        return statistics.median(float(told[what]) for told in self.told)


@contextlib.contextmanager
def talker(command: Sequence[object], core: int) -> Iterator[Talker]:
    """The program, on its core, until the block ends."""
    process = machine.start([str(part) for part in command], core, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Talker(process)
    finally:
        machine.stop(process)
