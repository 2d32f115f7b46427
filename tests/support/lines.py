"""A person with `nc`."""

from __future__ import annotations

import asyncio
import ssl
from typing import Self

from support.inbox import WAIT_S
from support.talkers import encrypted

PROMPT = "Enter your username: "


class LineClient:
    """Types lines and reads what is shown. `shown` is everything so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.shown = ""
        self._at = 0  # how much of it a test has looked at

    @classmethod
    async def open(cls, port: int, name: str | None = None, tls: ssl.SSLContext | None = None) -> Self:
        """Connect; with a name, also sign in and wait for `Connected!`."""
        self = cls(*await asyncio.open_connection("127.0.0.1", port, **encrypted(tls)))
        if name is not None:
            self.type(name)
            await self.sees("Connected! Users online: ")
            await self.line()
        return self

    def type(self, line: str) -> None:
        self.send(f"{line}\n".encode())

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def end(self) -> None:
        """Half-close, as nc does at the end of its input."""
        self.writer.write_eof()

    async def sees(self, text: str) -> str:
        """Wait until this is shown; what came before it."""
        try:
            async with asyncio.timeout(WAIT_S):
                while (found := self.shown.find(text, self._at)) < 0:
                    data = await self.reader.read(65536)
                    if not data:
                        raise AssertionError(f"closed before {text!r} was shown: {self.shown[self._at :]!r}")
                    self.shown += data.decode()
        except TimeoutError:
            raise AssertionError(f"{text!r} was not shown, but {self.shown[self._at :]!r}") from None
        before = self.shown[self._at : found]
        self._at = found + len(text)
        return before

    async def line(self) -> str:
        """The next line, without its end."""
        return await self.sees("\n")

    async def rest(self) -> str:
        """Everything until the server closes."""
        async with asyncio.timeout(WAIT_S):
            while data := await self.reader.read(65536):
                self.shown += data.decode()
        rest, self._at = self.shown[self._at :], len(self.shown)
        return rest

    def cut(self) -> None:
        self.writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
