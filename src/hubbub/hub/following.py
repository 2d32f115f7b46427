"""Following a run: one answer told to one reader, from an exact character on to its end.

A reader of a thread hears runs through its room. Whoever waits for one answer only, over a request of their own, pulls
it here: nothing is queued for them, and one who is slow finds what came meanwhile merged into one piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Any

from hubbub.core import frames
from hubbub.core.errors import Shutdown, Unavailable
from hubbub.core.nouns import Run
from hubbub.hub.access import Caller
from hubbub.hub.catch_up import PIECE_TEXT, end_frame

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

LOOK_EVERY_S = 1.0
"""How often a follower looks for what the bus forgot to mention."""


class News(asyncio.Event):
    """Set at news of a run. `changed`: it may be another one by now than the store last said, in more than its text."""

    changed = False


class Followers:
    """Who waits for news of a run in this process; owned by the hub."""

    def __init__(self) -> None:
        self.runs: dict[str, set[News]] = {}  # empty while nobody follows anything

    @contextlib.contextmanager
    def waiting(self, run: str) -> Iterator[News]:
        news = News()
        self.runs.setdefault(run, set()).add(news)
        try:
            yield news
        finally:
            waiting = self.runs[run]
            waiting.discard(news)
            if not waiting:
                del self.runs[run]

    def wake(self, run: str, *, changed: bool = True) -> None:
        for news in self.runs.get(run, ()):
            news.changed = news.changed or changed
            news.set()

    def wake_all(self) -> None:
        for run in self.runs:
            self.wake(run)


async def follow(
    hub: Hub, caller: Caller, id: str, attempt: int = 0, offset: int = 0
) -> AsyncGenerator[frames.RunFrame, None]:
    """Tell a run to somebody who has `offset` code points of that attempt already.

    While it waits, RunQueued says its place whenever that changes. RunDelta: first what is missing, then pieces as they
    are written; each begins where the one before ended. RunReset: what was told is void, and offsets begin at 0 again;
    so does a position that cannot be continued. The last thing is how it ended, once its message is on disk.

    Raises NotFound: there is no such run, or the caller is not in its thread, or no longer; Unauthorized: what they
    came in with is worth nothing any more; Shutdown.
    """
    place = None
    with hub.followers.waiting(id) as news:
        read_at = time.monotonic()
        run = await hub.runs.get(caller, id)
        reader = _Reader(run, attempt, offset)
        while not run.state.ended:
            if hub.stopping:
                raise Shutdown("The server is restarting.", retry_after=1)
            news.clear()
            progress = hub.bus.so_far(id)
            if progress is None:
                waits = None
                with contextlib.suppress(Unavailable):  # the queue may be back long before this answer is written
                    waits = await hub.bus.place(id)
                if waits is not None and waits != place:
                    place = waits
                    yield frames.RunQueued(**reader.common(run.attempt), position=waits)
            else:
                for piece in reader.tell(progress.attempt, progress.text):
                    yield piece
            caller = hub.gate.judge(caller)
            now = time.monotonic()
            if news.changed or now - read_at >= LOOK_EVERY_S:
                news.changed, read_at = False, now
                run = await hub.runs.get(caller, id)
            else:
                await hub.runs.require(caller, run)
            if not run.state.ended:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await news.wait()
    message = await hub.store.message(run.thread, run.seq or 0)
    for piece in reader.tell(run.attempt, message.text if message else "", whole=True):
        yield piece
    yield end_frame(run)


class _Reader:
    """How far somebody has been told a run."""

    def __init__(self, run: Run, attempt: int, offset: int) -> None:
        self._run = run
        self._holds = attempt > 0 or offset > 0  # have they anything that could be void?
        possible = 0 < attempt <= run.attempt
        self._attempt, self._offset = (attempt, offset) if possible else (0, 0)

    def common(self, attempt: int) -> dict[str, Any]:
        run = self._run
        return {"run": run.id, "thread": run.thread, "assistant": run.assistant, "attempt": attempt}

    def tell(self, attempt: int, text: str, *, whole: bool = False) -> Iterator[frames.RunFrame]:
        """What they have not been told of an attempt that has come so far; `whole`: it comes no further."""
        if attempt < self._attempt:
            return
        if attempt > self._attempt or (whole and self._offset > len(text)):
            if self._holds:
                yield frames.RunReset(**self.common(attempt))
            self._attempt, self._offset = attempt, 0
        while piece := text[self._offset : self._offset + PIECE_TEXT]:
            offset, self._offset, self._holds = self._offset, self._offset + len(piece), True
            yield frames.RunDelta(**self.common(attempt), offset=offset, text=piece)
