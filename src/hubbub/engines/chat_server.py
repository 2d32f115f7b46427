"""The way to one model server: a connection for each question, and a bound for each wait.

A connection serves one answer and is closed with it: an answer never fails because a kept connection had gone stale
meanwhile, and there is nothing left to close when the engine goes. It goes to that host alone: no redirect is followed,
no proxy or certificate is taken from the environment, no cookie is kept, nothing is tried twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NoReturn

import httpx2

from hubbub.engines.chat_failures import ChatFailures, Cut

MAX_REFUSAL_BYTES = 64 << 10
REFUSAL_S = 5.0
"""How long the words of a refusal may take to come."""


class ChatServer:
    """Asks the server at `base`.

    Args:
        base: its address, to its /v1.
        key: sent as a bearer token; empty: there is none.
        connect_s: how long TCP, and then TLS, may take.
    """

    def __init__(self, base: str, key: str, connect_s: float) -> None:
        self._base = base
        self._connect_s = connect_s
        self._headers = httpx2.Headers(
            {
                "Accept": "text/event-stream, application/json",
                "Accept-Encoding": "identity",
                "Connection": "close",
                "Content-Type": "application/json",
                "User-Agent": "hubbub",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            }
        )
        # Not a client: that would add cookies, redirects and the environment.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._transport = httpx2.AsyncHTTPTransport(trust_env=False, limits=limits)

    @asynccontextmanager
    async def ask(self, body: bytes | None, within_s: float, failures: ChatFailures) -> AsyncIterator[Reply]:
        """Post a question, or ask for the models there are when `body` is None; leaving closes the connection. Raises
        EngineFailure: there is no answer, or a refusal, or it did not come in time, and TimeoutError after
        `within_s`."""
        timeouts = {"connect": self._connect_s, "read": None, "write": None, "pool": None}
        method, path = ("GET", "/models") if body is None else ("POST", "/chat/completions")
        request = httpx2.Request(
            method, self._base + path, headers=self._headers, content=body, extensions={"timeout": timeouts}
        )
        try:
            async with asyncio.timeout(within_s):
                response = await self._transport.handle_async_request(request)
        except httpx2.ConnectTimeout:
            raise failures.no_connection(self._connect_s) from None
        except httpx2.ConnectError as failure:
            raise failures.unreachable(failure) from None
        except httpx2.TransportError:
            raise failures.hung_up() from None
        try:
            async with aclosing(response.aiter_raw()) as chunks:
                reply = Reply(chunks)
                if not response.is_success:
                    await _refuse(response, reply, failures)
                yield reply
        finally:
            await response.aclose()  # closing the chunks does it too, but not when none was asked for


class Reply:
    """The bytes of an answer as they come."""

    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        self._chunks = chunks

    async def next(self) -> bytes:
        """What came; empty at the end. Raises Cut."""
        try:
            return await anext(self._chunks, b"")
        except httpx2.TransportError:
            raise Cut from None


async def _refuse(response: httpx2.Response, reply: Reply, failures: ChatFailures) -> NoReturn:
    body = b""
    try:
        async with asyncio.timeout(REFUSAL_S):
            while len(body) < MAX_REFUSAL_BYTES and (chunk := await reply.next()):
                body += chunk
    except (TimeoutError, Cut):
        pass  # what came must do
    raise failures.refused(response.status_code, response.headers, body)
