"""The door `/ws/{user}`: a plain chat in binary WebSocket messages, each four length bytes and UTF-8 text.

It opens onto the lobby, live. Everyone there but the sender gets `<sender>: <text>`. The length may be big- or
little-endian: the right one is told apart because the message's length is known, and answers use the order the client
last used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from starlette.websockets import WebSocket

from hubbub.core import frames
from hubbub.core.errors import OUTSIDE, NameTaken, Problem
from hubbub.core.forms import Shout
from hubbub.core.framing import prefixed
from hubbub.core.nouns import LOBBY
from hubbub.core.websocket import Binary, Broken, Close, Ping, Receiver, Text, binary_frame, close_frame, pong_frame
from hubbub.hub.hub import Hub
from hubbub.hub.session import Session
from hubbub.transports.asgi_doors import accepted, fields, relay
from hubbub.transports.door import SocketDoor
from hubbub.transports.site import Site, Visit, bearer, cookie

MAX_BYTES = 4 + frames.MAX_TEXT_BYTES
MAX_HELD = 64
ORDERS: tuple[Literal["big", "little"], ...] = ("big", "little")


class LobbyForm:
    """What somebody at this door is told: what others say, who comes and goes, and what went wrong."""

    def __init__(self, wrap: Callable[[bytes], bytes] = binary_frame) -> None:
        self.order: Literal["big", "little"] = "big"
        self.user = ""
        self._wrap = wrap

    def encode(self, shouts: Sequence[Shout]) -> bytes:
        return b"".join([self.line(text) for shout in shouts if (text := self._text(shout.frame))])

    def line(self, text: str) -> bytes:
        payload = text.encode()
        return self._wrap(len(payload).to_bytes(4, self.order) + payload)

    def _text(self, frame: frames.Frame) -> str:
        if isinstance(frame, frames.MessageFrame):
            message = frame.message
            return "" if message.sender == self.user else f"{message.sender}: {message.text}"
        if isinstance(frame, frames.Presence):
            return f"Server: Client {frame.user} {'joined' if frame.online else 'left'} the chat"
        if isinstance(frame, frames.Error):
            return f"Server: {frame.detail}"
        return ""


class Guest:
    """The protocol of one client: what its messages mean. The session does the rest."""

    def __init__(self, session: Session, form: LobbyForm) -> None:
        self.session = session
        self._form = form
        self._held: list[frames.Request] | None = []  # what was said before the lobby was entered

    async def enter(self, user: str, headers: Mapping[str, str]) -> None:
        """Enter the lobby as `user`. Raises the Problem that says why not."""
        hub = self.session.hub
        lobby = await hub.room(LOBBY)
        # From here on nothing is waited for until the name is claimed.
        caller = hub.gate.identify(bearer(headers), user, self.session.door.address, cookie(headers))
        self._form.user = caller.name
        await self.session.begin(caller, [LOBBY], frames.Resume(threads={LOBBY: lobby.known}))
        self.session.listen()
        held, self._held = self._held or [], None
        for request in held:
            self.session.handle(request)

    def hear(self, payload: bytes) -> None:
        """A binary message: four bytes that say how long the rest is."""
        form, length = self._form, len(payload) - 4
        fitting = [order for order in ORDERS if int.from_bytes(payload[:4], order) == length]
        if not fitting:
            self._tell("The first four bytes must be the length of the text that follows.")
            return
        if form.order not in fitting:
            form.order = fitting[0]
        self.say(payload[4:])

    def say(self, text: bytes) -> None:
        """A text for the lobby."""
        try:
            request = frames.MessageSend(thread=LOBBY, text=text.decode())
        except UnicodeDecodeError:
            self._tell("The text is not valid UTF-8.")
            return
        if self._held is None:
            self.session.handle(request)
        elif len(self._held) < MAX_HELD:
            self._held.append(request)
        else:
            self._tell("You said too much before you were let in; the rest was dropped.")

    def _tell(self, text: str) -> None:
        self.session.write(self._form.line(f"Server: {text}"))


class LobbyDoor(SocketDoor):
    """A client of the plain chat on its socket."""

    kind = "lobby"
    __slots__ = ("_connections", "_guest", "_receiver", "session")

    def __init__(self, hub: Hub, connections: set[Any], address: str, counted: str) -> None:
        super().__init__(address, counted)
        self._connections = connections
        self._receiver = Receiver(MAX_BYTES)
        form = LobbyForm()
        self.session = Session(hub, self, form)
        self._guest = Guest(self.session, form)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    async def open(self, user: str, headers: Mapping[str, str]) -> None:
        """Enter the lobby as `user`, or say why not and close."""
        try:
            await self._guest.enter(user, headers)
        except Problem as refused:
            self.session.lost()
            if not self.closing:
                self.closing = True
                self.write(close_frame(1008, refusal(refused)))
                self.hang_up()

    def data_received(self, data: bytes) -> None:
        events = self._receiver.feed(data)
        self.session.waits(self._receiver.unfinished, bool(events))
        for event in events:
            if self.closing:
                if isinstance(event, Close):
                    self.transport.close()
            elif isinstance(event, Binary):
                self._guest.hear(event.payload)
            elif isinstance(event, Text):
                self._guest.say(event.payload)
            elif isinstance(event, Ping):
                self.write(pong_frame(event.payload))
            elif isinstance(event, Close | Broken):
                self.session.lost()
                self.closing = True
                self.write(close_frame(event.code))
                self.hang_up()

    def farewell(self, code: str, reason: str) -> bytes:
        return close_frame(OUTSIDE[code].close if code else 1000, reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:
        return False

    def shutdown(self) -> None:
        self.session.end("shutdown", "The server is restarting.", retry_after=1)


def refusal(problem: Problem) -> str:
    """Why somebody is not let in, in the words clients of this door know."""
    return "Client ID already in use." if isinstance(problem, NameTaken) else problem.detail


def lobby_door(hub: Hub, visit: Visit) -> LobbyDoor | None:
    """The door for a WebSocket whose path is `/ws/{user}`."""
    prefix, _, user = visit.path.rpartition("/")
    if prefix != "/ws" or not user:
        return None
    door = LobbyDoor(hub, visit.connections, visit.address, visit.counted)
    hub.spawn(door.open(user, visit.headers))
    return door


async def serve_lobby(socket: WebSocket, hub: Hub, site: Site, user: str) -> None:
    """The same door over ASGI."""
    door = await accepted(socket, hub, site, LobbyDoor.kind)
    if door is None:
        return
    form = LobbyForm(prefixed)
    session = door.session = Session(hub, door, form)
    guest = Guest(session, form)
    try:
        await guest.enter(user, fields(socket))
    except Problem as refused:
        session.lost()
        door.leave(hub)
        await socket.close(1008, refusal(refused))
        return

    def hear(text: bytes | None, data: bytes | None) -> None:
        if data is not None:
            guest.hear(data)
        elif text is not None:
            guest.say(text)

    await relay(socket, door, hear, socket.send_bytes)
