"""Conversations over `POST /chat`: a JSON question, and its answer as server-sent events.

    connected {conversation_id, message_id} · message {type: partial_response, content} … ·
    message {type: complete, content} · completed {conversation_id, message_content, total_messages}
    or, in place of what has not come yet, error {error}

Where an answer is begun again, after a crash say, {type: reset} takes back the pieces told so far. Every `data` is a
JSON object with a `type`. The pieces joined are what `complete` and `completed` say, and each turn makes the
conversation two messages longer. Events of other names are passed over.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ssl import SSLContext, SSLError
from urllib.parse import urlsplit

import msgspec

from hubbub import __version__
from hubbub.apps.load.http1 import Garbled, Line, Lost
from hubbub.apps.load.turn import Kind, Turn
from hubbub.core.errors import BadRequest
from hubbub.core.sse_lines import SseLines, TooLong

IDLE_S = 1.0
"""A connection that rested longer is not used again: the server may be closing it at this moment, and a question lost
that way would look like a fault of the server. Gunicorn closes after 2 s, uvicorn after 5."""

_OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server's `/chat` is, as `parse_url` found it."""

    url: str
    host: str
    port: int
    head: bytes  # of every request, to its content-length
    addresses: Sequence[str]
    tls: SSLContext | None


async def find_door(url: str, token: str | None, tls: SSLContext | None) -> Door:
    """The door of the server at `url`; its name is looked up now, and not again for each connection.

    Args:
        tls: for an https address.

    Raises BadRequest: that is no such address, or nobody knows the host.
    """
    rule = "Write it like http://127.0.0.1:8000."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        path = parts.path.rstrip("/").removesuffix("/chat") + "/chat"
        at = f"[{host}]" if host and ":" in host else f"{host}"
        target, named = path.encode("ascii"), f"{at}:{port}".encode("idna" if ":" not in at else "ascii")
    except ValueError as wrong:  # a UnicodeError is one
        raise BadRequest(f"'{url}' is not an address: {wrong}. {rule}") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        raise BadRequest(f"'{url}' is not the address of a server. {rule}")
    if any(char <= 32 or char == 127 for char in target):
        raise BadRequest(f"'{url}' has a character in its path that an address cannot have. {rule}")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise BadRequest("The token has characters that no token has.")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
    except OSError as failure:
        raise BadRequest(f"Nobody knows the host '{host}' ({failure.strerror}).") from None
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    head = b"POST %b HTTP/1.1\r\nHost: %b\r\n" % (target, named) + (
        "Accept: text/event-stream\r\nContent-Type: application/json\r\n"
        f"User-Agent: hubbub-load/{__version__}\r\n{bearer}Content-Length: "
    ).encode("ascii")
    addresses = list(dict.fromkeys(str(address[4][0]) for address in found))
    shown = f"{parts.scheme}://{at}:{port}{path.removesuffix('/chat')}"
    return Door(shown, host, port, head, addresses, tls if parts.scheme == "https" else None)


