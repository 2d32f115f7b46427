"""The same doors for servers that are not ours (`uvicorn hubbub.asgi:app`, gunicorn): WebSocket and SSE through ASGI.

Slower than transports/http.py and otherwise the same. What is due for a connection waits in a bounded buffer; when it
is full the session is told so, as a socket would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from hubbub.core.errors import OUTSIDE, Problem, RateLimited
from hubbub.core.forms import FRAMED
from hubbub.core.framing import Splitter, prefixed
from hubbub.hub.hub import Hub
from hubbub.hub.session import Session
from hubbub.transports import site, sse
from hubbub.transports.site import Site, below

HIGH_WATER = 64 << 10
LOW_WATER = 16 << 10


class BufferDoor:
    """A `hub.session.Door` whose bytes are taken out by a coroutine."""

    def __init__(self, address: str, kind: str) -> None:
        self.address = address
        self.kind = kind
        self.session: Session | None = None
        self.ending: tuple[str, str] | None = None
        self._parts: list[bytes] = []
        self._bytes = 0
        self._more = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()

    def write(self, data: bytes, /) -> None:
        self._parts.append(data)
        self._bytes += len(data)
        self._more.set()
        if self._bytes > HIGH_WATER and self.session is not None:
            self.session.stop()

    def leave(self, hub: Hub) -> None:
        """The connection, which was counted, is gone."""
        hub.addresses.leave(self.address)

    def fileno(self) -> int:
        return -1

    def unsent(self) -> int:
        return self._bytes

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    async def settle(self) -> None: ...

    def end(self, code: str, reason: str) -> None:
        self.ending = (code, reason)
        self._more.set()
        self._reading.set()

    async def readable(self) -> None:
        """Wait until the session wants to hear more from its client."""
        await self._reading.wait()

    async def take(self) -> bytes:
        """What is due, waiting for it; nothing when the connection is to end."""
        while not self._parts:
            if self.ending is not None:
                return b""
            self._more.clear()
            await self._more.wait()
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    def taken(self, size: int) -> None:
        """So many bytes have left."""
        self._bytes -= size
        if self._bytes < LOW_WATER and self.session is not None:
            self.session.go_on()


async def serve_websocket(socket: WebSocket, hub: Hub, here: Site) -> None:
    """`/ws` over ASGI."""
    door = await accepted(socket, hub, here, "websocket")
    if door is None:
        return
    session = door.session = Session(hub, door, FRAMED)
    session.offered, session.cookie = site.bearer(fields(socket)), site.cookie(fields(socket))
    binary = False

    def hear(text: bytes | None, data: bytes | None) -> None:
        nonlocal binary
        if session.fresh:
            binary = data is not None
        if text is not None:
            session.receive(text)
        else:
            session.receive_frames(data or b"")

    async def send(payload: bytes) -> None:
        if binary:
            await socket.send_bytes(prefixed(payload))
        else:
            await socket.send_text(payload.decode())

    await relay(socket, door, hear, send)


def fields(connection: HTTPConnection) -> dict[str, str]:
    """The headers by lower-case name. Raises BadRequest."""
    return site.fields(connection.headers.raw)


async def accepted(socket: WebSocket, hub: Hub, here: Site, kind: str) -> BufferDoor | None:
    """Answer the handshake, unless it comes from a page of another site or an address with too many connections."""
    try:
        headers = fields(socket)
        address = here.address(socket.client.host if socket.client else "", headers)
        here.require_name(headers)
        here.require_page(headers)
        if not hub.addresses.enter(address):
            raise RateLimited("Too many connections from your address; close one first.", retry_after=1)
    except Problem as refused:
        await socket.close(1008, refused.detail)
        return None
    await socket.accept()
    return BufferDoor(address, kind)


async def relay(
    socket: WebSocket,
    door: BufferDoor,
    hear: Callable[[bytes | None, bytes | None], None],
    send: Callable[[bytes], Awaitable[None]],
) -> None:
    """Move messages both ways until one side ends. The session's form writes length-prefixed payloads.

    Args:
        hear: called with a text message or a binary one, the other being None.
        send: sends one payload.
    """

    async def receive() -> None:
        while True:
            await door.readable()
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            hear(None if text is None else text.encode("utf-8", "surrogatepass"), message.get("bytes"))

    async def write() -> None:
        splitter = Splitter(1 << 31)
        while data := await door.take():
            for payload in splitter.feed(data):
                await send(payload)
            door.taken(len(data))
        code, reason = door.ending or ("", "")
        await socket.close(OUTSIDE[code].close if code else 1000, reason)

    assert door.session is not None
    try:
        await _both(receive(), write(), door.session)
    finally:
        door.leave(door.session.hub)


async def serve_stream(request: Request, hub: Hub, here: Site) -> Response:
    """An event stream over ASGI."""
    headers = fields(request)
    address = here.address(request.client.host if request.client else "", headers)
    plan = sse.plan(below(request.url.path, request.scope["root_path"]), request.url.query, headers, address)
    if not hub.addresses.enter(address):
        raise RateLimited("Too many connections from your address; close one first.", retry_after=1)
    door = BufferDoor(address, "sse")
    session = door.session = Session(hub, door, plan.form(hub))
    try:
        await plan.begin(session)
    except BaseException:
        session.lost()
        door.leave(hub)
        raise
    session.listen()

    async def body() -> AsyncIterator[bytes]:
        yield sse.PREAMBLE
        while True:
            try:
                async with asyncio.timeout(sse.HEARTBEAT_S):
                    data = await door.take()
            except TimeoutError:
                yield sse.HEARTBEAT
                continue
            if not data:
                return
            yield data
            door.taken(len(data))

    return Stream(session, door, body())


class Stream(StreamingResponse):
    """The response of an event stream; however it ends, its session does too."""

    def __init__(self, session: Session, door: BufferDoor, body: AsyncIterator[bytes]) -> None:
        super().__init__(body, headers={name.decode(): value.decode() for name, value in sse.HEADERS})
        self._session = session
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._session.lost()
            self._door.leave(self._session.hub)


async def _both(receive: Any, send: Any, session: Session) -> None:
    tasks = [asyncio.ensure_future(receive), asyncio.ensure_future(send)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        session.lost()
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | RuntimeError):
                raise outcome
