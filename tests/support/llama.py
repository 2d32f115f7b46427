"""llama.cpp's own server, with the tiny model, as a process a test may kill."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx2

from tests.support import tiny_model
from tests.support.process import missing

READY_S = 30.0
PROGRAM = """
import sys
from xllamacpp import CommonParams, Server

params = CommonParams()
params.model.path, params.port, params.hostnames = sys.argv[1], 0, ["127.0.0.1"]
params.n_ctx, params.n_parallel = 65536, 8
params.model_alias, params.api_keys = {"tiny"}, sys.argv[2:]
params.endpoint_slots, params.ui, params.warmup = True, False, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class Llama:
    """Eight slots of 8,192 tokens; it ends when its standard input does.

    Args:
        home: where the model is written.
        key: what it asks for; None: it asks for none.
    """

    def __init__(self, home: Path, key: str | None = None) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            missing("there is no xllamacpp here, so no real model server")
        self.base_url = ""
        self.pid = 0
        self._model = home / "tiny.gguf"
        self._keys = [key] if key else []
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Self:
        """Start it and wait until it listens."""
        if not self._model.exists():
            tiny_model.write(self._model)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(self._model), *self._keys),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_S):
            said = (await self._process.stdout.readline()).decode().strip()
        assert said, "the model server did not start"
        self.pid = self._process.pid
        self.base_url = f"{said}/v1"
        return self

    async def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def busy(self) -> int:
        """How many of its slots are writing."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            slots: list[dict[str, Any]] = (await client.get(self.base_url.replace("/v1", "/slots"))).json()
        return sum(slot["is_processing"] for slot in slots)

    async def until_busy(self, slots: int, within_s: float = 5.0) -> None:
        async with asyncio.timeout(within_s):
            while await self.busy() != slots:  # noqa: ASYNC110 - another process, which cannot tell us
                await asyncio.sleep(0.005)
