"""The HTTP port of a worker process: how it is, and what it has done."""

from __future__ import annotations

import asyncio
import importlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from hubbub import __version__
from hubbub.core.nouns import stamp

if TYPE_CHECKING:
    from hubbub.workers import Workers

STOP_S = 1

STATS = "hubbub.transports.stats"
"""Needs FastAPI, which a worker nobody watches does not pay for."""


def build(workers: Workers) -> Starlette:
    """Every route a worker process has."""

    async def health(request: Request) -> Response:
        checks = workers.bus.checks()
        return JSONResponse(
            {
                "status": "ok" if set(checks.values()) == {"ok"} else "degraded",
                "version": __version__,
                "uptime": round(time.monotonic() - workers.started, 3),
                "timestamp": stamp(time.time()),
                "stopping": workers.stopping,
                "engines": {name: {"writing": worker.writing} for name, worker in workers.workers.items()},
                "checks": checks,
            }
        )

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok")

    async def metrics(request: Request) -> Response:
        await asyncio.to_thread(importlib.import_module, STATS)
        from hubbub.transports.stats import answer_metrics

        return await answer_metrics(workers.meter, request.headers.get("accept", ""))

    async def stats(request: Request) -> Response:
        await asyncio.to_thread(importlib.import_module, STATS)
        from hubbub.transports.stats import answer_stats

        return await answer_stats(workers.meter)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/healthz", healthz),
            Route("/metrics", metrics),
            Route("/api/stats", stats),
        ]
    )


@asynccontextmanager
async def serving(workers: Workers, sock: socket.socket) -> AsyncIterator[None]:
    """Answer on that socket meanwhile."""
    config = uvicorn.Config(
        build(workers),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_S,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[sock])
    ticking = asyncio.create_task(server.main_loop())
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([ticking])
        await server.shutdown(sockets=[sock])
