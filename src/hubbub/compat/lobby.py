"""The door `/ws/{user}`: a plain chat in binary WebSocket messages, each four length bytes and UTF-8 text.

It opens onto the lobby, live. Everyone there but the sender gets `<sender>: <text>`. The length may be big- or
little-endian: the right one is told apart because the message's length is known, and answers use the order the client
last used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hubbub.core import frames
from hubbub.core.errors import NameTaken, Problem
from hubbub.core.forms import Shout
from hubbub.core.nouns import LOBBY
from hubbub.core.websocket import Binary, Broken, Close, Ping, Receiver, Text, binary_frame, close_frame, pong_frame
from hubbub.hub.hub import Hub
from hubbub.hub.session import Session
from hubbub.transports.door import SocketDoor

MAX_BYTES = 4 + frames.MAX_TEXT_BYTES
ORDERS: tuple[Literal["big", "little"], ...] = ("big", "little")


class LobbyForm:
    """What somebody at this door is told: what others say, who comes and goes, and what went wrong."""

    def __init__(self) -> None:
        self.order: Literal["big", "little"] = "big"
        self.user = ""

    def encode(self, shouts: Sequence[Shout]) -> bytes:
        return b"".join([self.line(text) for shout in shouts if (text := self._text(shout.frame))])

    def line(self, text: str) -> bytes:
        payload = text.encode()
        return binary_frame(len(payload).to_bytes(4, self.order) + payload)

    def _text(self, frame: frames.Frame) -> str:
        if isinstance(frame, frames.MessageFrame):
            message = frame.message
            return "" if message.sender == self.user else f"{message.sender}: {message.text}"
        if isinstance(frame, frames.Presence):
            return f"Server: Client {frame.user} {'joined' if frame.online else 'left'} the chat"
        if isinstance(frame, frames.Error):
            return f"Server: {frame.detail}"
        return ""


class LobbyDoor(SocketDoor):
    """One client of the plain chat."""

    __slots__ = ("_connections", "_form", "_receiver", "session")

    def __init__(self, hub: Hub, connections: set[Any]) -> None:
        super().__init__()
        self._connections = connections
        self._receiver = Receiver(MAX_BYTES)
        self._form = LobbyForm()
        self.session = Session(hub, self, self._form)

    async def open(self, user: str, token: str | None) -> None:
        """Enter the lobby as `user`, or say why not and close."""
        hub = self.session.hub
        self._connections.add(self)
        try:
            name = hub.identify(token, user)
            lobby = await hub.room(LOBBY)
            self._form.user = name
            await self.session.begin(name, [LOBBY], frames.Resume(threads={LOBBY: lobby.known}))
        except NameTaken:
            self._refuse("Client ID already in use.")
        except Problem as refused:
            self._refuse(refused.detail)
        else:
            self.session.listen()

    def _refuse(self, reason: str) -> None:
        self.session.lost()
        if not self.closing:
            self.closing = True
            self.write(close_frame(1008, reason))
            self.hang_up()

    def data_received(self, data: bytes) -> None:
        for event in self._receiver.feed(data):
            if self.closing:
                if isinstance(event, Close):
                    self.transport.close()
            elif isinstance(event, Binary):
                self._hear(event.payload)
            elif isinstance(event, Text):
                self._say(event.payload)
            elif isinstance(event, Ping):
                self.write(pong_frame(event.payload))
            elif isinstance(event, Close | Broken):
                self.session.lost()
                self.closing = True
                self.write(close_frame(event.code))
                self.hang_up()

    def _hear(self, payload: bytes) -> None:
        form, length = self._form, len(payload) - 4
        fitting = [order for order in ORDERS if int.from_bytes(payload[:4], order) == length]
        if not fitting:
            self.write(form.line("Server: The first four bytes must be the length of the text that follows."))
            return
        if form.order not in fitting:
            form.order = fitting[0]
        self._say(payload[4:])

    def _say(self, text: bytes) -> None:
        try:
            request = frames.MessageSend(thread=LOBBY, text=text.decode())
        except UnicodeDecodeError:
            self.write(self._form.line("Server: The text is not valid UTF-8."))
        else:
            self.session.handle(request)

    def farewell(self, code: str, reason: str) -> bytes:
        return close_frame(1000 if not code else 1012, reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:
        return False

    def shutdown(self) -> None:
        self.session.end("shutdown", "The server is restarting.", retry_after=1)


def lobby_door(hub: Hub, path: str, token: str | None, connections: set[Any]) -> LobbyDoor | None:
    """The door for a WebSocket at `path`, when it is `/ws/{user}`."""
    prefix, _, user = path.rpartition("/")
    if prefix != "/ws" or not user:
        return None
    door = LobbyDoor(hub, connections)
    hub.spawn(door.open(user, token))
    return door
