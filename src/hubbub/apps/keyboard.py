"""Lines somebody types, or a program pipes in, without ever holding up the event loop.

The descriptor stays in blocking mode and is read only when it has something: on a terminal standard input and
output are one open file, and setting O_NONBLOCK on one makes writes to the other fail when it is slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator

from hubbub.core.lines import clean_input

READ_BYTES = 64 << 10
MAX_LINE_BYTES = 1 << 20


class Keyboard:
    """`fd` is a terminal, a pipe, a socket or a file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held = b""
        self._over = False
        self._reading = asyncio.Lock()
        self._secret: asyncio.Future[str | None] | None = None

    async def line(self) -> str | None:
        """The next line without its end; None when there is no more. One of over 1 MiB is cut."""
        async with self._reading:
            while True:
                text = await self._next()
                if self._secret is None or self._secret.done():
                    return text
                self._secret.set_result(text)

    @property
    def hides(self) -> bool:
        """Can it be a terminal that does not show what is typed?"""
        return os.isatty(self._fd) and os.name == "posix"

    async def secret(self) -> str | None:
        """The next line, which a terminal does not show; also while somebody else waits in `line`, who then gets the
        one after it. None when there is no more."""
        with _hidden(self._fd):
            if not self._reading.locked():
                async with self._reading:
                    return await self._next()
            self._secret = asyncio.get_running_loop().create_future()
            try:
                return await self._secret
            finally:
                self._secret = None

    async def _next(self) -> str | None:
        while True:
            line, end, rest = self._held.partition(b"\n")
            if end or len(line) >= MAX_LINE_BYTES:
                self._held = rest
                return clean_input(line)
            if self._over:
                self._held = b""
                return clean_input(line) if line else None
            data = await self._read()
            self._over = not data
            self._held += data

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        try:
            blocking = os.get_blocking(self._fd)
            loop.add_reader(self._fd, _settle, ready)
            os.set_blocking(self._fd, blocking)  # uvloop's add_reader changes it
        except (NotImplementedError, AttributeError):  # Windows
            return await self._read_in_a_thread(loop)
        except OSError:
            return self._take()  # epoll refuses what never makes one wait: files and /dev/null
        try:
            await ready
        finally:
            loop.remove_reader(self._fd)
        return self._take()

    def _take(self) -> bytes:
        try:
            return os.read(self._fd, READ_BYTES)
        except OSError:  # the terminal is gone
            return b""

    async def _read_in_a_thread(self, loop: asyncio.AbstractEventLoop) -> bytes:
        """Where the loop cannot watch a console (Windows). A daemon thread does not hold up leaving."""
        read: asyncio.Future[bytes] = loop.create_future()

        def give(data: bytes) -> None:
            if not read.done():
                read.set_result(data)

        def wait() -> None:
            data = self._take()
            if not loop.is_closed():
                loop.call_soon_threadsafe(give, data)

        threading.Thread(target=wait, daemon=True).start()
        return await read


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


@contextlib.contextmanager
def _hidden(fd: int) -> Iterator[None]:
    """The terminal does not show what is typed, and forgets what was typed before."""
    if os.name != "posix" or not os.isatty(fd):
        yield
        return
    import termios

    before = termios.tcgetattr(fd)
    silent = termios.tcgetattr(fd)
    silent[3] &= ~termios.ECHO
    termios.tcflush(fd, termios.TCIFLUSH)
    termios.tcsetattr(fd, termios.TCSANOW, silent)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSANOW, before)
