"""Reads server-sent events as servers and the gateways before them really send them.

Bytes come in as the network cuts them, events come out when they are whole. Comments, unknown fields and events
without data are nothing; lines may end in LF, CR or CRLF; an event the server did not close with an empty line counts
once the stream is at its end. A field named `error` is llama.cpp's older way to write `event: error`. No line and no
event is longer than 1 MiB.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from typing import NamedTuple

MAX_EVENT_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


class TooLong(ValueError):
    """A line, or the data of one event, is longer than MAX_EVENT_BYTES."""


class ServerEvent(NamedTuple):
    """One event: its type, `message` when the server named none, and its data, never empty."""

    type: str
    data: bytes


class SseLines:
    """Feed it what was read, in order."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line that has not ended
        self._began = False
        self._after_cr = False
        self._type = "message"
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that are whole now. Raises TooLong."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        self._rest += chunk
        lines: list[bytes] = []
        if b"\n" in chunk or b"\r" in chunk:
            lines = bytes(self._rest).splitlines(keepends=True)
            self._rest.clear()
            if not lines[-1].endswith((b"\n", b"\r")):
                self._rest += lines.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise TooLong
        return [event for line in lines if (event := self._line(line.rstrip(b"\r\n")))]

    def end(self) -> list[ServerEvent]:
        """The event that was not closed, if there is one. Raises TooLong."""
        last = self._line(bytes(self._rest)) if self._rest else None
        self._rest.clear()
        last = last or self._line(b"")
        return [last] if last else []

    def _line(self, line: bytes) -> ServerEvent | None:
        if len(line) > MAX_EVENT_BYTES:
            raise TooLong
        if not self._began:
            self._began = True
            line = line.removeprefix(_BOM)
        if not line:
            return self._close()
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"error":
            self._type, field = "error", b"data"
        if field == b"data":
            self._data_bytes += len(value) + 1
            if self._data_bytes > MAX_EVENT_BYTES:
                raise TooLong
            self._data.append(value)
        elif field == b"event":
            self._type = value.decode("utf-8", "replace") or "message"
        return None

    def _close(self) -> ServerEvent | None:
        event = ServerEvent(self._type, b"\n".join(self._data))
        self._type, self._data, self._data_bytes = "message", [], 0
        return event if event.data.strip() else None
