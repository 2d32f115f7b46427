"""A network without sockets: two pipes a connection, with little room, which bring bytes late and in pieces.

`Transport` is the server's end and behaves as asyncio's own does on a socket: what the pipe does not take is kept,
`pause_writing` and `resume_writing` follow from that, `close` waits for what is kept, `abort` does not. Its pipe can
also be written to by file number, past the transport, as the fan-out of the hub does with a socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from random import Random
from types import SimpleNamespace
from typing import Any

from simulation.clock import VirtualLoop


class Network:
    """Everything that connects the clients to the server, and how bad it is. `rooms`: how many bytes a connection may
    hold, one of these."""

    def __init__(self, loop: VirtualLoop, chance: Random, rooms: Sequence[int]) -> None:
        self.loop = loop
        self.chance = chance
        self.rooms = rooms
        self.outside = copy_context()  # what the clients' side runs in
        self.by_file: dict[int, Transport] = {}
        self.on_files = chance.random() < 0.5  # does the server know the files of its sockets?
        self.os = SimpleNamespace(write=self._write_file)

    def delay(self) -> float:
        chance = self.chance
        bad = chance.random()
        return chance.uniform(0.0005, 0.005 if bad < 0.7 else 0.05 if bad < 0.95 else 0.25)

    def piece(self, waiting: int) -> int:
        """How many of the bytes that wait arrive together."""
        chance = self.chance
        return waiting if chance.random() < 0.7 else chance.randint(1, waiting)

    def new_file(self, transport: Transport) -> int:
        """The lowest number that is free, as a kernel gives them."""
        file = next(n for n in range(5, 1 << 16) if n not in self.by_file)
        self.by_file[file] = transport
        return file

    def _write_file(self, file: int, data: bytes) -> int:
        transport = self.by_file.get(file)
        if transport is None:
            raise OSError("bad file number")
        return transport.write_past(data)


class Pipe:
    """One direction. `room` bounds what is on its way; whoever receives may stop reading.

    Args:
        deliver: called with the next bytes, b"" for the end, in the receiver's context.
        drained: called when there is room again.
    """

    def __init__(
        self,
        network: Network,
        room: int,
        deliver: Callable[[bytes], None],
        context: Context,
        drained: Callable[[], None] | None = None,
    ) -> None:
        self._network = network
        self._room = room
        self._deliver = deliver
        self._drained = drained
        self._context = context
        self._timer: asyncio.TimerHandle | None = None
        self.held = bytearray()
        self.over = False  # nothing will be written any more
        self.broken = False  # nothing arrives any more
        self.reading = True

    def take(self, data: bytes) -> int:
        """Accept as many bytes as there is room for."""
        taken = min(len(data), self._room - len(self.held))
        if self.broken or self.over or taken <= 0:
            return 0
        self.held += data[:taken]
        self._go()
        return taken

    def end(self) -> None:
        """The writer has said all it will."""
        self.over = True
        self._go()

    def cut(self, keep: int) -> None:
        """The writer is gone; of what is on its way only so much arrives."""
        del self.held[keep:]
        self.end()

    def snap(self) -> None:
        """Nothing arrives from now on, not even an end."""
        self.broken = True
        self.held.clear()
        if self._timer is not None:
            self._timer.cancel()

    def read(self, reading: bool) -> None:
        self.reading = reading
        self._go()

    def _go(self) -> None:
        if self._timer is None and self.reading and not self.broken and (self.held or self.over):
            network = self._network
            self._timer = network.loop.call_later(network.delay(), self._arrive, context=self._context)

    def _arrive(self) -> None:
        self._timer = None
        if self.broken or not self.reading:
            return
        if self.held:
            size = self._network.piece(len(self.held))
            data = bytes(self.held[:size])
            del self.held[:size]
            self._deliver(data)
            if self._drained is not None:
                self._drained()
            self._go()
        elif self.over:
            self.broken = True
            self._deliver(b"")


class Transport(asyncio.Transport):
    """The server's end of a connection."""

    def __init__(self, network: Network, protocol: asyncio.Protocol, context: Context, room: int) -> None:
        super().__init__()
        self._network = network
        self._loop = network.loop
        self._protocol = protocol
        self._context = context
        self._kept = bytearray()
        self._high = 64 << 10
        self._paused = False
        self._closing = False
        self._gone = False  # writes lead nowhere
        self._eof = False
        self.lost = False  # connection_lost was called
        self.dead = False  # the process is gone
        self.ended: Callable[[bytes], None] = lambda data: None
        self.up = Pipe(network, 1 << 40, self._receive, context)
        self.down = Pipe(network, room, lambda data: self.ended(data), network.outside, self._wake)
        self.file = network.new_file(self)
        self.shrank_at = self._loop.time()  # when what is kept last became less
        self._call(protocol.connection_made, self)

    def _call(self, work: Callable[..., None], *args: object) -> None:
        self._loop.call_soon(work, *args, context=self._context)

    # What the server calls

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket" and self._network.on_files:
            return SimpleNamespace(fileno=lambda: self.file, family=None)
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0, "only this was thought of"
        self._high = 0

    def get_write_buffer_size(self) -> int:
        return len(self._kept)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self.up.read(False)

    def resume_reading(self) -> None:
        if not self._closing:
            self.up.read(True)

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert isinstance(data, bytes)
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._gone:
            return
        if not self._kept:
            self.shrank_at = self._loop.time()
            data = data[self.down.take(data) :]
            if not data:
                return
        self._kept += data
        if len(self._kept) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def write_past(self, data: bytes) -> int:
        """A write to the socket itself."""
        if self._gone or self._eof or self.down.broken:
            raise BrokenPipeError
        sent = self.down.take(data)
        if not sent:
            raise BlockingIOError
        return sent

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing or self._eof:
            return
        self._eof = True
        if not self._kept:
            self.down.end()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.up.read(False)
        if not self._kept:
            self._gone = True
            self._call(self._lose, None)

    def abort(self) -> None:
        self._force(None)

    # What the network does

    def _force(self, why: Exception | None) -> None:
        if self._gone:
            return
        self._kept.clear()
        self._closing = self._gone = True
        self.up.read(False)
        self._call(self._lose, why)

    def reset(self) -> None:
        """The server learns that the other side is gone."""
        if not self.dead:
            self._force(ConnectionResetError("reset by peer"))

    def _lose(self, why: Exception | None) -> None:
        self.lost = True
        self._protocol.connection_lost(why)
        self._close_file()

    def _close_file(self) -> None:
        if self._network.by_file.get(self.file) is self:
            del self._network.by_file[self.file]
        chance = self._network.chance
        unread = bool(self.up.held) and not self.up.broken
        self.up.snap()
        # What a closed socket had not read resets the connection, and may take with it what was not yet delivered.
        keep = chance.randint(0, len(self.down.held)) if unread and chance.random() < 0.5 else len(self.down.held)
        self.down.cut(keep)

    def die(self) -> None:
        """The process is gone; the kernel closes what it had open."""
        if not self.dead:
            self.dead = self._gone = self._closing = True
            if not self.lost:
                self.lost = True
                self._close_file()

    def _receive(self, data: bytes) -> None:
        if self._gone or self.dead or self._closing:
            return
        if data:
            self._protocol.data_received(data)
        elif not self._protocol.eof_received():
            self.close()

    def _wake(self) -> None:
        """The pipe has room again."""
        if not self.dead and (self._kept or self._eof):
            self._call(self._write_more)

    def _write_more(self) -> None:
        if self._gone or not self._kept:
            return
        sent = self.down.take(bytes(self._kept))
        if sent:
            self.shrank_at = self._loop.time()
            del self._kept[:sent]
        if not self._kept:
            if self._paused:
                self._paused = False
                self._protocol.resume_writing()  # which may write more
            if not self._kept:
                if self._closing:
                    self._gone = True
                    self._lose(None)
                elif self._eof:
                    self.down.end()


