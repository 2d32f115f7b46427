"""`hubbub worker` as a process of its own, to kill, freeze and stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import httpx2

from support.process import READY_S, ROOT, SETTINGS


class WorkerProcess:
    """One that takes from the queue `name` at that Redis."""

    def __init__(self, url: str, name: str, log: Path, environ: dict[str, str] | None = None, *more: str) -> None:
        self._environ = {"REDIS_URL": url, "REDIS_TASKS_QUEUE_NAME": name, "HUBBUB_LEASE_S": "1", **(environ or {})}
        self._more = more
        self.log = log
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def start(self) -> Self:
        ready, tell = os.pipe()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_")}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hubbub", "worker", "--worker-port", "0", "--ready-fd", str(tell), *self._more),
                env={**inherited, **SETTINGS, **self._environ},
                pass_fds=[tell],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        os.close(tell)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ready, "rb")
        )
        try:
            async with asyncio.timeout(READY_S):
                said = await reader.read()
        finally:
            transport.close()
        assert said, f"the worker did not start: {self.said[-2000:]}"
        self.port = json.loads(said)["http"]
        return self

    async def health(self) -> dict[str, Any]:
        async with httpx2.AsyncClient(trust_env=False) as http:
            found: dict[str, Any] = (await http.get(f"http://127.0.0.1:{self.port}/health")).json()
        return found

    async def writes(self) -> bool:
        return any(engine["writing"] for engine in (await self.health())["engines"].values())

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
        """kill -9."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(20):
            return await self._process.wait()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None


@contextlib.asynccontextmanager
async def working(
    url: str, name: str, log: Path, environ: dict[str, str] | None = None, *more: str
) -> AsyncIterator[WorkerProcess]:
    """A worker that is killed at the end, however that comes."""
    worker = WorkerProcess(url, name, log, environ, *more)
    try:
        yield await worker.start()
    finally:
        if worker.runs:
            worker.signal(signal.SIGCONT)
            await worker.kill()
