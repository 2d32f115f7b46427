"""The server with an engine that writes a piece of an answer when it is told to, through a socket.

So the pieces go the way of every answer: worker, bus, room, form, socket. `python -m bench.server --ready-fd N` is
started by `house.py`. On the control socket, `00000042` and a newline asks for piece 42, `end` ends the answer, and
the engine says with one byte that an answer has begun.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from typing import cast

from hubbub import config, process
from hubbub.app import App
from hubbub.core.nouns import Prompt

TEXT_BYTES = 72
"""With this a delta is a frame of about 200 bytes."""


class ToldEngine:
    """Writes what the control socket asks for."""

    name = "told"
    batch = 1
    at_once = 8

    def __init__(self) -> None:
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.control: asyncio.Transport | None = None

    async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, str]]:
        if self.control is not None:
            self.control.write(b"!")
        while (number := await self.asked.get()) != "end":
            yield 0, f"#{number}#".ljust(TEXT_BYTES, "x")


class Control(asyncio.Protocol):
    """Reads what is asked of the engine."""

    def __init__(self, engine: ToldEngine) -> None:
        self._engine = engine
        self._unfinished = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._engine.control = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        for line in lines:
            self._engine.asked.put_nowait(line.decode())


async def serve(ready_fd: int) -> None:
    settings = config.load({"port": 0, "tcp_port": 0, "web": False})
    process.set_up_logging(settings)
    engine = ToldEngine()
    listener = await asyncio.get_running_loop().create_server(lambda: Control(engine), "127.0.0.1", 0)
    control = listener.sockets[0].getsockname()[1]
    async with App(settings, engine=engine) as app:
        with os.fdopen(ready_fd, "w") as ready:
            json.dump({"http": app.http_port, "tcp": app.tcp_port, "control": control}, ready)
        await process.until_told_to_stop()
    listener.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-fd", type=int, required=True)
    process.run(serve(parser.parse_args().ready_fd))


if __name__ == "__main__":
    main()
