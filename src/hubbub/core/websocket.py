"""WebSocket for a server, without I/O: bytes in, events out (RFC 6455).

`accept` answers the opening handshake, a `Receiver` reads what one client sends, the `*_frame` functions
build what the server sends. Sockets, time limits and answering pings are the transport's.

| a receiver is | when                           | what may come next              |
| ------------- | ------------------------------ | ------------------------------- |
| between       | no message is open             | a text, binary or control frame |
| inside        | a fragmented message is open   | a continuation or control frame |
| midframe      | a data frame came only in part | the rest of its payload         |
| over          | it gave Close or Broken        | anything: it is ignored         |

A frame is refused at the first byte that breaks a rule, in the order of the wire, whatever the rest says.
A length is judged before any payload is kept; text is checked as it arrives, not at its end.
"""

import base64
import codecs
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

# For 150 bytes the C function takes 0.25 µs, int.from_bytes and XOR 1.6 µs; for 1 MiB 0.08 and 6 ms.
# Its import takes 1 ms after FastAPI, which brings most of what it needs (85 ms when it comes first).
try:
    from websockets.speedups import apply_mask
except ImportError:  # a wheel without the compiled part
    from websockets.utils import apply_mask

PROTOCOL_ERROR, NO_CODE, NOT_UTF8, TOO_BIG = 1002, 1005, 1007, 1009
CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
"""The codes a close frame may carry: RFC 6455 §7.4, and 1012 to 1014 from IANA's list."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = _OPCODES = (0, 1, 2, 8, 9, 10)
_FIN, _CONTROL = 0x80, 0x08  # bits of the first byte; all control opcodes share the second
_WHOLE_TEXT, _WHOLE_BINARY = _FIN | _TEXT, _FIN | _BINARY

# The states between and inside, as the first bytes they allow: one look-up judges reserved bits, opcodes,
# fragmented control frames and the order of fragments. `_why` finds the rule only when there is a refusal.
_ANYWHERE = {_FIN | _CLOSE, _FIN | _PING, _FIN | _PONG}
_BETWEEN = frozenset({_TEXT, _BINARY, _WHOLE_TEXT, _WHOLE_BINARY} | _ANYWHERE)
_INSIDE = frozenset({_CONTINUATION, _FIN | _CONTINUATION} | _ANYWHERE)


@dataclass(frozen=True, slots=True)
class Text:
    payload: bytes  # a complete message: valid UTF-8, still bytes


@dataclass(frozen=True, slots=True)
class Binary:
    payload: bytes  # a complete message


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer it with `pong_frame(payload)`; of several, answering the last is enough (§5.5.3)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    payload: bytes  # of the ping it answers, or unsolicited


@dataclass(frozen=True, slots=True)
class Close:
    """The client closes: answer with `close_frame(code)`. 1005 stands for a close without a code."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The client broke the protocol: send `close_frame(code, reason)` and hang up (§7.1.7)."""

    code: int
    reason: str


Event = Text | Binary | Ping | Pong | Close | Broken


class _Message:
    """A message that comes in more than one piece: fragments, or a frame that arrives in parts."""

    __slots__ = ("decoder", "final", "key", "missing", "payload")

    def __init__(self, is_text: bool) -> None:
        self.payload = bytearray()  # grows with what arrived, never to what was announced
        self.decoder = codecs.getincrementaldecoder("utf-8")() if is_text else None
        self.missing, self.key, self.final = 0, b"", False  # of the current frame

    def add(self, masked: bytes) -> Text | Binary | None:
        """The message, once `masked` completes it. Raises UnicodeDecodeError: it cannot become UTF-8."""
        self.payload += (chunk := apply_mask(masked, self.key))
        self.missing -= len(chunk)
        turn = len(chunk) % 4
        self.key = self.key[turn:] + self.key[:turn]
        complete = self.final and not self.missing
        if self.decoder is not None:
            self.decoder.decode(chunk, complete)
        if not complete:
            return None
        return Binary(bytes(self.payload)) if self.decoder is None else Text(bytes(self.payload))


class Receiver:
    """Reads one client's frames. An idle one holds no buffer."""

    __slots__ = ("_max", "_message", "_over", "_tail")

    def __init__(self, max_message_bytes: int = 1 << 20) -> None:
        self._max = max_message_bytes
        self._message: _Message | None = None
        self._tail = b""  # an unfinished header or control frame, at most 130 bytes
        self._over = False

    @property
    def unfinished(self) -> bool:
        """Has a message, or the head of a frame, begun that is not yet complete?"""
        return self._message is not None or bool(self._tail)

    def feed(self, data: bytes) -> list[Event]:
        """Take what the socket gave, cut anywhere, and return what it completes, in order.

        Close or Broken is the last event there will ever be: later bytes are ignored.
        """
        events: list[Event] = []
        if self._over:
            return events
        if self._tail:
            data = self._tail + data
            self._tail = b""
        message, at, end = self._message, 0, len(data)
        try:
            if message is not None and message.missing:
                at = message.missing
                if whole := message.add(data[:at]):
                    events.append(whole)
                    message = self._message = None
            while at < end:
                first = data[at]
                if first not in (_BETWEEN if message is None else _INSIDE):
                    return self._broken(events, _why(first))
                if at + 1 == end:
                    break
                length, body = data[at + 1] - 128, at + 6
                if length < 0:
                    return self._broken(events, "a client must mask its frames")
                if first & _CONTROL:
                    if length > 125:
                        return self._broken(events, "a control frame holds at most 125 bytes")
                    if length == 1 and first == _FIN | _CLOSE:
                        return self._broken(events, "a close code has two bytes, got one")
                    if body + length > end:
                        break
                    payload = apply_mask(data[body : body + length], data[at + 2 : body])
                    if first == _FIN | _CLOSE:
                        return self._closed(events, payload)
                    events.append(Ping(payload) if first == _FIN | _PING else Pong(payload))
                    at = body + length
                    continue
                if length > 125:
                    wide = length == 127
                    body += 8 if wide else 2
                    if body - 4 > end:
                        break
                    # By hand: 0.15 µs less than int.from_bytes, and most messages are of this size.
                    length = data[at + 2] << 8 | data[at + 3]
                    if wide:
                        length = int.from_bytes(data[at + 2 : at + 10], "big")
                    if length < (1 << 16 if wide else 126):
                        return self._broken(events, f"length {length} must be sent in its shorter form")
                    if length >> 63:
                        return self._broken(events, "the top bit of a length must be 0")
                if length > (self._max if message is None else self._max - len(message.payload)):
                    return self._broken(events, f"a message holds at most {self._max} bytes", TOO_BIG)
                if body > end:
                    break
                key, at = data[body - 4 : body], body + length
                if first == _WHOLE_TEXT and at <= end:
                    payload = apply_mask(data[body:at], key)
                    if not payload.isascii():
                        payload.decode()
                    events.append(Text(payload))
                elif first == _WHOLE_BINARY and at <= end:
                    events.append(Binary(apply_mask(data[body:at], key)))
                else:
                    if message is None:
                        message = self._message = _Message(first & 0x0F == _TEXT)
                    message.missing, message.key, message.final = length, key, first >= _FIN
                    if whole := message.add(data[body:at]):
                        events.append(whole)
                        message = self._message = None
        except UnicodeDecodeError as error:
            return self._broken(events, f"text is not valid UTF-8: {error.reason}", NOT_UTF8)
        if at < end:
            self._tail = data[at:]
        return events

    def _closed(self, events: list[Event], payload: bytes) -> list[Event]:
        code = int.from_bytes(payload[:2], "big") if payload else NO_CODE
        if payload and code not in CLOSE_CODES:
            return self._broken(events, f"close code {code} must not be sent")
        return self._end(events, Close(code, payload[2:].decode()))

    def _broken(self, events: list[Event], reason: str, code: int = PROTOCOL_ERROR) -> list[Event]:
        return self._end(events, Broken(code, reason))

    def _end(self, events: list[Event], last: Close | Broken) -> list[Event]:
        self._over, self._message, self._tail = True, None, b""
        events.append(last)
        return events


def _why(first: int) -> str:
    """The rule of RFC 6455 §5.2 to §5.5 that a refused first byte breaks, as a close reason."""
    opcode = first & 0x0F
    if first & 0x70:
        return "a reserved bit is set, but no extension was negotiated"
    if opcode not in _OPCODES:
        return f"opcode {opcode} is reserved"
    if opcode & _CONTROL:
        return "a control frame must not be fragmented"
    return "a new message inside a fragmented one" if opcode else "a continuation without a message"


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")


def _frame(first: int, payload: bytes) -> bytes:
    if first & _CONTROL and len(payload) > 125:
        raise ValueError(f"A control frame holds at most 125 bytes, got {len(payload)}: send less.")
    return _header(first, len(payload)) + payload


# What the server sends is unmasked and whole. A header is what precedes a message of that length. Text must
# be UTF-8 (it is not checked); a ping or pong of more than 125 bytes raises ValueError.
text_header, binary_header = partial(_header, _WHOLE_TEXT), partial(_header, _WHOLE_BINARY)
text_frame, binary_frame = partial(_frame, _WHOLE_TEXT), partial(_frame, _WHOLE_BINARY)
ping_frame, pong_frame = partial(_frame, _FIN | _PING), partial(_frame, _FIN | _PONG)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close, its reason cut to 123 bytes between two code points; 1005 gives one without code or reason.

    Raises ValueError: the code is not one of CLOSE_CODES.
    """
    if code == NO_CODE:
        return _frame(_FIN | _CLOSE, b"")
    if code not in CLOSE_CODES:
        raise ValueError(f"Close code {code} must not be sent: take one of CLOSE_CODES.")
    cut = reason.encode(errors="replace")[:123].decode(errors="ignore").encode()
    return _frame(_FIN | _CLOSE, code.to_bytes(2, "big") + cut)


# §4.4 names the version; the other two are what RFC 9110 §15.5.22 and §7.8 ask of every 426.
_SPEAK_13 = ((b"Sec-WebSocket-Version", b"13"), (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64


class Refused(Exception):
    """The request does not open a WebSocket: answer it over HTTP with these."""

    def __init__(self, status: int, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def accept(method: bytes, http_version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole 101 response to an opening handshake (§4.2), without extension or subprotocol.

    Whether Host and Origin are welcome is the caller's to judge. Args: `http_version` as in "1.1".
    Raises Refused: the request is not a WebSocket handshake of version 13.
    """
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    if method != b"GET":
        raise Refused(405, "A WebSocket is opened with GET.", ((b"Allow", b"GET"),))
    if http_version < "1.1":
        raise Refused(400, f"A WebSocket needs HTTP/1.1, got HTTP/{http_version}.")
    for field, token in (("Upgrade", b"websocket"), ("Connection", b"upgrade")):
        values = b",".join(fields.get(field.lower().encode(), ()))
        if token not in (value.strip(b" \t") for value in values.lower().split(b",")):
            raise Refused(400, f"This address opens a WebSocket: send {field}: {token.decode()}.")
    if fields.get(b"sec-websocket-version") != [b"13"]:
        raise Refused(426, "Sec-WebSocket-Version must be 13.", _SPEAK_13)
    keys = fields.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise Refused(400, "Sec-WebSocket-Key must be given once: 16 bytes in base64.")
    digest = hashlib.sha1(keys[0] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return head + b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
