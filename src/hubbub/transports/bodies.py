"""Request bodies by the same rules as frames: bounded before they are read, strict JSON before pydantic sees them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from hubbub.core import wire
from hubbub.core.errors import TooLarge
from hubbub.core.framing import MAX_FRAME_BYTES


class StrictRequest(Request):
    """A request whose body is at most one frame long and whose JSON is one valid frame's."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            announced = self.headers.get("content-length", "")
            if announced.isascii() and announced.isdigit() and int(announced[:20]) > MAX_FRAME_BYTES:
                raise TooLarge(f"A body of {announced[:20]} bytes was announced; the limit is {MAX_FRAME_BYTES}.")
            body = bytearray()
            async for chunk in self.stream():
                body += chunk
                if len(body) > MAX_FRAME_BYTES:
                    raise TooLarge(f"The body is longer than {MAX_FRAME_BYTES} bytes.")
            self._body = bytes(body)
        return self._body

    async def json(self) -> Any:
        try:
            return wire.decode_object(await self.body())
        except wire.Undecodable as wrong:
            raise wrong.problem from None


class StrictRoute(APIRoute):
    """A route that reads its bodies as `StrictRequest` does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly
