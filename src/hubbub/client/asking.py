"""Who asked gets the reply: requests in the ledger, and the future of each one who waits.

A reply strikes out its request. A lost connection does not, where asking again is harmless. A send refused
for now goes back to its place with a time before which it is not repeated.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from hubbub.client.backoff import wait_s
from hubbub.client.decode import problem_of
from hubbub.client.ledger import Ledger
from hubbub.core import frames
from hubbub.core.errors import Problem, Unavailable

AGAIN = frozenset({"unavailable", "rate_limited", "shutdown"})
"""Refusals of a send after which the same send, with the same key, may succeed."""

MAX_UNANSWERED = 256
"""Requests on the wire or in line; the next caller waits."""

_LOST = "The connection was lost before the answer came; whether it was done is unknown."


class Asking:
    """`nudge` is called when there is something to write."""

    def __init__(
        self,
        in_flight: int,
        clock: Callable[[], float],
        rand: random.Random,
        base_s: float,
        cap_s: float,
        nudge: Callable[[], None],
    ) -> None:
        self.ledger = Ledger(in_flight)
        self._clock = clock
        self._rand = rand
        self._base_s = base_s
        self._cap_s = cap_s
        self._nudge = nudge
        self._answers: dict[int, tuple[asyncio.Future[frames.Frame], bool]] = {}
        self._places = asyncio.Semaphore(MAX_UNANSWERED)
        self._closed: BaseException | None = None

    async def ask(self, frame: frames.Request, timeout_s: float | None, *, patient: bool = False) -> frames.Frame:
        """The reply. A `patient` request is repeated when it is refused for now.

        Raises the refusal as its Problem; Unavailable: no reply came in time or at all.
        """
        try:
            async with asyncio.timeout(timeout_s), self._places:
                if self._closed is not None:
                    raise self._closed
                id = self.ledger.put(frame)
                answer: asyncio.Future[frames.Frame] = asyncio.get_running_loop().create_future()
                self._answers[id] = (answer, patient)
                self._nudge()
                try:
                    return await answer
                finally:
                    self._answers.pop(id, None)
                    self.ledger.withdraw(id)
                    self._nudge()  # its place on the wire is free
        except TimeoutError:
            kind = frame.__struct_config__.tag
            raise Unavailable(f"No answer to {kind} came within {timeout_s or 0:g} s.") from None

    def replied(self, reply: frames.Reply) -> None:
        """Hand a reply, or the refusal it is, to who asked. One that nobody asked for is dropped."""
        if not isinstance(reply.id, int) or reply.id not in self._answers:
            return
        answer, patient = self._answers[reply.id]
        if not isinstance(reply, frames.Error):
            self.ledger.answered(reply.id)
            if not answer.done():
                answer.set_result(reply)
        elif patient and reply.code in AGAIN:
            self._put_back(reply.id, problem_of(reply))
        else:
            self.ledger.answered(reply.id)
            if not answer.done():
                answer.set_exception(problem_of(reply))
        self._nudge()

    def _put_back(self, id: int, problem: Problem) -> None:
        entry = self.ledger.refused(id)
        if entry is not None:
            wait = wait_s(entry.refusals - 1, self._rand, self._base_s, self._cap_s, problem.retry_after)
            entry.not_before = self._clock() + wait

    def lost(self) -> None:
        """The connection is gone: what cannot be asked again fails, the rest waits for the next one."""
        for id in self.ledger.lost():
            answer, _ = self._answers[id]
            if not answer.done():
                answer.set_exception(Unavailable(_LOST))

    def fail(self, why: BaseException) -> None:
        """Everyone who waits is told `why`."""
        for id, (answer, _) in list(self._answers.items()):
            self.ledger.withdraw(id)
            if not answer.done():
                answer.set_exception(why)

    def close(self, why: BaseException) -> None:
        """No reply comes any more."""
        self._closed = why
        self.fail(why)
