"""A reader of server-sent events, on the bare socket so that it can be cut anywhere."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Self

from support.inbox import WAIT_S, Frame, Inbox, Over
from support.talkers import encrypted, to


class Refused(Exception):
    """The stream was not opened: the status, and the problem document."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body!r}")
        self.status = status
        self.problem: Frame = json.loads(body)


class SseReader(Inbox):
    """One event stream. `ids` has the id of every event in `heard`, or None; `last_id` is what a browser keeps."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ids: list[str | None] = []
        self.last_id = ""
        self.retry_ms: int | None = None
        self._body = b""

    @classmethod
    async def open(
        cls,
        port: int,
        path: str,
        *,
        token: str | None = None,
        last_id: str = "",
        receive_buffer: int | None = None,
        headers: dict[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Raises Refused."""
        sock = await to(port, receive_buffer)
        limit = 1 << 24 if receive_buffer is None else 4096
        self = cls(*await asyncio.open_connection(sock=sock, limit=limit, **encrypted(tls)))
        lines = [f"GET {path} HTTP/1.1", "host: localhost", "accept: text/event-stream"]
        lines += [f"authorization: Bearer {token}"] if token else []
        lines += [f"last-event-id: {last_id}"] if last_id else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(WAIT_S):
            await self._read_head()
        return self

    async def _read_head(self) -> None:
        self.status = int((await self.reader.readline()).split()[1])
        while (line := (await self.reader.readline()).decode().strip()) != "":
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        if self.status != 200:
            raise Refused(self.status, await self.reader.readexactly(int(self.headers["content-length"])))

    async def _line(self) -> str:
        while b"\n" not in self._body:
            piece = await self._piece()
            if not piece:
                raise Over("the stream ended")
            self._body += piece
        line, _, self._body = self._body.partition(b"\n")
        return line.decode()

    async def _piece(self) -> bytes:
        """More of the body, whether it came in chunks or not."""
        if self.headers.get("transfer-encoding") != "chunked":
            return await self.reader.read(65536)
        size = int(await self.reader.readline() or b"0", 16)
        chunk = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return chunk

    async def _read(self) -> Frame:
        event, data, id = "", [], None
        while True:
            try:
                line = await self._line()
            except (ConnectionError, asyncio.IncompleteReadError) as end:
                raise Over(str(end)) from None
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                if data:
                    break
                event, id = "", None
            elif field == "event":
                event = value
            elif field == "data":
                data.append(value)
            elif field == "id":
                id = value
            elif field == "retry":
                self.retry_ms = int(value)
            else:
                assert field == "", f"an unexpected line: {line!r}"
        frame: Frame = json.loads("\n".join(data))
        assert frame["type"] == event, "the event's name is not the frame's type"
        self.ids.append(id)
        self.last_id = id if id is not None else self.last_id
        return frame

    def cut(self) -> None:
        self.writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
