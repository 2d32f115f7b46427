"""The connection to Redis that only listens. What it brings are hints; whatever it missed is found by asking."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence

import structlog

from hubbub.buses.redis_pipe import FIRST_PAUSE_S, LONGEST_PAUSE_S, Address, why

log = structlog.get_logger("hubbub.redis")

SILENCE_S = 1.0
"""Without a word for so long Redis is asked whether it is there, and after as long again it counts as gone."""


class Ear:
    """Run `run` as a task.

    Args:
        hear: is given every word.
        back: called when it begins to listen, and again whenever it may have missed something.
    """

    def __init__(
        self, address: Address, channels: Sequence[str], hear: Callable[[bytes], None], back: Callable[[], None]
    ) -> None:
        self._redis = address.client()
        self._channels = channels
        self._hear = hear
        self._back = back
        self.trouble: str | None = "it has not been heard yet"
        self._tried = asyncio.Event()

    async def run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with self._redis.pubsub() as ear:
                    await ear.subscribe(*self._channels)
                    left = len(self._channels)
                    asked = False
                    while True:
                        message = await ear.get_message(timeout=SILENCE_S)
                        if message is None:
                            if asked:
                                raise TimeoutError
                            await ear.ping()
                            asked = True
                            continue
                        asked = False
                        if message["type"] == "message":
                            self._told(message["data"])
                        elif message["type"] == "subscribe":
                            left -= 1
                            if left == 0:
                                pause_s = FIRST_PAUSE_S
                                self.trouble = None
                                self._tried.set()
                                self._back()
            except Exception as failure:  # whatever it says: begin again
                if self.trouble is None:
                    log.warning("redis_not_heard", why=why(failure))
                self.trouble = why(failure)
                self._tried.set()
            with contextlib.suppress(Exception):
                await self._redis.connection_pool.disconnect()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    def _told(self, word: bytes) -> None:
        try:
            self._hear(word)
        except Exception:
            log.exception("redis_word_failed")

    async def tried(self, within_s: float) -> None:
        """Wait until it listens, or has failed to for the first time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._tried.wait()

    async def close(self) -> None:
        await self._redis.aclose()
