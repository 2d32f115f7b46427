"""One message and its answer, as the one who asked saw them; and whoever can have one."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol

MAX_DETAIL = 200
"""Characters of what is said about a failure."""


class Kind(StrEnum):
    """What went wrong, and nothing about whose fault it was but where it is known. HTTP statuses other than 200 are
    kinds too: `http 500`."""

    REFUSED = "refused"  # no connection could be made
    TIMED_OUT = "timed out"
    LOST = "lost"  # the connection ended before the answer began
    CUT = "cut"  # it ended in the middle of the answer
    ERROR_EVENT = "error event"  # the server said that it failed
    BAD_STREAM = "bad stream"  # the answer breaks the rules of its protocol
    MISMATCH = "mismatch"  # the answer is well-formed and contradicts itself
    OWN_LIMIT = "own limit"  # this machine gave the generator no connection: the server is not to blame


class Failure(NamedTuple):
    kind: str
    detail: str


class Turn:
    """Times are those of time.perf_counter, in seconds."""

    __slots__ = ("asked", "began", "connect_s", "ended", "failure", "pieces", "received", "sent", "whole")

    def __init__(self, asked: float, began: float) -> None:
        self.asked = asked  # from when it counts: when it should have begun
        self.began = began
        self.connect_s: float | None = None  # how long it took to connect, where that was needed
        self.pieces: list[float] = []  # when each arrived
        self.whole: float | None = None  # when the answer was there, down to its last event
        self.ended = began
        self.sent = 0  # bytes
        self.received = 0  # bytes
        self.failure: Failure | None = None

    def fail(self, kind: str, detail: str) -> None:
        """The first failure is the one that counts: others follow from it."""
        if self.failure is None:
            self.failure = Failure(kind, detail if len(detail) <= MAX_DETAIL else detail[: MAX_DETAIL - 1] + "…")


class Talker(Protocol):
    """Has one conversation at a time, over a connection of its own."""

    def begin(self) -> None:
        """The next turn is the first of another conversation."""
        ...

    async def have(self, turn: Turn, text: str) -> None:
        """Say `text`, hear the answer, and write into `turn` what came of it, a failure too. Cancelled, it hangs up."""
        ...

    def hang_up(self) -> None: ...