class Connection:
    """The client's end.

    Args:
        hear: called with bytes, b"" when it is over.
    """

    def __init__(self, network: Network, protocol: asyncio.Protocol, context: Context, hear: Callable[[bytes], None]):
        self._network = network
        self.transport = Transport(network, protocol, context, network.chance.choice(network.rooms))
        self._hear = hear
        self._over = False
        self.transport.ended = self._heard

    def _heard(self, data: bytes) -> None:
        if self._over:
            return
        if not data:
            self._over = True
            self.transport.up.end()
        self._hear(data)

    def write(self, data: bytes) -> None:
        if not self.transport.up.over:
            self.transport.up.take(data)

    def half_close(self) -> None:
        """The client has said all it will, and still listens."""
        self.transport.up.end()

    def read(self, reading: bool) -> None:
        self.transport.down.read(reading)

    def close(self) -> None:
        """As a client does that wants nothing more: what it sent arrives."""
        self._over = True
        self.transport.up.end()

    def cut(self, noticed_after_s: float) -> None:
        """The connection breaks, at any byte in either direction; the server learns of it later."""
        self._over = True
        transport, chance = self.transport, self._network.chance
        transport.down.snap()
        transport.up.cut(chance.randint(0, len(transport.up.held)))
        transport.up.over = False  # what was cut does not end properly
        self._network.loop.call_later(noticed_after_s, transport.reset)
