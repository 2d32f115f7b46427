"""The HTTP port: uvicorn for requests, our own doors for what lives long.

WebSockets on `/ws` and event streams leave ASGI here, on the same port: through it, fan-out reaches 0.3–0.45 of a C
loop that does one send a reader; with ready bytes on the transport 0.8. Everything else falls through to uvicorn.
This is the one file that knows uvicorn's insides; tests/transports/test_http_port.py fails loudly when they change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hubbub.core import websocket
from hubbub.core.errors import Problem, TooLarge
from hubbub.hub.hub import Hub
from hubbub.hub.limits import Limits
from hubbub.hub.meter import add
from hubbub.transports import sse
from hubbub.transports.door import peer_of
from hubbub.transports.problems import problem_response
from hubbub.transports.site import Site, Visit, bearer, below, cookie, fields
from hubbub.transports.websocket import WebSocketDoor

ARRIVING_S = 0.5
"""At the end, how long a connection that has said nothing yet is kept, as its request may be on the way."""

TOO_LATE = "The request did not arrive in time."

Upgrade = Callable[[Hub, Visit], asyncio.Protocol | None]
"""Gives the door for a WebSocket, if its path is one it knows."""


def websocket_door(hub: Hub, visit: Visit) -> asyncio.Protocol | None:
    """The door for `/ws`; its clients say who they are in their `hello`, or have shown a token already."""
    if visit.path != "/ws":
        return None
    headers = visit.headers
    return WebSocketDoor(hub, visit.connections, bearer(headers), cookie(headers), visit.address, visit.counted)


class HeadTooLong(TooLarge):
    """It is not the body."""

    status = 431


class HttpPort(HttpToolsProtocol):
    """One HTTP connection. The lifespan state has the `hub`, the `site` and, under `upgrades`, who opens WebSockets; a
    request finds its `port` in it."""

    _peer = ""
    _counted = ""
    _head_bytes = 0
    _head_size = 0
    _head_timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _answering: RequestResponseCycle | None = None
    _streams = False
    _leaving = False
    _ours: sse.Plan | Problem | None = None  # what a request uvicorn is not to see asks for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = peer_of(transport)
        most = self._limits.http_connections
        if most and len(self.connections) > most:
            self._refuse(503, "This server has as many connections as it may have.", [(b"retry-after", b"1")])
            return
        if not self._site.proxied and not self._counted and not self._count(self._peer):
            return
        self._await_head()

    @property
    def _site(self) -> Site:
        site: Site = self.app_state["site"]
        return site

    @property
    def _limits(self) -> Limits:
        hub: Hub = self.app_state["hub"]
        return hub.limits

    def _too_long(self) -> str:
        return f"The request head is longer than {self._limits.head_bytes} bytes."

    def _count(self, address: str) -> bool:
        """Count the connection for an address; refuse it when there are too many."""
        hub: Hub = self.app_state["hub"]
        if not hub.addresses.enter(address):
            self._refuse(429, "Too many connections from your address; close one first.", [(b"retry-after", b"1")])
            return False
        self._counted = address
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self.app_state["hub"].addresses.leave(self._counted)
        self._forget_head()
        self._forget_body()
        super().connection_lost(exc)
        # uvicorn tells the newest request only, and of several on the way it is an older one that is being answered.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        cycle.scope["state"]["port"] = self
        self._streams = False
        if self._leaving:
            cycle.keep_alive = False
        super()._start_asgi_task(cycle, app)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said all it will still gets the answer to what it asked in full."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body or self._streams:
            return False
        self.cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        """The server is going: no more after what is asked. Nobody whom it has let in goes without an answer."""
        if self.cycle is None and not self._leaving:
            self._leaving = True
            self.loop.call_later(ARRIVING_S, self.shutdown)
        elif not self._leaving or self.cycle is None:
            super().shutdown()

    def begin_stream(self) -> None:
        """The answer has no end of its own: a client that says no more has left."""
        self._streams = True

    def abort(self) -> None:
        """The client does not take its answer."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._head_timer is not None:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._upgrade(data[upgrade.args[0] :])
            return  # another protocol was offered: the request is answered without it
        except httptools.HttpParserError:
            self._forget_head()
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._ours is not None:
            self._answer(self._ours)
        elif self._head_timer is not None and self._head_bytes > self._limits.head_bytes:
            self._refuse(431, self._too_long())

    # Head and body: bounded in bytes and in time. Once a request is ours, uvicorn sees nothing behind it either.

    def on_message_begin(self) -> None:
        if self._ours is not None:
            return
        super().on_message_begin()
        self._head_size = 0
        if self._head_timer is None:
            self._await_head()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self._limits.head_s, self._refuse, 408, TOO_LATE)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _await_body(self) -> None:
        self._body_timer = self.loop.call_later(self._limits.frame_s, self._refuse, 408, TOO_LATE)

    def _forget_body(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def on_url(self, url: bytes) -> None:
        if self._ours is None:
            self._head_size += len(url)
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._ours is None:
            self._head_size += len(name) + len(value) + 4
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._ours is not None:
            return
        self._forget_head()
        if root := self._site.root:
            self.url = below(self.url.decode("latin-1"), root).encode("latin-1")
        if self._head_size > self._limits.head_bytes:
            self._ours = HeadTooLong(self._too_long())
            return
        idle = self.cycle is None or self.cycle.response_complete
        if self.parser.get_method() == b"GET" and idle and not self.parser.should_upgrade():
            url = httptools.parse_url(self.url)
            path = unquote(url.path.decode("ascii", "replace"))
            if sse.is_stream(path):
                try:
                    headers = fields(self.headers)
                    self._site.require("GET", path, headers)
                    address = self._site.address(self._peer, headers)
                    plan = sse.plan(path, (url.query or b"").decode("latin-1"), headers, address)
                    origin = headers.get("origin", "")
                    self._ours = replace(plan, shared_with=origin) if origin in self._site.origins else plan
                except Problem as refused:
                    self._ours = refused
                return
        if not self.parser.should_upgrade():
            self._await_body()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._ours is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._forget_body()
        if self._ours is None:
            super().on_message_complete()

    def _refuse(self, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._forget_head()
        if self.transport.is_closing():
            return
        add(self.app_state["hub"].counts.refused_early, str(status))
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        body = f"{detail}\n".encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\n%sconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\n\r\n%s" % (status, HTTPStatus(status).phrase.encode(), head, len(body), body)
        )
        self.transport.close()

    # Leaving uvicorn

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() == b"websocket"

    def _upgrade(self, rest: bytes) -> None:
        """Hand the connection over, with whatever the client sent right behind its handshake."""
        self._forget_head()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # opened behind a request that is not answered yet: only that one is
            return
        hub: Hub = self.app_state["hub"]
        path = unquote(httptools.parse_url(self.url).path.decode("ascii", "replace"))
        try:
            accepted = websocket.accept(self.scope["method"].encode(), self.scope["http_version"], self.headers)
        except websocket.Refused as refused:
            self._refuse(refused.status, refused.detail, refused.headers)
            return
        try:
            headers = fields(self.headers)
            self._site.require_name(headers)
            self._site.require_page(headers)
        except Problem as refused:
            self._refuse(refused.http, refused.detail)
            return
        address = self._site.address(self._peer, headers)
        if self._site.proxied and not self._count(address):
            return
        upgrades: Sequence[Upgrade] = self.app_state["upgrades"]
        visit = Visit(path, headers, self.connections, address, self._counted)
        doors = (upgrade(hub, visit) for upgrade in upgrades)
        door = next((door for door in doors if door is not None), None)
        if door is None:
            self._refuse(404, "There is no WebSocket at this address; use /ws.")
            return
        self.transport.write(accepted)
        self._hand_over(door)
        if rest:
            door.data_received(rest)

    def _answer(self, plan: sse.Plan | Problem) -> None:
        """Answer a request of ours: become its stream, or refuse it."""
        if isinstance(plan, HeadTooLong):
            self._refuse(plan.http, plan.detail)
            return
        if isinstance(plan, Problem):
            self.transport.write(problem_response(plan))
            self.transport.close()
            return
        hub: Hub = self.app_state["hub"]
        if self._site.proxied and not self._count(plan.address):
            return
        door = sse.SseDoor(hub, plan, self.connections, self._counted)
        self._hand_over(door)
        hub.spawn(door.open(plan))

    def _hand_over(self, door: asyncio.Protocol) -> None:
        self.connections.discard(self)
        self._counted = ""  # the door has it
        self.parser = None  # type: ignore[assignment]
        self.transport.set_protocol(door)
        door.connection_made(self.transport)
        if self.flow.write_paused:  # by an answer the client has not read yet; nobody else will tell the door
            door.pause_writing()


def http_port(server: uvicorn.Server, counted: str) -> HttpPort:
    """A connection of a server that has started, as the server itself makes them; one that was counted already for
    this address, unless it is ""."""
    port = HttpPort(server.config, server.server_state, server.lifespan.state)
    port._counted = counted
    return port
