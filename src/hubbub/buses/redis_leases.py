"""The answers that are written on this node, and how they get to Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from hubbub.buses import redis_words as words
from hubbub.buses.answers import Answer
from hubbub.buses.redis_pipe import Command, Pipe, Value
from hubbub.buses.redis_scripts import DAY_MS, KEEP_MS
from hubbub.core.errors import Problem, Unavailable
from hubbub.core.frames import RunDelta
from hubbub.core.ports import Lease

log = structlog.get_logger("hubbub.redis")

PIECE_TEXT = 32 << 10
"""Longest part of an answer in one event, in code points."""

WHOLE = 1 << 40
"""More code points than any answer has."""


class _Held:
    """An answer that is written here. Of its text, Redis has `sent` code points, which are `sent_bytes`; so many were
    `shown` to this node."""

    __slots__ = ("answer", "due", "lease", "over", "sent", "sent_bytes", "shown")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.answer = Answer(lease.task.attempt)
        self.sent = self.sent_bytes = self.shown = 0
        self.due = False
        self.over = False  # its end is being told

    def at(self, size: int) -> None:
        """Redis has that many bytes of it."""
        self.sent_bytes = size
        self.sent = len(self.answer.text.encode()[:size].decode(errors="ignore"))


class Leases:
    """What was taken here and is not finished.

    Args:
        show: is given each piece once Redis has taken it, and not before: what it has not taken when an answer is
            stopped elsewhere is no part of it, and nobody is to have read it.
    """

    def __init__(self, pipe: Pipe, node: str, lease_s: float, show: Callable[[RunDelta], None]) -> None:
        self._show_piece = show
        self._pipe = pipe
        self._node = node
        self._lease_s = lease_s
        self._held: dict[str, _Held] = {}

    def __contains__(self, run: str) -> bool:
        return run in self._held

    def hold(self, lease: Lease) -> None:
        self._held[lease.task.run] = _Held(lease)

    def written(self, lease: Lease) -> int:
        """Code points of it, whether Redis has them or not."""
        held = self._held.get(lease.task.run)
        return held.answer.length if held is not None else 0

    def wanted(self, lease: Lease) -> bool:
        held = self._held.get(lease.task.run)
        return held is not None and held.lease is lease and not held.over

    def drop(self, run: str, attempt: int | None = None) -> None:
        """It is not ours any more; with `attempt`, only if that is the one we have."""
        held = self._held.get(run)
        if held is not None and attempt in (None, held.lease.task.attempt):
            del self._held[run]

    def _let_go(self, held: _Held) -> None:
        if self._held.get(held.lease.task.run) is held:
            del self._held[held.lease.task.run]

    def hand_back(self, lease: Lease) -> None:
        """Somebody else is to write it, at once."""
        held = self._held.get(lease.task.run)
        if held is not None and held.lease is lease:
            self._let_go(held)
        args = (lease.task.run, self._node, str(lease.fence), DAY_MS)
        self._pipe.push(Command("RELEASE", lambda: args))

    def hand_back_all(self) -> None:
        for held in list(self._held.values()):
            if not held.over:
                self.hand_back(held.lease)

    # Writing

    def write(self, piece: RunDelta) -> bool:
        """Send what Redis does not have yet, soon. False when that attempt is not ours."""
        held = self._held.get(piece.run)
        if held is None or held.lease.task.attempt != piece.attempt:
            return False
        held.answer.extend(piece)
        self._write(held)
        return True

    def _show(self, held: _Held) -> None:
        """What Redis has, and nobody was shown here."""
        while text := held.answer.text[held.shown : held.sent][:PIECE_TEXT]:
            offset, held.shown = held.shown, held.shown + len(text)
            self._show_piece(self._piece(held, offset, text))

    def _piece(self, held: _Held, offset: int, text: str) -> RunDelta:
        task = held.lease.task
        common = {"run": task.run, "thread": task.thread, "assistant": task.assistant, "attempt": task.attempt}
        return RunDelta(**common, offset=offset, text=text)  # type: ignore[arg-type]

    def _write(self, held: _Held) -> None:
        if held.due or held.over:
            return
        held.due = True
        size = 0

        def make() -> Sequence[Value] | None:
            nonlocal size
            held.due = False
            if held.over or self._held.get(held.lease.task.run) is not held or held.sent == held.answer.length:
                return None
            args, size = self._rest(held, PIECE_TEXT)
            return (*args, DAY_MS)

        def told(reply: Any) -> None:
            if isinstance(reply, BaseException):  # the next piece, or the end, brings it along
                return
            said, have = reply
            if said == b"fenced":
                self._let_go(held)
                return
            if said == b"at":
                held.at(have)
            else:
                held.sent, held.sent_bytes = held.sent + size, have
            self._show(held)
            if held.sent < held.answer.length:
                self._write(held)

        self._pipe.push(Command("EMIT", make, told, piece=True))

    def _rest(self, held: _Held, most: int) -> tuple[tuple[Value, ...], int]:
        """What Redis does not have yet of an answer, as EMIT and DONE are told it, and its code points."""
        task = held.lease.task
        text = held.answer.text[held.sent :][:most]
        word = b""
        if 0 < len(text) <= PIECE_TEXT:  # of more than that, whoever shows it reads what Redis has
            delta = self._piece(held, held.sent, text)
            word = words.encode(words.Said(node=self._node, thread=task.thread, frame=delta))
        return (task.run, self._node, str(held.lease.fence), held.sent_bytes, text, word), len(text)

    async def end(self, lease: Lease, ended: words.Ended) -> bool:
        """Tell Redis what it does not have yet, and that this is the end. False when the answer was not ours."""
        held = self._held[lease.task.run]
        held.over = True
        encoded = words.encode(ended)

        def make() -> Sequence[Value]:
            args, _ = self._rest(held, WHOLE)
            return (*args, str(ended.state), encoded, KEEP_MS)

        try:
            while self._held.get(lease.task.run) is held:  # else it was cancelled meanwhile
                # Whoever gives up waiting has said it all the same.
                said, have = await asyncio.shield(self._pipe.call("DONE", make=make))
                if said != b"at":
                    if said != b"ok" or self._held.get(lease.task.run) is not held:
                        return False
                    held.sent = held.answer.length
                    self._show(held)
                    return True
                held.at(have)
        except Unavailable as failure:  # Redis refused it; another attempt may do better
            log.warning("end_not_told", run=lease.task.run, why=failure.detail)
        finally:
            self._let_go(held)
        return False

    async def renew(self) -> None:
        """Keep what is held, for ever."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            held = list(self._held.values())
            if not held:
                continue
            args: list[Value] = [self._node, round(self._lease_s * 1000), DAY_MS]
            for one in held:
                args += [one.lease.task.run, str(one.lease.fence)]
            with contextlib.suppress(Problem, TimeoutError):
                async with asyncio.timeout(self._lease_s / 3):
                    gone = set(await self._pipe.call("RENEW", *args, patient=False))
                    for one in held:
                        if one.lease.task.run.encode() in gone and not one.over:
                            self._let_go(one)
