"""Server-sent events: a session that only listens (WHATWG HTML, section 9.2).

`plan` reads what a request asks for and is shared by the socket door below, which serves streams beside ASGI on the
same port, and by the plain ASGI route that serves them under other servers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from hubbub.core import frames
from hubbub.core.errors import BadRequest, NotFound, Problem, Shutdown, Unavailable
from hubbub.core.forms import SseAllForm, SseForm
from hubbub.hub.hub import Hub
from hubbub.hub.session import Session
from hubbub.transports.door import SocketDoor, nowhere
from hubbub.transports.problems import problem_response
from hubbub.transports.site import bearer, cookie

RETRY_MS = 1000
HEARTBEAT_S = 15.0
HEARTBEAT = b": \n\n"
HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
PREAMBLE = b"retry: %d\n\n" % RETRY_MS

_THREAD_STREAM = re.compile(r"/api/threads/([A-Za-z0-9_-]{1,64})/events")
_ALL_STREAM = "/api/events"
_THREAD_ID = re.compile(r"([^.]+)\.(\d{1,16})(?:\.([A-Za-z0-9_-]{1,64})\.(\d{1,9})\.(\d{1,9}))?")
_ALL_ID = re.compile(r"([^.]+)\.([A-Za-z0-9_-]{1,64}):(\d{1,16})")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one stream is to carry, to whom, from where."""

    thread: str | None  # None: all the member's threads
    token: str | None
    cookie: str | None
    user: str | None
    last_event_id: str
    address: str
    shared_with: str = ""  # the origin of a page elsewhere that may read it

    def form(self, hub: Hub) -> SseForm:
        return hub.form_of(SseForm if self.thread else SseAllForm)

    def resume(self) -> frames.Resume | None:
        """The cursor in `Last-Event-ID`. One nobody gave out becomes a cursor of another epoch, so the reader is
        told to read again instead of silently missing something; on the stream of all threads it says nothing."""
        if not self.last_event_id:
            return None
        if self.thread is not None:
            found = _THREAD_ID.fullmatch(self.last_event_id)
            if found is None:
                return frames.Resume(epoch="", threads={self.thread: 0})
            epoch, seq, run, attempt, offset = found.groups()
            runs = {run: (int(attempt), int(offset))} if run else {}
            return frames.Resume(epoch=epoch, threads={self.thread: int(seq)}, runs=runs)
        found = _ALL_ID.fullmatch(self.last_event_id)
        if found is None:
            return None
        return frames.Resume(epoch=found[1], threads={found[2]: int(found[3])})

    async def begin(self, session: Session) -> None:
        """Sign the session in and put it into its rooms. Raises the Problem to answer with."""
        caller = session.hub.gate.identify(self.token, self.user, self.address, self.cookie)
        session.claims = bool(caller.expires or caller.token)
        await session.begin(caller, [self.thread] if self.thread else None, self.resume())


def is_stream(path: str) -> bool:
    """Is this the path of an event stream?"""
    return path == _ALL_STREAM or _THREAD_STREAM.fullmatch(path) is not None


def plan(path: str, query: str, headers: Mapping[str, str], address: str) -> Plan:
    """Read a request for a stream. `headers` by lower-case name. Raises BadRequest, NotFound."""
    found = _THREAD_STREAM.fullmatch(path)
    if found is None and path != _ALL_STREAM:
        raise NotFound(f"There is no stream at {path[:200]}.")
    asked = parse_qs(query, keep_blank_values=True)
    unknown = set(asked) - {"user"}
    if unknown:
        raise BadRequest(f"A stream takes no parameter {min(unknown)!r}.")
    return Plan(
        thread=found[1] if found else None,
        token=bearer(headers),
        cookie=cookie(headers),
        user=asked["user"][0] if "user" in asked else None,
        last_event_id=headers.get("last-event-id", ""),
        address=address,
    )


class SseDoor(SocketDoor):
    """A stream on its socket. Close-delimited, so that ready bytes need no chunk headers of their own."""

    kind = "sse"
    __slots__ = ("_connections", "_opened", "session")

    def __init__(self, hub: Hub, plan: Plan, connections: set[Any], counted: str) -> None:
        super().__init__(plan.address, counted)
        self._connections = connections
        self._opened = False  # has the head of the answer been written?
        self.session = Session(hub, self, plan.form(hub))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)
        self.write = nowhere

    async def open(self, plan: Plan) -> None:
        """Answer the request: the stream, or a problem."""
        try:
            await plan.begin(self.session)
        except Problem as refused:
            self._refuse(refused)
            return
        self._opened = True
        self.write = self.transport.write
        head = b"".join(b"%s: %s\r\n" % header for header in HEADERS)
        if plan.shared_with:
            origin = plan.shared_with.encode()
            head += b"access-control-allow-origin: %s\r\naccess-control-allow-credentials: true\r\n" % origin
        self.write(b"HTTP/1.1 200 OK\r\n" + head + b"connection: close\r\n\r\n" + PREAMBLE)
        self.session.listen()

    def _refuse(self, refused: Problem) -> None:
        if self.closing or self.transport.is_closing():
            return
        self.closing = True
        self.session.lost()
        self.transport.write(problem_response(refused))
        self.hang_up()

    def end(self, code: str, reason: str) -> None:
        if self._opened:
            super().end(code, reason)
        else:  # there is no stream yet that could say goodbye
            self._refuse(Shutdown(reason, retry_after=1) if code == "shutdown" else Unavailable(reason, retry_after=1))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A listener has nothing to say."""

    def eof_received(self) -> bool:
        return False

    def shutdown(self) -> None:
        self.session.end("shutdown", "The server is restarting.", retry_after=1)


async def beat(connections: set[Any]) -> None:
    """Keep proxies from taking the silence of a stream for its death."""
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        for door in list(connections):
            if isinstance(door, SseDoor) and door.session.ready and not door.session.stopped:
                door.write(HEARTBEAT)
