"""The server under test, in the test's own loop, and a watch on what it logs."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import structlog

from hubbub import config
from hubbub.app import App
from support.inbox import WAIT_S
from support.lines import LineClient
from support.listeners import SseReader
from support.talkers import FramedClient, Talker, WsClient

_numbers = itertools.count(1)


def fresh(name: str) -> str:
    """A name nobody has used on this server yet, nor one like it."""
    return f"{name}-{hashlib.md5(str(next(_numbers)).encode(), usedforsecurity=False).hexdigest()[:8]}"


def settings(home: Path, **flags: Any) -> config.Settings:
    """Free ports, no send limit, a fast demo model; nothing from the environment."""
    given = {"home": home, "port": 0, "tcp_port": 0, "send_rate": 0.0, "send_burst": 0.0, "demo_word_s": 0.002}
    return config.load(flags={**given, **flags}, environ={}, dotenv=Path("/nonexistent"))


class House:
    """A running server and the ways in.

    Args:
        tls: how to speak to it when it encrypts.
    """

    def __init__(self, app: App, tls: ssl.SSLContext | None = None) -> None:
        self.app = app
        self.tls = tls
        self.port = app.http_port
        self.tcp_port = app.tcp_port

    async def connect(self, kind: str, **more: Any) -> Talker:
        """A connection by one of TALKERS, before its hello."""
        if kind == "framed":
            return await FramedClient.open(self.tcp_port, tls=self.tls, **more)
        return await WsClient.open(self.port, binary=kind == "binary", tls=self.tls, **more)

    async def talk(self, kind: str, user: str | None = None, **hello: Any) -> Talker:
        """A connection that has said hello."""
        talker = await self.connect(kind)
        await talker.hello(user, **hello)
        return talker

    async def listen(self, thread: str | None = None, **more: Any) -> SseReader:
        """An event stream, of one thread or of all."""
        path = f"/api/threads/{thread}/events" if thread else "/api/events"
        user = more.pop("user", None)
        return await SseReader.open(self.port, path + (f"?user={user}" if user else ""), tls=self.tls, **more)

    async def nc(self, name: str | None = None) -> LineClient:
        return await LineClient.open(self.tcp_port, name, self.tls)

    def http(self, token: str | None = None, user: str | None = None) -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        params = {"user": user} if user else {}
        base = f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"
        verify = self.tls or True
        return httpx2.AsyncClient(
            base_url=base, headers=headers, params=params, timeout=WAIT_S, trust_env=False, verify=verify
        )


@contextlib.asynccontextmanager
async def serving(home: Path, tls: ssl.SSLContext | None = None, **flags: Any) -> AsyncIterator[House]:
    async with App(settings(home, **flags)) as app:
        yield House(app, tls)


class _Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.contextmanager
def no_tracebacks() -> Iterator[None]:
    """Fail when anything was logged as an error, or with a traceback, by us, uvicorn or asyncio."""
    keep = _Keep()
    logging.getLogger().addHandler(keep)
    try:
        with structlog.testing.capture_logs() as ours:
            yield
    finally:
        logging.getLogger().removeHandler(keep)
    wrong = [entry for entry in ours if entry["log_level"] in ("error", "critical") or entry.get("exc_info")]
    theirs = [record for record in keep.records if record.levelno >= logging.ERROR or record.exc_info]
    lines = [logging.Formatter().format(record) for record in theirs]
    assert not wrong, f"the server logged {wrong}"
    assert not theirs, "the server logged " + "\n".join(lines)
