"""Those who write answers, in the server or in a process of their own: the queue they take from, and their lives."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import structlog

from hubbub import __version__
from hubbub.buses.local import LocalBus
from hubbub.config import Settings
from hubbub.core.errors import BadRequest
from hubbub.core.ports import Bus, Engine
from hubbub.hub.meter import Meter
from hubbub.hub.worker import Worker
from hubbub.models import engines
from hubbub.process import listening, logged

if TYPE_CHECKING:
    from hubbub.buses.redis import RedisBus

log = structlog.get_logger("hubbub.workers")

FINISH_S = 8.0
"""How long what is being written may take to end when a worker is told to stop."""

NO_REDIS = (
    "A worker takes answers from Redis: set REDIS_URL here and where the server runs, such as redis://127.0.0.1:6379/0."
)


def bus_of(settings: Settings) -> Bus:
    """The server's: Redis when it is set, which is not even imported otherwise. Raises BadRequest: it cannot be one."""
    if settings.redis_url:
        return _redis(settings, hears=True)
    return LocalBus()


def _redis(settings: Settings, *, hears: bool) -> RedisBus:
    from hubbub.buses.redis import RedisBus

    return RedisBus(settings.redis_url, settings.redis_tasks_queue_name, lease_s=settings.lease_s, hears=hears)


def worker_of(settings: Settings, bus: Bus, name: str, engine: Engine, meter: Meter) -> Worker:
    window_ms = settings.wait_batch_ms
    return Worker(
        bus,
        engine,
        name=name,
        batch=settings.max_tasks_batch_size,
        window_s=None if window_ms is None else window_ms / 1000,
        meter=meter,
    )


def chosen(found: Mapping[str, Engine], names: Sequence[str]) -> dict[str, Engine]:
    """The engines of those names; all when none is named. Raises BadRequest."""
    unknown = [name for name in names if name not in found]
    if unknown:
        raise BadRequest(f"There is no engine {unknown[0]!r} here; there are {', '.join(found)}.")
    return {name: engine for name, engine in found.items() if not names or name in names}


class Workers:
    """One worker process: `async with Workers(settings) as workers`. It never opens the store.

    Args:
        names: the engines it writes with; all it has when empty. Raises BadRequest: there is no such engine, or no
            Redis is set.
    """

    def __init__(self, settings: Settings, names: Sequence[str] = (), *, engine: Engine | None = None) -> None:
        if not settings.redis_url:
            raise BadRequest(NO_REDIS)
        self.settings = settings
        self.bus = _redis(settings, hears=False)
        self.meter = Meter(version=__version__, logged=logged)
        found = {"demo": engine} if engine else engines(settings)
        self.workers = {
            name: worker_of(settings, self.bus, name, one, self.meter) for name, one in chosen(found, names).items()
        }
        self.started = time.monotonic()
        self.stopping = False
        self.port = 0
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Workers:
        try:
            await self._start()
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def _start(self) -> None:
        from hubbub.workers_http import serving

        sock = listening(self.settings.host, self.settings.worker_port, "worker_port")
        self._open.callback(sock.close)
        self.port = sock.getsockname()[1]
        await self.bus.open()
        self._open.push_async_callback(self.bus.close)  # which hands back what is not finished
        await self._open.enter_async_context(serving(self, sock))
        watching = asyncio.create_task(self.meter.watch())
        self._open.callback(watching.cancel)
        self._open.push_async_callback(self._stop, [asyncio.create_task(one.keep()) for one in self.workers.values()])

    async def _stop(self, working: list[asyncio.Task[None]]) -> None:
        """Take no more, and finish what can be finished soon."""
        self.stopping = True
        for worker in self.workers.values():
            worker.finish()
        _, late = await asyncio.wait(working, timeout=FINISH_S)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
