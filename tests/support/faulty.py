"""A bad network: a proxy in front of a server that does to connections what networks do.

It knows bytes only, so framed TCP, WebSockets, event streams and requests suffer alike, and a fault may fall inside a
length prefix or a character. What happens to a connection depends on the seed and on its number alone: the same seed,
the same faults. To a client it has the ports of a server; the server takes it for its clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any, Protocol, Self

RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST
READ_BYTES = 1 << 16
GOODBYE_S = 1.0
"""How long a client may take to close after it was told the end."""


class Ports(Protocol):
    """Where the server is now."""

    @property
    def port(self) -> int: ...

    @property
    def tcp_port(self) -> int: ...


class End(Enum):
    """What happens to a connection when its bytes are used up."""

    CUT = "cut"  # both sides are told an orderly end (FIN)
    RST = "rst"  # both sides are told a reset
    HALF = "half"  # this direction ends, the other goes on
    DEAF = "deaf"  # this direction swallows everything, the other goes on
    HOLE = "hole"  # both directions swallow everything, and nobody is told anything


@dataclass(frozen=True)
class Faults:
    """What is wrong with one connection. *Up* is from the client to the server."""

    latency_s: float = 0.0
    jitter_s: float = 0.0  # at most so much more latency; bytes stay in order
    bytes_per_s: float | None = None
    slice_bytes: int | None = None  # at most so many bytes at a time
    up: int | None = None  # the connection ends after exactly so many bytes from the client
    down: int | None = None  # … or from the server, whichever comes first
    end: End = End.CUT
    replay_s: float | None = None  # so much later, all that went up goes up again, on a connection of its own


CLEAN = Faults()


class _Over(Exception):
    """The connection ends now, like this."""

    def __init__(self, end: End) -> None:
        super().__init__(end.value)
        self.end = end


class _Way:
    """One direction of a connection."""

    def __init__(self, link: Link, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        self.link = link
        self.source = source
        self.sink = sink
        self.left = limit
        self.swallowing = False
        self._line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        self._latest = 0.0

    async def read(self) -> None:
        loop, faults, chance = asyncio.get_running_loop(), self.link.faults, self.link.chance
        while True:
            data = await loop.sock_recv(self.source, READ_BYTES)
            late = faults.latency_s + (chance.uniform(0, faults.jitter_s) if faults.jitter_s else 0.0)
            self._latest = max(self._latest, loop.time() + late)
            await self._line.put((self._latest, data))
            if not data:
                return

    async def write(self) -> None:
        loop, faults = asyncio.get_running_loop(), self.link.faults
        at_once = faults.slice_bytes or READ_BYTES
        if faults.bytes_per_s:
            at_once = min(at_once, max(1, int(faults.bytes_per_s / 100)))
        while True:
            if self.left == 0:
                self._limit()
            due, data = await self._line.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                if not self.swallowing:
                    _end_of(self.sink)
                return
            while data and not self.swallowing:
                size = at_once if self.left is None else min(at_once, self.left)
                piece, data = data[:size], data[size:]
                await loop.sock_sendall(self.sink, piece)
                self.link.passed(piece, up=self.source is self.link.client)
                if faults.bytes_per_s:
                    await asyncio.sleep(len(piece) / faults.bytes_per_s)
                elif faults.slice_bytes:
                    await asyncio.sleep(0)
                if self.left is not None:
                    self.left -= len(piece)
                    if self.left == 0:
                        self._limit()
            if data:
                self.link.swallowed.set()

    def _limit(self) -> None:
        self.left = None
        self.link.met = True
        if self.link.faults.end is End.HALF:
            _end_of(self.sink)
        elif self.link.faults.end is not End.DEAF:
            raise _Over(self.link.faults.end)
        self.swallowing = True


class Link:
    """One connection through the proxy."""

    def __init__(self, number: int, faults: Faults, chance: Random, client: socket.socket) -> None:
        self.number = number
        self.faults = faults
        self.chance = chance
        self.client = client
        self.met = False  # were its bytes used up?
        self.swallowed = asyncio.Event()  # something was swallowed that one side believes it sent
        self.up = self.down = 0  # bytes that went through
        self._upstream = _socket()
        self._ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._again: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    def end(self, end: End) -> None:
        """End it now."""
        if not self._ended.done():
            self._ended.set_result(end)

    def passed(self, piece: bytes, *, up: bool) -> None:
        if not up:
            self.down += len(piece)
            return
        self.up += len(piece)
        self._repeat(piece)

    def _repeat(self, piece: bytes) -> None:
        if self.faults.replay_s is not None:
            self._again.put_nowait((asyncio.get_running_loop().time() + self.faults.replay_s, piece))

    async def carry(self, port: int) -> None:
        """From the first byte to the last."""
        replaying = None if self.faults.replay_s is None else asyncio.create_task(self._replay(port))
        try:
            try:
                await self._finish(await self._between(port))
            finally:
                self.client.close()
                self._upstream.close()
            if replaying is not None:
                await replaying
        finally:
            if replaying is not None:
                replaying.cancel()

    async def _between(self, port: int) -> End | None:
        """Carry bytes; how that ended, None if both sides had said all."""
        try:
            await asyncio.get_running_loop().sock_connect(self._upstream, ("127.0.0.1", port))
        except OSError:
            return End.RST
        ways = [
            _Way(self, self.client, self._upstream, self.faults.up),
            _Way(self, self._upstream, self.client, self.faults.down),
        ]
        tasks = [asyncio.create_task(work) for way in ways for work in (way.read(), way.write())]
        going: set[asyncio.Future[Any]] = set(tasks)
        try:
            while going:
                done, _ = await asyncio.wait({*going, self._ended}, return_when=asyncio.FIRST_COMPLETED)
                if self._ended in done:
                    return self._ended.result()
                going -= done
                for one in done:
                    one.result()
            return None
        except _Over as over:
            return over.end
        except OSError:
            return End.RST
        finally:
            self._ended.cancel()
            self._repeat(b"")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, end: End | None) -> None:
        if end is End.HOLE:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._swallow(self.client))
                both.create_task(self._swallow(self._upstream))
            await asyncio.Event().wait()  # nobody is told, not even that the other has gone
        elif end is End.RST:
            for side in (self.client, self._upstream):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif end is not None:
            # What the client still sends must not turn its orderly end into a reset: that would cost it what it has
            # been sent but not read.
            self._upstream.close()
            _end_of(self.client)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._swallow(self.client)

    async def _swallow(self, side: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while await asyncio.get_running_loop().sock_recv(side, READ_BYTES):
                self.swallowed.set()

    async def _replay(self, port: int) -> None:
        """Say again what the client said; nobody hears what comes back."""
        loop = asyncio.get_running_loop()
        with _socket() as again, contextlib.suppress(OSError):
            await loop.sock_connect(again, ("127.0.0.1", port))
            hearing = asyncio.create_task(self._swallow(again))
            try:
                while True:
                    due, piece = await self._again.get()
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    if not piece:
                        break
                    await loop.sock_sendall(again, piece)
            finally:
                hearing.cancel()
                await asyncio.wait([hearing])


class FaultyProxy:
    """Stands where a server stands. Use it as `async with`.

    Args:
        at: the server behind it.
        faults: what is wrong with a connection, or how to draw that from chance; may be exchanged for later ones.
        seed: where chance begins.
    """

    def __init__(self, at: Ports, faults: Faults | Callable[[Random], Faults] = CLEAN, *, seed: int | str = 0) -> None:
        self.faults = faults
        self.seed = seed
        self.port = self.tcp_port = 0
        self.links: list[Link] = []
        self._at = at
        self._came = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._doors: list[socket.socket] = []

    @property
    def connections(self) -> int:
        """How many there ever were."""
        return len(self.links)

    @property
    def met(self) -> int:
        """How many of them came to their planned end."""
        return sum(link.met for link in self.links)

    async def link(self, number: int) -> Link:
        """The connection with this number, counted from 1, when it comes."""
        while self.connections < number:
            self._came.clear()
            await self._came.wait()
        return self.links[number - 1]

    def end_all(self, end: End) -> None:
        """End every connection there is now."""
        for link in self.links:
            link.end(end)

    async def __aenter__(self) -> Self:
        self.port = self._listen("port")
        self.tcp_port = self._listen("tcp_port")
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for door in self._doors:
            door.close()

    def _listen(self, which: str) -> int:
        door = socket.create_server(("127.0.0.1", 0), backlog=1024)
        door.setblocking(False)
        self._doors.append(door)
        self._spawn(self._accept(door, which))
        port: int = door.getsockname()[1]
        return port

    async def _accept(self, door: socket.socket, which: str) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(door)
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = self.connections + 1
            chance = Random(f"{self.seed}/{number}")
            faults = self.faults if isinstance(self.faults, Faults) else self.faults(chance)
            link = Link(number, faults, chance, client)
            self.links.append(link)
            self._came.set()
            self._spawn(link.carry(getattr(self._at, which)))

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[arg-type,var-annotated]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextlib.asynccontextmanager
async def behind(at: Ports, faults: Faults | Callable[[Random], Faults], seed: int | str) -> AsyncIterator[FaultyProxy]:
    """A proxy that says its seed when a test fails behind it."""
    async with FaultyProxy(at, faults, seed=seed) as proxy:
        try:
            yield proxy
        except BaseException as failure:
            failure.add_note(f"the network's seed: {seed!r}")
            raise


def _socket() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _end_of(side: socket.socket) -> None:
    with contextlib.suppress(OSError):
        side.shutdown(socket.SHUT_WR)
