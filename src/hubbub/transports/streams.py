"""Event streams that answer one request, over ASGI on every server: one run, or what an endpoint of `compat` tells.

Such a stream is pulled: its events are made when the one before has left. The streams of threads, which many hear at
once, are in sse.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hubbub.core import frames
from hubbub.core.errors import Problem, RateLimited
from hubbub.core.forms import Shout, SseForm
from hubbub.core.nouns import Run
from hubbub.hub.access import Caller
from hubbub.hub.following import follow
from hubbub.hub.hub import Hub
from hubbub.transports.callers import address, answer_problem, hub_of, site_of
from hubbub.transports.sse import HEADERS, HEARTBEAT, HEARTBEAT_S, PREAMBLE

NO_ATTEMPT = 1 << 30
"""More attempts than any run has."""

_RUN_ID = re.compile(r"([^.]+)\.(\d{1,16})\.([A-Za-z0-9_-]{1,64})\.(\d{1,9})\.(\d{1,9})")


class Port(Protocol):
    """The connection a request came in by, where it is one of our own HTTP port."""

    def begin_stream(self) -> None: ...

    def abort(self) -> None: ...


class EventStream(Response):
    """Sends events as they come, and a comment when none has come for a while. A reader that takes nothing for
    `Limits.slow_s` is cut off.

    Args:
        request: what is answered.
        events: the bytes of the events, closed in any case.
        ended: called at the end, however it came.
    """

    media_type = "text/event-stream"

    def __init__(
        self, request: Request, events: AsyncGenerator[bytes, None], ended: Callable[[], Any] = lambda: None
    ) -> None:
        super().__init__(headers={name.decode(): value.decode() for name, value in HEADERS})
        self._hub = hub_of(request)
        self._address = address(request)
        self._port: Port | None = request.scope["state"].get("port")
        # Our own port has counted the connection, unless it is a proxy's.
        self._counts = site_of(request).proxied or self._port is None
        self._events = events
        self._ended = ended
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._counts and not self._hub.addresses.enter(self._address):
                refused = RateLimited("Too many connections from your address; close one first.", retry_after=1)
                await answer_problem(refused)(scope, receive, send)
                return
            try:
                await self._serve(receive, send)
            finally:
                if self._counts:
                    self._hub.addresses.leave(self._address)
        finally:
            self._ended()
            await self._events.aclose()

    async def _serve(self, receive: Receive, send: Send) -> None:
        if self._port is not None:
            self._port.begin_stream()
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait([writing, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, leaving):
                task.cancel()
            await asyncio.wait([writing, leaving])
        if not writing.cancelled():
            writing.result()

    async def _write(self, send: Send) -> None:
        async def body(data: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await body(PREAMBLE)
        coming: asyncio.Future[bytes] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(self._events, b""))
                done, _ = await asyncio.wait([coming], timeout=HEARTBEAT_S)
                data = coming.result() if done else HEARTBEAT
                if done:
                    coming = None
                try:
                    async with asyncio.timeout(self._hub.limits.slow_s):
                        await body(data, more=bool(data))
                except TimeoutError:
                    if self._port is not None:
                        self._port.abort()
                        await asyncio.Event().wait()  # until it is noticed that they are gone
                    return
                if not data:
                    return
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait([coming])


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer_run(
    request: Request, caller: Caller, id: str, attempt: int, offset: int, last_event_id: str
) -> Response:
    """One run, as it is told to its thread, and nothing else. The ids of pieces are those of the thread's stream, after
    the message that asked. The end has one, too: a browser that comes back with it is answered 204 and stays away.

    Args:
        attempt: of which the reader has `offset` code points; `last_event_id` goes before them.
    """
    hub = hub_of(request)
    run = await hub.runs.get(caller, id)
    if last_event_id:
        found = _RUN_ID.fullmatch(last_event_id)
        if found is not None and (found[1], found[3]) == (hub.store.epoch, id):
            if run.seq is not None and int(found[2]) >= run.seq:
                return Response(status_code=204)
            attempt, offset = int(found[4]), int(found[5])
        else:
            attempt = NO_ATTEMPT
    return EventStream(request, _run_events(hub, caller, run, attempt, offset))


async def _run_events(hub: Hub, caller: Caller, run: Run, attempt: int, offset: int) -> AsyncGenerator[bytes, None]:
    form = hub.form_of(SseForm)
    try:
        async with contextlib.aclosing(follow(hub, caller, run.id, attempt, offset)) as told:
            async for frame in told:
                data = form.encode([Shout(frame, run.trigger)])
                if isinstance(frame, frames.RunDelta):
                    offset = frame.offset + len(frame.text)
                elif isinstance(frame, frames.RunCompleted | frames.RunCancelled | frames.RunFailed):
                    cursor = f"{form.epoch}.{frame.seq}.{frame.run}.{frame.attempt}.{offset}"
                    data = b"id: %s\n%s" % (cursor.encode(), data)
                yield data
    except Problem as over:
        bye = frames.Bye(
            code=over.code, reason=over.detail, resume=over.outside.retry, retry_after=over.retry_after or 0.0
        )
        yield form.encode([Shout(bye)])
