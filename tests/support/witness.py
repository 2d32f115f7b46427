"""A member who keeps a record: sends with keys until each is acknowledged, resumes at its cursor, remembers everything.

Written from the protocol page and not from our own client, and stricter: what the server says twice is not dropped here
but testified to.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Protocol

import websockets

from support.checker import Testimony
from support.inbox import Frame, Over
from support.listeners import Refused, SseReader
from support.talkers import FramedClient, Talker, WsClient

LOBBY = "lobby"
AGAIN = frozenset({"unavailable", "shutdown", "storage_full", "rate_limited"})


class Ports(Protocol):
    """Where the server is now: a House, a Server, a proxy in front of one."""

    @property
    def port(self) -> int: ...

    @property
    def tcp_port(self) -> int: ...


async def connect(at: Ports, kind: str) -> Talker:
    if kind == "framed":
        return await FramedClient.open(at.tcp_port)
    return await WsClient.open(at.port, binary=kind == "binary", open_timeout=5)


class Remembering:
    """Somebody a test can wait for."""

    def __init__(self) -> None:
        self._news = asyncio.Event()  # something about it is true now that was not before

    async def until(self, true: Callable[[], bool], within_s: float = 20.0) -> None:
        """Wait until something about it is true."""
        async with asyncio.timeout(within_s):
            while not true():
                self._news.clear()
                await self._news.wait()


class Witness(Remembering):
    """Lives in one thread. Run `live()` as a task; it reconnects until `done`.

    Args:
        kinds: the transports it uses, one after the other, each for one connection.
        window: how many sends may be unacknowledged. With 1, its sends are numbered in their order even through
            crashes.
        patience_s: after so much silence it takes the connection for dead; None: never.
    """

    def __init__(
        self,
        name: str,
        at: Ports,
        kinds: Iterable[str],
        *,
        thread: str = LOBBY,
        window: int = 8,
        seed: int = 0,
        patience_s: float | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.testimony = Testimony(name, keeps_order=window == 1)
        self.thread = thread
        self.cursor: int | None = None
        self.connections = 0
        self.byes: list[Frame] = []
        self.errors: list[Frame] = []
        self.resets: list[Frame] = []
        self.ends: list[tuple[str, str]] = []  # of answers: (run, how)
        self.talker: Talker | None = None
        self.ready = asyncio.Event()
        self.done = False
        self._at = at
        self._kinds = itertools.cycle(kinds)
        self._window = window
        self._patience_s = patience_s
        self._chance = Random(seed)
        self._epoch: str | None = None
        self._token: str | None = None
        self._unacked: dict[str, str] = {}  # key -> text, oldest first
        self._waiting: list[str] = []
        self._keys = itertools.count(1)
        self._wanted = asyncio.Event()  # there may be something to write

    # What the test asks for

    def say(self, text: str) -> None:
        """Send it, as often as it takes."""
        self._waiting.append(text)
        self._wanted.set()

    @property
    def settled(self) -> bool:
        """Was everything it said acknowledged?"""
        return not self._waiting and not self._unacked

    # Its life

    async def live(self) -> None:
        """Stay connected until `done`."""
        while not self.done:
            try:
                async with asyncio.timeout(self._patience_s):
                    self.talker = await connect(self._at, next(self._kinds))
            except (OSError, websockets.InvalidHandshake, websockets.InvalidMessage, TimeoutError, EOFError):
                await asyncio.sleep(self._chance.uniform(0, 0.05))
                continue
            writing: asyncio.Task[None] | None = None
            try:
                if await self._hello(self.talker):
                    self.connections += 1
                    writing = asyncio.create_task(self._write(self.talker))
                    while True:
                        self._hear(await self._next(self.talker))
            except (Over, OSError, websockets.ConnectionClosed):
                pass
            finally:
                self.ready.clear()
                if writing is not None:
                    writing.cancel()
                    await asyncio.wait([writing])
                self.talker.cut()
                self.talker = None
                self._news.set()
            await asyncio.sleep(self._chance.uniform(0, 0.05))

    async def _next(self, talker: Talker) -> Frame:
        """Raises TimeoutError (an OSError) when patience ends."""
        async with asyncio.timeout(self._patience_s):
            return await talker._read()

    async def _hello(self, talker: Talker) -> bool:
        hello: dict[str, Any] = {"token": self._token} if self._token else {"user": self.name}
        if self.cursor is not None:
            hello["resume"] = {"epoch": self._epoch, "threads": {self.thread: self.cursor}}
        await talker.send("hello", id="hello", threads=[self.thread], **hello)
        while True:
            frame = await self._next(talker)
            if frame.get("id") == "hello":
                break
            self._hear(frame)
        if frame["type"] != "welcome":
            self.errors.append(frame)
            return False
        self._token = frame["token"]
        self._epoch = frame["server"]["epoch"]
        if self.cursor is None:
            [view] = [view for view in frame["threads"] if view["id"] == self.thread]
            self.cursor = self.testimony.began[self.thread] = view["seen"]
        self.ready.set()
        self._news.set()
        return True

    def _hear(self, frame: Frame) -> None:
        match frame["type"]:
            case "message":
                if frame["thread"] == self.thread:
                    shown = self.testimony.shown.setdefault(self.thread, [])
                    shown.append((frame["seq"], frame["message"]["text"]))
                    self.cursor = frame["seq"]
            case "ack":
                text = self._unacked.pop(frame["id"], None)
                if text is not None:
                    self.testimony.acked.setdefault(self.thread, {})[text] = frame["seq"]
                    self._wanted.set()
            case "error":
                self.errors.append(frame)
                if frame["code"] not in AGAIN and "id" in frame:
                    raise AssertionError(f"{self.name} was refused: {frame}")
                if frame.get("id") in self._unacked:  # once more, after those that wait
                    text = self._unacked.pop(frame["id"])
                    self._unacked[frame["id"]] = text
                    raise Over("sending again")
            case "bye":
                self.byes.append(frame)
            case "reset":
                self.resets.append(frame)
            case "run.completed" | "run.failed" | "run.cancelled":
                self.ends.append((frame["run"], frame["type"]))
        self._news.set()

    async def _write(self, talker: Talker) -> None:
        with contextlib.suppress(OSError, websockets.ConnectionClosed):
            for key, text in list(self._unacked.items()):
                await talker.send("message.send", id=key, key=key, thread=self.thread, text=text)
            while True:
                while self._waiting and len(self._unacked) < self._window:
                    text, key = self._waiting.pop(0), f"{self.name}-{next(self._keys)}"
                    self._unacked[key] = text
                    self.testimony.sent.setdefault(self.thread, []).append(text)
                    await talker.send("message.send", id=key, key=key, thread=self.thread, text=text)
                self._wanted.clear()
                await self._wanted.wait()


class StreamWitness(Remembering):
    """Listens to one thread over server-sent events and resumes by `Last-Event-ID`, as a browser does."""

    def __init__(
        self,
        name: str,
        at: Ports,
        *,
        thread: str = LOBBY,
        token: str | None = None,
        seed: int = 0,
        patience_s: float | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.testimony = Testimony(name)
        self.thread = thread
        self.connections = 0
        self.ready = asyncio.Event()
        self.done = False
        self.byes: list[Frame] = []
        self.stream: SseReader | None = None
        self._at = at
        self._token = token
        self._last_id = ""
        self._patience_s = patience_s
        self._chance = Random(seed)

    @property
    def cursor(self) -> int:
        shown = self.testimony.shown.get(self.thread)
        return shown[-1][0] if shown else self.testimony.began.get(self.thread, 0)

    async def live(self) -> None:
        path = f"/api/threads/{self.thread}/events" + ("" if self._token else f"?user={self.name}")
        while not self.done:
            try:
                async with asyncio.timeout(self._patience_s):
                    self.stream = await SseReader.open(self._at.port, path, token=self._token, last_id=self._last_id)
                self.connections += 1
                self.ready.set()
                while True:
                    async with asyncio.timeout(self._patience_s):
                        frame = await self.stream._read()
                    self._last_id = self.stream.last_id or self._last_id  # not every event has an id
                    if frame["type"] == "message":
                        shown = self.testimony.shown.setdefault(self.thread, [])
                        shown.append((frame["seq"], frame["message"]["text"]))
                    elif frame["type"] == "bye":
                        self.byes.append(frame)
                    self._news.set()
            except (OSError, Over, EOFError, TimeoutError, Refused, ValueError, IndexError):
                pass
            finally:
                self.ready.clear()
                self._news.set()
                if self.stream is not None:
                    self.stream.cut()
            await asyncio.sleep(self._chance.uniform(0, 0.05))


async def stored_log(path: Any, thread: str = LOBBY) -> list[tuple[int, str, str]]:
    """The thread's log as it lies on disk."""
    from hubbub.stores.sqlite import SqliteStore

    store = SqliteStore(path)
    await store.open()
    try:
        log: list[tuple[int, str, str]] = []
        more = True
        while more:
            page = await store.read_after(thread, len(log), 1000, 1 << 30)
            log += [(message.seq, message.sender, message.text) for message in page.messages]
            more = page.more
        return log
    finally:
        await store.close()


async def told_log(at: Ports, thread: str = LOBBY, name: str = "historian") -> list[tuple[int, str, str]]:
    """The thread's log as a running server tells it."""
    async with await FramedClient.open(at.tcp_port) as reader:
        await reader.hello(name, threads=[])
        log: list[tuple[int, str, str]] = []
        more = True
        while more:
            page = await reader.ask("history", thread=thread, after=len(log), limit=200)
            log += [(message["seq"], message["sender"], message["text"]) for message in page["messages"]]
            more = page["more"]
        return log
