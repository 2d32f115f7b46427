"""Readers of one answer who come back again and again, on whatever transport, and accept no hole and no double."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from support.inbox import Frame, Inbox, Over
from support.server import House
from support.talkers import TALKERS

WAYS = (*TALKERS, "stream")


class Reader:
    """What a careful reader keeps of one thread with one answer in it, over all connections and attempts."""

    def __init__(self, house: House, token: str, epoch: str, thread: str, seq: int) -> None:
        self.house = house
        self.token = token
        self.epoch = epoch
        self.thread = thread
        self.seq = seq
        self.run = ""
        self.attempt = 0
        self.text = ""
        self.attempts: list[int] = []
        self.final: dict[str, Any] = {}
        self.finals = 0
        self.end: Frame = {}
        self.more = asyncio.Event()
        self.connections = 0

    def take(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind.startswith("run.") and frame["attempt"] > self.attempt:
            assert kind in ("run.reset", "run.queued", "run.started", "run.delta") or not self.text, frame
            self.run, self.attempt, self.text = frame["run"], frame["attempt"], ""
            self.attempts.append(self.attempt)
        if kind == "run.delta":
            assert not self.final, "a piece came after the message"
            assert frame["attempt"] == self.attempt, f"a piece of {frame['attempt']} came in {self.attempt}"
            assert frame["offset"] == len(self.text), f"a piece at {frame['offset']}, having {len(self.text)}"
            self.text += frame["text"]
        elif kind == "message":
            assert frame["seq"] == self.seq + 1
            self.seq = frame["seq"]
            if frame["message"]["run"]:
                self.final = frame["message"]
                self.finals += 1
        elif kind in ("run.completed", "run.cancelled", "run.failed"):
            assert self.final, "the end came before the message"
            self.end = frame
        self.more.set()

    async def connect(self, way: str) -> Inbox:
        self.connections += 1
        if way == "stream":
            last = f"{self.epoch}.{self.seq}" + (f".{self.run}.{self.attempt}.{len(self.text)}" if self.run else "")
            return await self.house.listen(self.thread, token=self.token, last_id=last)
        runs = {self.run: [self.attempt, len(self.text)]} if self.run else {}
        resume = {"epoch": self.epoch, "threads": {self.thread: self.seq}, "runs": runs}
        return await self.house.talk(way, token=self.token, resume=resume)

    async def read(self, way: str, chance: Random | None = None) -> None:
        """Until the end; with `chance`, each time only for a while, and then on any transport."""
        while not self.end:
            inbox: Any = await self.connect(way)
            try:
                for _ in range(chance.randrange(1, 30) if chance else 1 << 30):
                    self.take(await inbox.take(None, lambda f: "id" not in f and f.get("thread") == self.thread))
                    if self.end:
                        break
            except Over:
                pass
            finally:
                inbox.cut()
            if chance:
                way = chance.choice(WAYS)

    async def until(self, length: int, attempt: int = 1) -> None:
        """Wait until so many code points of an attempt were shown."""
        while not self.end and (self.attempt, len(self.text)) < (attempt, length):
            self.more.clear()
            await self.more.wait()


class Audience:
    """Somebody who asks openai, and readers of the answer."""

    def __init__(self, readers: list[Reader], tasks: list[asyncio.Task[None]], asker: Any) -> None:
        self.readers = readers
        self.tasks = tasks
        self.asker = asker

    @property
    def first(self) -> Reader:
        return self.readers[0]

    async def whole(self, within_s: float = 20.0) -> Reader:
        """Wait for the end; everybody has the text that was stored, and it came once."""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*self.tasks)
        finally:
            for task in self.tasks:
                task.cancel()
            await self.asker.close()
        for reader in self.readers:
            assert reader.finals == 1
            assert reader.text == reader.final["text"], f"{reader.text[-80:]!r} of {reader.final['text'][-80:]!r}"
            assert reader.final == self.first.final
            assert reader.end == self.first.end
            assert reader.attempts == sorted(set(reader.attempts))
        store = self.first.house.app.hub.store
        page = await store.read_after(self.first.thread, 0, 1000, 1 << 24)
        answers = [message for message in page.messages if message.run == self.first.run]
        assert [message.text for message in answers] == [self.first.text]
        run = await store.run(self.first.run)
        assert run is not None
        assert run.state.ended
        return self.first


async def ask(house: House, user: str, text: str, chance: Random | None = None) -> Audience:
    """Ask openai in private. The first reader stays; with `chance`, three more come and go."""
    asker = await house.talk("text", user)
    token, epoch = asker.welcome["token"], asker.welcome["server"]["epoch"]
    ack = await asker.write("openai", text)
    asker.cut()
    readers = [Reader(house, token, epoch, ack["thread"], ack["seq"]) for _ in WAYS]
    ways = list(zip(readers, WAYS, strict=True))
    tasks = [
        asyncio.create_task(reader.read(way, Random(chance.random()) if chance and reader is not readers[0] else None))
        for reader, way in ways
    ]
    return Audience(readers, tasks, asker)
