"""The server as a process of its own, which a test may kill, freeze, starve and start again on the same ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

READY_S = 20.0
ROOT = Path(__file__).parents[2]

SETTINGS = {
    "HUBBUB_SEND_RATE": "0",
    "HUBBUB_SEND_BURST": "0",
    "HUBBUB_DEMO_WORD_S": "0.002",
    "HUBBUB_LOG_LEVEL": "warning",
}


class Server:
    """`hubbub serve` on a home of its own.

    Args:
        home: where its data are; kept over restarts.
        environ: settings and anything else for its environment.
        before: a program to run it under, `["strace", …]`.
        program: what python runs instead of the server's own module.
    """

    def __init__(
        self,
        home: Path,
        environ: dict[str, str] | None = None,
        *,
        before: Sequence[str] = (),
        program: Sequence[str] = ("-m", "hubbub"),
        **process: Any,
    ) -> None:
        self.home = home
        self.environ = environ or {}
        self.before = list(before)
        self.program = list(program)
        self.port = self.tcp_port = 0
        self.serves = False  # as far as whoever sends it work would know
        self.log = home.parent / f"{home.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._options = process

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        assert self._process is not None
        return self._process.returncode

    @property
    def said(self) -> str:
        """What it wrote to standard error, over all its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def start(self) -> Self:
        """Start it, on the ports it had before if it had any, and wait until it answers."""
        ready, tell = os.pipe()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_")}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.before,
                *(sys.executable, *self.program, "serve", "--ready-fd", str(tell)),
                *("--port", str(self.port), "--tcp-port", str(self.tcp_port), "--home", str(self.home), "--no-web"),
                env={**inherited, **SETTINGS, **self.environ},
                pass_fds=[tell],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                **self._options,
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
        assert said, f"the server did not start: {self.said[-2000:]}"
        ports = json.loads(said)
        self.port, self.tcp_port = ports["http"], ports["tcp"]
        self.serves = True
        return self

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            assert self._process is not None
            self._process.send_signal(number)

    async def kill(self) -> None:
        """kill -9."""
        self.serves = False
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.serves = False
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self, within_s: float = 35.0) -> int:
        assert self._process is not None
        async with asyncio.timeout(within_s):
            return await self._process.wait()


@contextlib.asynccontextmanager
async def running(home: Path, environ: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Server]:
    """A server that is killed at the end, however that comes."""
    server = Server(home, environ, **options)
    try:
        yield await server.start()
    finally:
        if server._process is not None and server.returncode is None:
            await server.kill()


def missing(what: str) -> None:
    """A laptop skips what it cannot run; CI must not."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI may skip nothing.")
    pytest.skip(what)
