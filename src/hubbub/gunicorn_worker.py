"""gunicorn's worker class for Hubbub: `gunicorn -c gunicorn.conf.py`.

gunicorn starts, watches and replaces processes; in each of them runs what `hubbub serve` runs, on the sockets that all
share. So WebSockets and event streams keep their short way, which they would lose behind gunicorn's own ASGI worker or
uvicorn's. Both sockets are bound once, by gunicorn: nobody who connects while workers are replaced is refused.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import mmap
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import structlog
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.workers.base import Worker

from hubbub import config, process
from hubbub.app import App, import_parts
from hubbub.config import Settings
from hubbub.core.errors import BadRequest, Problem
from hubbub.siblings import Siblings

log = structlog.get_logger("hubbub.gunicorn")

NOTIFY_EVERY_S = 1.0
AGAIN_S = 0.2
STARTED, SERVING = 0, 1


class HubbubWorker(Worker):
    """One process of the server. Of gunicorn's settings it heeds `bind`, `workers`, `worker_connections`, `timeout`,
    `graceful_timeout` and `keepalive`; all others that concern a worker are Hubbub's own."""

    tcp: ClassVar[socket.socket | None] = None
    together: ClassVar[Path | None] = None
    youngest: ClassVar[memoryview]
    """By age, of those gunicorn has started and of those that serve; all processes see the same two numbers."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        if HubbubWorker.tcp is None:  # in gunicorn's own process: what is made here, all workers have
            try:
                self._prepare(self._load())
            except Problem as refused:
                raise HaltServer(refused.detail, 2) from None
        self.youngest[STARTED] = self.age

    def _load(self) -> Settings:
        """Raises BadRequest: it is not to be served like this."""
        if len(self.sockets) != 1:
            raise BadRequest("Hubbub listens at one address: give gunicorn one bind.")
        if self.cfg.is_ssl:
            raise BadRequest("Give the certificate to Hubbub, with HUBBUB_TLS_CERT and HUBBUB_TLS_KEY.")
        flags: dict[str, Any] = {"http_connections": self.cfg.worker_connections}
        where = self.sockets[0].getsockname()
        if isinstance(where, tuple):
            flags |= {"host": where[0], "port": where[1]}
        settings = config.load(flags)
        settings.require_safe()
        settings.require_a_writer()
        settings.require_alone(self.cfg.workers)
        return settings

    def _prepare(self, settings: Settings) -> None:
        HubbubWorker.tcp = process.listening(settings.host, settings.tcp_port, "tcp_port")
        import_parts(settings)  # a worker then serves a second sooner, and has 25 MB of its own instead of 45 to 60
        HubbubWorker.youngest = memoryview(mmap.mmap(-1, 16)).cast("Q")
        HubbubWorker.together = directory = Path(tempfile.mkdtemp(prefix="hubbub-"))
        os.chown(directory, self.cfg.uid, self.cfg.gid)  # whom the workers are to be
        owner = os.getpid()
        atexit.register(lambda: shutil.rmtree(directory, ignore_errors=True) if os.getpid() == owner else None)

    def load_wsgi(self) -> None:
        """The application is made with everything around it."""

    def init_signals(self) -> None:
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.signal(signal.SIGWINCH, signal.SIG_IGN)

    def run(self) -> None:
        try:
            settings = self._load()
            process.set_up_logging(settings)
            process.run(self._serve(settings))
        except Problem as refused:
            log.error("worker_not_started", reason=refused.detail)
            if not self._late:  # what keeps the first ones from starting keeps all
                sys.exit(Arbiter.WORKER_BOOT_ERROR)
            time.sleep(NOTIFY_EVERY_S)  # gunicorn starts another at once, as often as it takes
            sys.exit(1)

    @property
    def _late(self) -> bool:
        """Does it come to others, or in another's place?"""
        return bool(self.age > self.cfg.workers)

    async def _serve(self, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGQUIT, signal.raise_signal, signal.SIGTERM)  # after Ctrl-C, no less gently
        assert HubbubWorker.together is not None
        siblings = Siblings(HubbubWorker.together)
        living = asyncio.create_task(self._keep_notifying())
        try:
            app = await self._started(settings, siblings)
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_exit(app)
                telling = asyncio.create_task(siblings.keep_telling(app.meter))
                self.youngest[SERVING] = max(self.youngest[SERVING], self.age)
                if await process.until_told_to_stop(work=self._orphaned()) and settings.shareable:
                    await self._relieved()
                telling.cancel()
            siblings.leave(app.meter)
        finally:
            living.cancel()

    async def _started(self, settings: Settings, siblings: Siblings) -> App:
        """Whoever was before us on data that only one may have is told to stop once we are there: it is waited for."""
        patient_until = time.monotonic() + (self.cfg.graceful_timeout if self._late else 0)
        while True:
            assert HubbubWorker.tcp is not None
            app = App(
                settings,
                tcp=HubbubWorker.tcp.dup(),
                web=socket.socket(fileno=os.dup(self.sockets[0].fileno())),
                several=self.cfg.workers > 1,
                keepalive_s=self.cfg.keepalive,
                others=siblings,
            )
            try:
                return await app.__aenter__()
            except Problem:
                if time.monotonic() > patient_until:
                    raise
                await asyncio.sleep(AGAIN_S)

    async def _relieved(self) -> None:
        """To reload, gunicorn starts the next ones and at once tells those before them to stop. They take seconds to
        start: one of them is to serve before we let everybody go."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.cfg.graceful_timeout / 2):
                serving = self.youngest[SERVING]
                while serving == self.youngest[SERVING] < self.youngest[STARTED]:  # noqa: ASYNC110
                    await asyncio.sleep(AGAIN_S)

    async def _keep_notifying(self) -> None:
        """A worker whose loop stands still for `timeout` is killed by gunicorn. Long streams do not count."""
        while True:
            self.notify()
            await asyncio.sleep(NOTIFY_EVERY_S)

    async def _orphaned(self) -> None:
        """gunicorn is gone, which nobody tells."""
        while os.getppid() == self.ppid:  # noqa: ASYNC110
            await asyncio.sleep(NOTIFY_EVERY_S)
