"""Fan-out: a thread while somebody hears it.

The readers of a room are either *in step* (they have been written everything so far) or *behind* (joining, resuming,
slow). Work per reader and message must be nearly nothing, so what is due in one turn of the loop is encoded once per
form, joined, and written once to each reader in step. A reader that is behind has no queue; it has a `Feed`, and
`catch_up.py` reads the log for it until it is in step.

A room is itself a listener of the bus with a feed of its own: what is lost, doubled or reordered there is noticed
here, and read from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import structlog
from msgspec import UNSET
from msgspec.structs import replace

from hubbub.core import frames, wire
from hubbub.core.feed import Feed, Verdict
from hubbub.core.forms import Form, Shout
from hubbub.core.framing import MAX_FRAME_BYTES
from hubbub.core.nouns import SHOWN_MEMBERS, Membership, Message, Role, Thread
from hubbub.core.ports import Progress
from hubbub.hub.crowd import Crowd
from hubbub.hub.meter import Counts

log = structlog.get_logger("hubbub.room")

if TYPE_CHECKING:
    from hubbub.hub.session import Session

MAX_TURN_BYTES = 256 << 10
"""Once this much is due it is written without waiting for the turn to end, so a slow reader's buffer stays small."""


FEW_THREADS = 40
"""So many threads always fit into a frame, whoever is in them."""

MAX_VIEWS_BYTES = MAX_FRAME_BYTES - (64 << 10)


WHOLE = 1 << 40
"""More code points than any answer has."""

MAX_ENDS = 64
"""Ends of runs a room remembers."""


class OpenRun:
    """A run that is being written in this room, as far as its readers in step have been told."""

    __slots__ = ("assistant", "attempt", "ended", "length", "over", "started", "told")

    def __init__(self, assistant: str, attempt: int) -> None:
        self.assistant = assistant
        self.attempt = attempt
        self.started = False  # somebody has begun to write it
        self.ended = False  # its end is due, but not yet written
        self.over = False  # its message is in the log; no piece is told any more
        self.length = 0  # code points shouted
        self.told = 0  # code points written to the readers in step

    @property
    def heard(self) -> int:
        """Code points a reader in step need not be told any more. Of an answer that is over its message is enough:
        who came late was told nothing of it."""
        return WHOLE if self.over else self.told


class Fill(Protocol):
    def __call__(self, room: Room) -> None:
        """See to it that the room reads the store from its last seq on."""


