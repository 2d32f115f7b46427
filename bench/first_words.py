"""How long the first word of an answer takes from the engine to a reader, through worker, bus, room and socket.

The whole server runs in this process with an engine that takes a given time; people ask its assistant over framed TCP,
each in a private thread and again as soon as they were answered. The readers share the event loop with the server, so
that one clock stamps both ends, and what they cost is in the figure.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.house import SETTINGS
from bench.replay import TimedEngine, written
from bench.result import Void
from hubbub import config
from hubbub.app import App

ANSWER_S = 30.0


async def first_words(home: Path, cost: Sequence[float], people: int, asked: int) -> tuple[list[float], list[str]]:
    """Seconds for each of `people` × `asked` answers, and what was wrong with any. Raises a group of Void: an answer
    did not come."""
    settings = config.load(
        {"port": 0, "tcp_port": 0, "home": home, "web": False}, environ=SETTINGS, dotenv=home / "none"
    )
    engine = TimedEngine(cost)
    wrong: list[str] = []
    async with App(settings, http=False, engine=engine) as app, asyncio.TaskGroup() as asking:
        readers = [
            asking.create_task(_insist(f"person{number}", app.tcp_port, asked, engine, wrong))
            for number in range(people)
        ]
        delays = await asyncio.gather(*readers)
    return [delay for of_one in delays for delay in of_one], wrong


async def _insist(name: str, port: int, asked: int, engine: TimedEngine, wrong: list[str]) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    def say(**frame: Any) -> None:
        payload = json.dumps(frame).encode()
        writer.write(len(payload).to_bytes(4, "big") + payload)

    async def hear() -> dict[str, Any]:
        length = int.from_bytes(await reader.readexactly(4), "big")
        frame: dict[str, Any] = json.loads(await reader.readexactly(length))
        return frame

    delays: list[float] = []
    say(type="hello", user=name)
    try:
        for number in range(asked):
            say(type="message.send", to="openai", text=f"question {number}")
            async with asyncio.timeout(ANSWER_S):
                text, run = "", ""
                while (frame := await hear())["type"] not in ("run.completed", "run.failed"):
                    if frame["type"] != "run.delta":
                        continue
                    run = frame["run"]
                    if not text:
                        delays.append(time.monotonic() - engine.yielded[run])
                    if frame["offset"] != len(text):
                        wrong.append(f"{run} went on at {frame['offset']}, not at {len(text)}")
                    text += frame["text"]
            if text != written(run):
                wrong.append(f"{run} was read as {text!r}")
    except (TimeoutError, OSError, asyncio.IncompleteReadError) as failure:
        raise Void(f"an answer did not come: {type(failure).__name__} {failure}") from None
    finally:
        writer.close()
    return delays
