"""A load that is the same for every fault: some write over three transports, some only listen, all keep a record."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import cycle
from pathlib import Path

from support.checker import check
from support.process import Server
from support.witness import LOBBY, StreamWitness, Witness, stored_log

KINDS = (("framed",), ("text",), ("binary",))
WANDERING = (*KINDS, ("framed", "text", "binary"))
"""And one that comes over another transport each time."""


class Crowd:
    """Writers over three transports, a listener, and a bystander who only listens, on one connection each."""

    def __init__(self, server: Server, kinds: Sequence[Sequence[str]] = KINDS, windows: Sequence[int] = (4,)) -> None:
        """`kinds`: the transports each writer takes in turn. `windows`: how many of a writer's messages wait for their
        ack at most, given out in turn."""
        self.server = server
        window = cycle(windows)
        self.writers = [
            Witness(f"writer{i}", server, list(those), window=next(window), seed=i) for i, those in enumerate(kinds)
        ]
        self.bystander = Witness("bystander", server, ["text"])
        self.listener = StreamWitness("listener", server)
        self.listener.testimony.began[LOBBY] = 0

    @property
    def everybody(self) -> list[Witness | StreamWitness]:
        return [*self.writers, self.bystander, self.listener]

    @contextlib.asynccontextmanager
    async def there(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(one.live()) for one in self.everybody]
        try:
            for one in self.everybody:
                await asyncio.wait_for(one.ready.wait(), 10)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def say(self, what: str, count: int, size: int = 100) -> None:
        for writer in self.writers:
            for i in range(count):
                writer.say(f"{writer.name} {what} {i} ".ljust(size, "."))

    async def settled(self) -> None:
        for writer in self.writers:
            await writer.until(lambda writer=writer: writer.settled, 30)  # type: ignore[misc]

    async def all_heard(self) -> None:
        head = max(max(writer.testimony.acked[LOBBY].values()) for writer in self.writers)
        for one in [*self.writers, self.bystander]:
            await one.until(lambda one=one: one.cursor is not None and one.cursor >= head)  # type: ignore[misc]
        await self.listener.until(lambda: self.listener.cursor >= head)

    async def judged(self, home: Path) -> None:
        log = await stored_log(home / "hubbub.db")
        assert check([one.testimony for one in self.everybody], {LOBBY: log}) == []
        assert len(log) == sum(len(writer.testimony.sent[LOBBY]) for writer in self.writers)

    def codes(self) -> set[str]:
        return {error["code"] for writer in self.writers for error in writer.errors}
