"""What was asked and not yet answered, in order. No I/O: requests in, what to write now out.

An entry is in one of three states:

| state   | means                                            | leaves it by                     |
| ------- | ------------------------------------------------ | -------------------------------- |
| waiting | not on this connection's wire                    | `ready` → asked                  |
| asked   | on the wire, no answer yet                       | `answered`, `refused`, `lost`    |
| gone    | answered, withdrawn, or lost and not repeatable  |                                  |

Entries keep their order for life. When a connection is lost, everything unanswered that may be asked twice
goes back to waiting, so the next connection carries the same requests, the same keys, the same order. A
send that was refused for now (`unavailable`, `rate_limited`) also goes back to its place, and no later send
overtakes it; those already on the wire may, which is why `in_flight=1` is for those to whom order matters
more than speed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from hubbub.core import frames

REPEATABLE: tuple[type[frames.Request], ...] = (
    frames.HistoryGet,
    frames.WhoGet,
    frames.ThreadList,
    frames.Seen,
    frames.Check,
    frames.ThreadJoin,
    frames.ThreadLeave,
    frames.ThreadAdd,
    frames.ThreadRemove,
    frames.RunCancel,
)
"""Asking these twice is asking them once. A send is repeatable when it has a key."""


def repeatable(frame: frames.Request) -> bool:
    if isinstance(frame, frames.MessageSend):
        return frame.key is not None
    return isinstance(frame, REPEATABLE)


@dataclass(slots=True, eq=False)
class Entry:
    id: int
    frame: frames.Request
    is_send: bool
    not_before: float = 0.0
    times: int = 0  # how often it was put on a wire
    refusals: int = 0


@dataclass(slots=True)
class Ledger:
    """`in_flight` is how many requests may be on the wire unanswered."""

    in_flight: int = 32
    asked: dict[int, Entry] = field(default_factory=dict)
    _waiting: deque[Entry] = field(default_factory=deque)
    _last_id: int = 0

    def __len__(self) -> int:
        return len(self.asked) + len(self._waiting)

    def put(self, frame: frames.Request) -> int:
        """Enter a request at the end. Returns the id it will travel with."""
        self._last_id += 1
        frame = msgspec.structs.replace(frame, id=self._last_id)
        self._waiting.append(Entry(self._last_id, frame, isinstance(frame, frames.MessageSend)))
        return self._last_id

    def ready(self, now: float) -> list[frames.Request]:
        """What to write now, in this order; from then on it counts as asked."""
        room = self.in_flight - len(self.asked)
        out: list[frames.Request] = []
        kept: deque[Entry] = deque()
        held_back = False
        while self._waiting and len(out) < room:
            entry = self._waiting.popleft()
            if entry.is_send and (held_back or entry.not_before > now):
                held_back = True
                kept.append(entry)
                continue
            entry.times += 1
            self.asked[entry.id] = entry
            out.append(entry.frame)
        kept.extend(self._waiting)
        self._waiting = kept
        return out

    def due(self) -> float | None:
        """When the first held-back send may go, on the clock of `ready`; None when nothing is held back."""
        return next((e.not_before for e in self._waiting if e.is_send and e.not_before), None)

    def answered(self, id: int) -> bool:
        """Strike out an entry. False: nobody waits for that answer (any more)."""
        return self.asked.pop(id, None) is not None

    def refused(self, id: int) -> Entry | None:
        """Put an asked entry back to its place, to be asked again; the caller sets `not_before`."""
        entry = self.asked.pop(id, None)
        if entry is not None:
            entry.refusals += 1
            self._waiting = deque(sorted((entry, *self._waiting), key=lambda e: e.id))
        return entry

    def withdraw(self, id: int) -> None:
        """Nobody waits for this any more; it is not asked again."""
        if self.asked.pop(id, None) is None:
            self._waiting = deque(e for e in self._waiting if e.id != id)

    def lost(self) -> list[int]:
        """The connection is gone. Returns what cannot be asked again; the others wait in order."""
        again = [e for e in self.asked.values() if repeatable(e.frame)]
        gone = [id for id, e in self.asked.items() if not repeatable(e.frame)]
        self.asked.clear()
        if again:
            self._waiting = deque(sorted((*again, *self._waiting), key=lambda e: e.id))
        return gone
