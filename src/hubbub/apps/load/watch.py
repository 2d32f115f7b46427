"""Does the generator itself keep up? A late generator measures its own lateness and takes it for the server's."""

from __future__ import annotations

import asyncio
import time

from hubbub.apps.load.quantiles import Times

EVERY_S = 0.01
BUSY = 0.8
"""Share of one core; above it, answers wait for the generator to read them."""
LATE_S = 0.005
"""How late one in a hundred timers may be. Event loops count in milliseconds: up to 1 is their own."""


class Watch:
    def __init__(self) -> None:
        self.lag = Times()
        self._began = time.perf_counter()
        self._cpu = time.process_time()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due = time.perf_counter() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.lag.add(max(0.0, time.perf_counter() - due))

    def cpu_s(self) -> float:
        """Processor time of this process since the start."""
        return time.process_time() - self._cpu

    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began


def complaints(cpu_share: float, lag_p99_s: float, waited_for_own_limits: int) -> list[str]:
    """Why the times may be the generator's and not the server's: sentences; none when they are the server's."""
    said = []
    if cpu_share > BUSY:
        said.append(f"It used {cpu_share:.0%} of the one core it can use.")
    if lag_p99_s > LATE_S:
        said.append(f"Its own timers were late by {lag_p99_s * 1e3:.1f} ms or more one time in a hundred.")
    if waited_for_own_limits:
        said.append(f"This machine had no connection left for it {waited_for_own_limits} times.")
    return said