class PostChat:
    """One who talks through a door."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._line: Line | None = None
        self._rested = 0.0  # since when the line has
        self._conversation: str | None = None
        self._total = 0  # messages in it

    def begin(self) -> None:
        self._conversation, self._total = None, 0

    def hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    async def have(self, turn: Turn, text: str) -> None:
        asked = {"message": text}
        if self._conversation is not None:
            asked["conversation_id"] = self._conversation
        body = msgspec.json.encode(asked)
        whole = False
        try:
            line = await self._connected(turn)
            if line is None:
                return
            request = b"%b%d\r\n\r\n%b" % (self._door.head, len(body), body)
            turn.sent = len(request)
            answer = _Answer(turn, line, self._conversation, self._total)
            await line.request(request, answer)
            whole = True
            answer.end()
            self._conversation, self._total = answer.conversation, answer.total
        except Lost:
            if turn.failure is None:
                begun = answer.status is not None
                turn.fail(
                    Kind.CUT if begun else Kind.LOST,
                    f"The connection ended {'in the middle of' if begun else 'before'} the answer.",
                )
        except Garbled as wrong:
            turn.fail(Kind.BAD_STREAM, str(wrong))
        finally:
            self._rested = time.perf_counter()
            if not whole or turn.failure is not None:
                self.hang_up()

    async def _connected(self, turn: Turn) -> Line | None:
        """A line that can be used, or None and the failure in `turn`."""
        if self._line is not None and self._line.usable and time.perf_counter() - self._rested < IDLE_S:
            return self._line
        self.hang_up()
        began = time.perf_counter()
        door = self._door
        name = door.host if door.tls is not None else None
        failure: OSError | None = None
        for address in door.addresses:
            try:
                _, self._line = await asyncio.get_running_loop().create_connection(
                    Line, address, door.port, ssl=door.tls, server_hostname=name
                )
            except OSError as why:
                failure = why
            else:
                turn.connect_s = time.perf_counter() - began
                return self._line
        assert failure is not None
        own = failure.errno in _OWN_LIMITS
        # The loops have words of their own for it, an address in them; TLS has numbers of its own.
        tls = isinstance(failure, SSLError)
        said = os.strerror(failure.errno) if failure.errno and not tls else str(failure)
        turn.fail(Kind.OWN_LIMIT if own else Kind.REFUSED, said)
        return None


class _Data(msgspec.Struct):
    type: str
    content: str | None = None
    conversation_id: str | None = None
    message_content: str | None = None
    total_messages: int | None = None
    error: str | None = None


class _Refusal(msgspec.Struct):
    detail: str = ""


_decode = msgspec.json.Decoder(_Data).decode
_NEXT = {"start": ("connected",), "connected": ("partial", "complete"), "partial": ("partial", "complete")}
_NEXT |= {"complete": ("completed",), "completed": ()}


class _Answer:
    """What is heard of one answer. When it is wrong, nobody listens any more."""

    def __init__(self, turn: Turn, line: Line, conversation: str | None, total: int) -> None:
        self.turn = turn
        self.status: int | None = None
        self.conversation = conversation
        self.total = total
        self._line = line
        self._lines = SseLines()
        self._now = 0.0
        self._stage = "start"
        self._said: list[str] = []
        self._refusal = b""

    # The line's listener

    def on_bytes(self, count: int) -> None:
        self._now = time.perf_counter()
        self.turn.received += count

    def on_head(self, status: int, content_type: bytes) -> None:
        self.status = status
        if status == 200 and not content_type.lower().startswith(b"text/event-stream"):
            self._wrong(Kind.BAD_STREAM, f"It is no event stream but '{content_type.decode('ascii', 'replace')}'.")

    def on_part(self, data: bytes) -> None:
        if self.turn.failure is not None:
            return
        if self.status != 200:
            self._refusal = (self._refusal + data)[:4096]
            return
        try:
            for event in self._lines.feed(data):
                self._heard(event.type, event.data)
        except TooLong:
            self._wrong(Kind.BAD_STREAM, "An event is too long.")

    def end(self) -> None:
        """The response is whole."""
        if self.status != 200:
            self.turn.fail(f"http {self.status}", _detail(self._refusal))
        elif self._stage != "completed":
            self.turn.fail(Kind.CUT, f"The stream ended after '{self._stage}'; 'completed' never came.")

    # Events

    def _heard(self, name: str, data: bytes) -> None:
        if self.turn.failure is not None:
            return
        try:
            said = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            self._wrong(Kind.BAD_STREAM, f"The data of '{name}' cannot be read: {wrong}.")
            return
        if name == "message":
            if said.type == "partial_response":
                self._piece(said)
            elif said.type == "complete":
                self._complete(said)
            elif said.type == "reset":
                if self._follows("partial"):
                    self._said.clear()
            else:
                self._wrong(Kind.BAD_STREAM, f"A message of type '{said.type}' came.")
        elif name == "connected":
            self._connected(said)
        elif name == "completed":
            self._completed(said)
        elif name == "error":
            self._wrong(Kind.ERROR_EVENT, said.error or said.content or "It did not say what.")

    def _piece(self, said: _Data) -> None:
        if self._follows("partial"):
            if said.content is None:
                self._wrong(Kind.BAD_STREAM, "A piece came without content.")
                return
            self.turn.pieces.append(self._now)
            self._said.append(said.content)

    def _connected(self, said: _Data) -> None:
        if self._follows("connected"):
            if not said.conversation_id:
                self._wrong(Kind.BAD_STREAM, "'connected' names no conversation.")
            elif self.conversation not in (None, said.conversation_id):
                self._wrong(Kind.MISMATCH, "The answer is in another conversation than the question.")
            else:
                self.conversation = said.conversation_id

    def _complete(self, said: _Data) -> None:
        if self._follows("complete"):
            self._same(said.content, "complete")

    def _completed(self, said: _Data) -> None:
        if self._follows("completed"):
            self._same(said.message_content, "completed")
            if said.conversation_id != self.conversation:
                self._wrong(Kind.MISMATCH, "'completed' names another conversation than 'connected'.")
            elif said.total_messages != self.total + 2:
                expected = f"it should have {self.total + 2}"
                self._wrong(
                    Kind.MISMATCH, f"The conversation is said to have {said.total_messages} messages; {expected}."
                )
            self.total += 2
            self.turn.whole = self._now

    def _follows(self, stage: str) -> bool:
        if stage in _NEXT[self._stage]:
            self._stage = stage
            return True
        self._wrong(Kind.BAD_STREAM, f"'{stage}' came after '{self._stage}'.")
        return False

    def _same(self, whole: str | None, where: str) -> None:
        joined = "".join(self._said)
        if whole is None:
            self._wrong(Kind.BAD_STREAM, f"'{where}' came without the answer.")
        elif whole != joined:
            at = next((i for i, (a, b) in enumerate(zip(whole, joined, strict=False)) if a != b), None)
            at = min(len(whole), len(joined)) if at is None else at
            self._wrong(
                Kind.MISMATCH,
                f"The pieces joined ({len(joined)} characters) are not what '{where}' says ({len(whole)}): "
                f"they part at character {at}.",
            )

    def _wrong(self, kind: Kind, detail: str) -> None:
        self.turn.fail(kind, detail)
        self._line.close()


def _detail(body: bytes) -> str:
    """What a refusal says about itself."""
    try:
        if said := msgspec.json.decode(body, type=_Refusal).detail:
            return said
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    return " ".join(body.decode("utf-8", "replace").split())