class Room:
    """One thread's members and readers. Everything here is immediate; nothing waits for a reader."""

    __slots__ = (
        "_counts",
        "_crowds",
        "_due",
        "_due_bytes",
        "_feed",
        "_fill",
        "_heard",
        "_loop",
        "_scheduled",
        "_so_far",
        "assistants",
        "behind",
        "changes",
        "considered",
        "ends",
        "head",
        "members",
        "offline",
        "opened_at",
        "pair",
        "runs",
        "thread",
        "touched",
    )

    def __init__(
        self,
        thread: Thread,
        members: Iterable[Membership],
        *,
        fill: Fill,
        heard: Callable[[Message], None],
        so_far: Callable[[str], Progress | None],
        counts: Counts,
    ) -> None:
        self.thread = thread
        self.members: dict[str, Role] = {membership.member: membership.role for membership in members}
        self.offline: dict[str, None] = {}
        self.assistants: dict[str, None] = {}
        self.head = thread.head  # seq of the newest message written to the readers in step
        self.opened_at = thread.head
        self.considered = thread.head  # up to where it was asked whether an assistant has to answer
        self.changes = 0  # of its members
        self.runs: dict[str, OpenRun] = {}
        self.behind: set[Session] = set()
        self.pair: tuple[str, str] | None = None  # the keys of a private room's two members
        self.touched = 0.0  # when it was last used, for putting unused rooms away
        self._feed = Feed({thread.id: thread.head})
        self._fill = fill
        self._heard = heard  # called for every message, once and in order
        self._so_far = so_far
        self._counts = counts
        self.ends: dict[str, frames.RunFrame] = {}  # of the runs that ended lately; their late pieces are dropped
        self._crowds: dict[Form, Crowd] = {}  # who is in step
        self._due: list[Shout] = []
        self._due_bytes = 0
        self._scheduled = False
        self._loop = asyncio.get_running_loop()

    @property
    def id(self) -> str:
        return self.thread.id

    @property
    def known(self) -> int:
        """The newest seq this room has been told of, written or not."""
        return self._feed.threads[self.thread.id]

    @property
    def deserted(self) -> bool:
        return not (self._crowds or self.behind or self._due or self.runs)

    @property
    def heard(self) -> bool:
        """Does anybody listen?"""
        return bool(self._crowds or self.behind)

    def view(self, seen: int | None = None) -> frames.ThreadView:
        """The thread as its members see it now."""
        return frames.ThreadView(
            id=self.id,
            title=self.thread.title,
            members=list(islice(self.members, SHOWN_MEMBERS)),
            member_count=len(self.members),
            head=self.known,
            public=self.thread.public,
            seen=UNSET if seen is None else seen,
        )

    # Shouting

    def shout(self, frame: frames.Frame) -> None:
        """Tell every reader, this turn. Old events are dropped; one that leaves a gap starts a reading of the log."""
        if isinstance(frame, frames.MessageFrame):
            verdict = self._feed.ask(self.thread.id, frame.seq)
            if verdict is not Verdict.NEXT:
                if verdict is Verdict.GAP:
                    self._fill(self)
                return
            self._heard(frame.message)
        elif isinstance(frame, frames.RunFrame):
            new = None if frame.run in self.ends else self._follow(frame)
            if new is None:
                return
            frame = new
        if not self._crowds and not self._due:  # nobody is in step: nothing has to be encoded
            self._move_on()
            return
        shout = Shout(frame, self.known)
        self._due.append(shout)
        self._due_bytes += len(shout.payload)
        if self._due_bytes >= MAX_TURN_BYTES:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def _follow(self, frame: frames.RunFrame) -> frames.RunFrame | None:
        """Keep `runs` up to date; the part of the event that is new, if any."""
        run = self.runs.get(frame.run)
        if isinstance(frame, frames.RunDelta):
            if run is not None and run.over and run.attempt >= frame.attempt:
                return None
            piece = self._feed.piece(frame.run, frame.attempt, frame.offset, frame.text)
            if piece is None:  # heard before, or something in between was lost
                progress = self._so_far(frame.run)
                if progress is None or progress.attempt != frame.attempt:
                    return None
                piece = self._feed.piece(frame.run, progress.attempt, 0, progress.text)
                if piece is None:
                    return None
            if run is None or run.attempt < frame.attempt:
                run = self.runs[frame.run] = OpenRun(frame.assistant, frame.attempt)
            offset, text = piece
            run.length = offset + len(text)
            if offset == frame.offset and len(text) == len(frame.text):
                return frame
            return frames.RunDelta(
                run=frame.run,
                thread=frame.thread,
                assistant=frame.assistant,
                attempt=frame.attempt,
                offset=offset,
                text=text,
            )
        if isinstance(frame, frames.RunQueued | frames.RunStarted | frames.RunReset):
            known = run is not None and run.attempt >= frame.attempt
            if run is None or run.attempt < frame.attempt:
                run = self.runs[frame.run] = OpenRun(frame.assistant, frame.attempt)
                self._feed.runs[frame.run] = (frame.attempt, 0)
            if isinstance(frame, frames.RunStarted):
                known, run.started = run.started, True
            return None if known else frame
        assert isinstance(frame, frames.RunCompleted | frames.RunCancelled | frames.RunFailed)
        if frame.seq > self.known:
            self._fill(self)  # which tells the message first, and then this
            return None
        self._feed.runs.pop(frame.run, None)
        self.ends[frame.run] = frame
        if len(self.ends) > MAX_ENDS:
            del self.ends[next(iter(self.ends))]
        if run is not None:
            run.ended = True
        return frame  # also of a run unknown here: somebody may have heard its beginning before a restart

    def flush(self) -> None:
        """Write what is due: one write a reader."""
        self._scheduled = False
        due = self._due
        if not due:
            return
        self._due = []
        self._due_bytes = 0
        self._move_on()
        for form, crowd in list(self._crowds.items()):
            try:
                if data := form.encode(due):
                    readers = len(crowd)
                    self._counts.deliveries += readers * len(due)
                    self._counts.delivered_bytes += readers * len(data)
                    crowd.write(data)
            except Exception:
                self.failed(list(crowd))

    def failed(self, sessions: list[Session]) -> None:
        """Called where an exception was caught: a bug, but nobody may stay in step without having been told."""
        log.exception("fan_out_failed", thread=self.id)
        for session in sessions:
            session.end("internal", "Telling you the news failed on our side; it was logged.", retry_after=1)

    def _move_on(self) -> None:
        """Everything known is told with this turn."""
        self.head = self.known
        for run in self.runs.values():
            run.told = run.length
        if any(run.ended for run in self.runs.values()):
            self.runs = {id: run for id, run in self.runs.items() if not run.ended}

    # Readers

    def step_in(self, session: Session) -> None:
        """From now on the session is written everything. It must have heard exactly up to `head` and every
        `told` of `runs`."""
        self.behind.discard(session)
        crowd = self._crowds.get(session.form)
        if crowd is None:
            crowd = self._crowds[session.form] = Crowd()
        crowd.add(session)

    def step_out(self, session: Session) -> bool:
        """Stop writing to the session. Was it in step?"""
        self.behind.discard(session)
        crowd = self._crowds.get(session.form)
        if crowd is None or not crowd.discard(session):
            return False
        if not crowd:
            del self._crowds[session.form]
        return True

    def sessions(self) -> list[Session]:
        """Everyone who hears this room, behind or in step."""
        return [*(session for crowd in self._crowds.values() for session in crowd), *self.behind]

    # Members

    def enter(self, name: str, role: Role, *, online: bool) -> None:
        self.changes += 1
        self.members[name] = role
        if not online:
            self.offline[name] = None

    def depart(self, name: str) -> None:
        self.changes += 1
        self.members.pop(name, None)
        self.offline.pop(name, None)
        self.assistants.pop(name, None)

    def destination(self, sender: str) -> str:
        """Where a message goes: the other one in a private thread, else the thread."""
        if self.thread.private:
            return next(name for name in self.members if name != sender)
        return self.id

    def delivery(self, sender: str) -> tuple[str, list[str], int]:
        """Who of the others is away: "live" or "stored", at most 50 names, and how many."""
        away = self.offline
        count = len(away) - (sender in away)
        shown = [name for name in islice(away, SHOWN_MEMBERS + 1) if name != sender][:SHOWN_MEMBERS]
        others = len(self.members) - (sender in self.members)
        return ("live" if others > count else "stored"), shown, count


def bounded(views: list[frames.ThreadView]) -> list[frames.ThreadView]:
    """As many threads as fit into a frame. Of most, names are left out first; their count stays exact."""
    if len(views) <= FEW_THREADS:
        return views
    kept: list[frames.ThreadView] = []
    left = MAX_VIEWS_BYTES
    for view in views:
        if left < MAX_VIEWS_BYTES // 2:
            view = replace(view, members=[])
        left -= len(wire.encode_value(view))
        if left < 0:
            break
        kept.append(view)
    return kept
