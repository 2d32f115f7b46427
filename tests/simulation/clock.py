"""An event loop whose time is a number: when nothing is left to do it jumps to the next timer.

It has no sockets, no threads and no wall clock, so what happens depends on what was scheduled and on nothing else.
Everything that is scheduled belongs to whoever is named by `OWNER` in its context; `vanish` takes all of it away at
once, as `kill -9` does: no `finally`, no callback, no last word.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Coroutine, Iterator
from contextvars import Context, ContextVar
from typing import Any
from unittest.mock import patch

OWNER: ContextVar[object] = ContextVar("owner", default=None)
"""The simulated process that the running code belongs to; None: the world around it."""

BUSY_TURNS = 20_000
"""So many turns of the loop in which no time passes are a loop that never ends."""


class Stuck(Exception):
    """Nothing will ever happen again, or everything happens at once for ever."""


class _Jump:
    """Stands where a loop has its selector: instead of waiting, it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing is scheduled and nobody is done")
        if timeout > 0:
            self._turns = 0
            self._loop.jump()
        else:
            self._turns += 1
            if self._turns > BUSY_TURNS:
                raise Stuck(f"{BUSY_TURNS} turns of the loop without any time passing")
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """See above. `time()` begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = _Jump(self)
        self._clock_resolution = 1e-9
        self._owned: list[tuple[object, asyncio.Task[Any]]] = []
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now

    def jump(self) -> None:
        self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]

    def _process_events(self, events: list[Any]) -> None: ...

    def _write_to_self(self) -> None: ...

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is not None:
            self._owned.append((owner, task))  # kept, for a task that is collected runs its `finally`
        return task

    def vanish(self, owner: object) -> None:
        """Nothing that belongs to `owner` runs any more."""
        for handle in [*self._ready, *self._scheduled]:  # type: ignore[attr-defined]
            if handle._context.get(OWNER) is owner:
                handle.cancel()

    def finish(self) -> None:
        """Close, and let go of tasks that will never end without a word about them."""
        with patch.object(self, "call_exception_handler", lambda context: None):
            for _, task in self._owned:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task.get_coro())
            self._owned.clear()
            self.close()


def _close(work: Any) -> None:
    """Unwind a coroutine that nobody will go on with. What its cleaning up says is nobody's business."""
    if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        for argument in work.cr_frame.f_locals.values():
            if inspect.iscoroutine(argument):
                _close(argument)
    with contextlib.suppress(BaseException):
        work.close()


@contextlib.contextmanager
def virtual_time(loop: VirtualLoop) -> Iterator[None]:
    """`time.monotonic` tells the loop's time."""
    with patch("time.monotonic", loop.time):
        yield
