"""A port that encrypts: connections count from when they are accepted, and have so long for their handshake.

The loop's own server tells of a connection after its handshake, so one that never makes it would be nobody's.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import cast

import structlog

from hubbub.hub.hub import Hub

log = structlog.get_logger("hubbub.encrypted")

HANDSHAKE_S = 10.0
AT_ONCE = 64
"""Connections accepted before others have their turn."""

REST_S = 1.0
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

MakeDoor = Callable[[str], asyncio.Protocol]
"""Gives who speaks on a connection; it tells `hub.addresses` when the address it is given, unless "", has left."""


class Doorstep(asyncio.Protocol):
    """A connection in its handshake. Afterwards its door takes over."""

    __slots__ = ("_address", "_make_door", "passed")

    def __init__(self, make_door: MakeDoor, address: str) -> None:
        self._make_door = make_door
        self._address = address
        self.passed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.passed = True
        door = self._make_door(self._address)
        cast(asyncio.Transport, transport).set_protocol(door)
        door.connection_made(transport)


class EncryptedPort:
    """Accepts on a listening socket until it is closed.

    Args:
        context: gives the context of the next handshake.
        counts: False when every connection comes from one proxy.
    """

    def __init__(
        self,
        hub: Hub,
        sock: socket.socket,
        context: Callable[[], ssl.SSLContext],
        make_door: MakeDoor,
        *,
        counts: bool = True,
    ) -> None:
        self._hub = hub
        self._sock = sock
        self._context = context
        self._make_door = make_door
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._shaking: set[asyncio.Task[None]] = set()
        self._rest: asyncio.TimerHandle | None = None
        self._listen()

    def _listen(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept nobody any more, and end the handshakes. The socket stays open."""
        self._loop.remove_reader(self._sock)
        if self._rest is not None:
            self._rest.cancel()
        for task in self._shaking:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, address = self._sock.accept()
            except OSError as failure:
                if failure.errno in EXHAUSTED:
                    log.error("accept_failed", reason=failure.strerror, again_in_s=REST_S)
                    self._loop.remove_reader(self._sock)  # or it would be called without pause
                    self._rest = self._loop.call_later(REST_S, self._listen)
                return
            connection.setblocking(False)
            counted = str(address[0]) if self._counts else ""
            if not self._hub.addresses.enter(counted):
                connection.close()  # to say why would take the handshake
                continue
            task = self._hub.spawn(self._shake(connection, counted), standing=True)
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _shake(self, connection: socket.socket, counted: str) -> None:
        step = Doorstep(self._make_door, counted)
        try:
            await self._loop.connect_accepted_socket(
                lambda: step, connection, ssl=self._context(), ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError:  # it was not TLS, or not in time, or nobody was there any more
            pass
        finally:
            if not step.passed:
                self._hub.addresses.leave(counted)
