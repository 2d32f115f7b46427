"""How long HTTP requests wait for their answers, by route template."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubbub.hub.meter import Meter

LEFT = 499
"""Counted as the status of a request whose client was gone before there was an answer."""


class Measured:
    """ASGI middleware, around all others. The state of the lifespan has the `meter`.

    Measured is the time to the beginning of the answer: what comes later is as fast as its reader, or as a model.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        meter: Meter = scope["state"]["meter"]
        began = time.perf_counter()
        told = False

        def note(status: int) -> None:
            nonlocal told
            told = True
            route = getattr(scope.get("route"), "path", "")
            meter.answered(scope["method"], route, status, time.perf_counter() - began)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                note(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            if not told:  # answered further out
                note(500)
            raise
        if not told:
            note(LEFT)
