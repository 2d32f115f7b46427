"""gunicorn with Hubbub's own configuration, as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import psutil

from support.process import READY_S, ROOT, SETTINGS
from support.server import House


def free_ports(count: int) -> list[int]:
    """Ports nobody has; of several processes none can pick one of its own."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


class Gunicorn(House):
    """gunicorn, its workers, and the ways in."""

    def __init__(
        self, process: asyncio.subprocess.Process, port: int, tcp_port: int, log: Path, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(SimpleNamespace(http_port=port, tcp_port=tcp_port), tls)  # type: ignore[arg-type]
        self.process = process
        self._log = log

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        return sorted(child.pid for child in psutil.Process(self.process.pid).children())

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self, within_s: float = 35.0) -> int:
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    async def until_ready(self) -> None:
        async with asyncio.timeout(READY_S), self.http() as http:
            while True:
                assert self.process.returncode is None, self.said[-3000:]
                with contextlib.suppress(OSError, Exception):
                    if (await http.get("/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)


async def start(home: Path, *arguments: str, tls: ssl.SSLContext | None = None, **environ: str) -> Gunicorn:
    """Start it, without waiting for anything."""
    port, tcp_port = free_ports(2)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_") and k != "WEB_CONCURRENCY"}
    own = {"HUBBUB_HOME": str(home), "HUBBUB_PORT": str(port), "HUBBUB_TCP_PORT": str(tcp_port), "HUBBUB_WEB": "0"}
    log = home.parent / f"{home.name}-gunicorn.log"
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", *arguments),
            env={**inherited, **SETTINGS, **own, **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=ROOT,
        )
    return Gunicorn(process, port, tcp_port, log, tls)


@contextlib.asynccontextmanager
async def gunicorn(
    home: Path, *arguments: str, tls: ssl.SSLContext | None = None, **environ: str
) -> AsyncIterator[Gunicorn]:
    """One that is ready, and killed at the end with all its workers."""
    server = await start(home, *arguments, tls=tls, **environ)
    try:
        await server.until_ready()
        yield server
    finally:
        if server.process.returncode is None:
            family = [psutil.Process(pid) for pid in server.workers]
            server.process.kill()
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            await server.ended()
