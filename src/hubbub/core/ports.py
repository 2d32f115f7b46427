"""The only three interfaces: where the truth is kept, how it is shouted, and who writes answers.

A contract stands on each method: order, guarantee, errors. The same tests (tests/contracts) run on every
implementation, the in-memory ones included, which are products and not test doubles.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncIterator, Callable, Sequence
from enum import Enum
from typing import Protocol

import msgspec

from hubbub.core.frames import Frame
from hubbub.core.news import AnyNews
from hubbub.core.nouns import (
    Account,
    Assistant,
    Draft,
    Member,
    Membership,
    Message,
    Prompt,
    Rights,
    Role,
    Run,
    RunState,
    Task,
    Thread,
    Token,
)


class Page(msgspec.Struct, frozen=True):
    """A stretch of a thread's log, ascending by seq. `more`: the log goes on in the direction that was asked for."""

    messages: list[Message]
    more: bool


class Asker(msgspec.Struct, frozen=True):
    """Who wants to change who is in a thread, and the roles that takes: they may have lost theirs meanwhile."""

    name: str
    roles: frozenset[Role]


class Event(msgspec.Struct, frozen=True):
    """What the bus carries: a frame for everyone who hears `thread`."""

    thread: str
    frame: Frame


class Lease(msgspec.Struct, frozen=True):
    """A task taken from the queue, until it is done or the lease ends. `fence` grows with every taking. The task had
    waited for `waited_s` seconds."""

    task: Task
    fence: int
    waited_s: float = 0.0


class Usage(msgspec.Struct, frozen=True):
    """What an answer has cost, in the model's tokens."""

    prompt: int
    completion: int


class Progress(msgspec.Struct, frozen=True):
    """How far an answer has come. `state` is RUNNING, or how it ended. `lost`: whoever wrote it has fallen silent, and
    it takes another attempt. `forgotten`: then the queue is to blame, and nobody who wrote it."""

    attempt: int
    text: str
    state: RunState = RunState.RUNNING
    error: str | None = None
    truncated: bool = False
    usage: Usage | None = None
    model: str = ""  # that wrote it
    lost: bool = False
    forgotten: bool = False


class Resumed(Enum):
    """What there is of an attempt that this process did not put."""

    GOES_ON = "goes on"  # it waits, is being written, or has ended
    LOST = "lost"  # whoever wrote it is gone
    FORGOTTEN = "forgotten"  # the queue has not got it, or not any more, and nobody who wrote it is to blame


class Store(Protocol):
    """The truth. What a call has returned survives `kill -9` and, with the durable stores, a power cut.

    Every method may raise Unavailable (the outcome is unknown; asking again is safe) and StorageFull.
    """

    epoch: str
    """Changes when the data was restored from elsewhere, so that old cursors are noticed."""

    @property
    def accounts(self) -> Accounts: ...

    @property
    def assistants(self) -> Assistants: ...

    async def open(self) -> None:
        """Open, migrate and lock. Raises Unavailable with the sentence to show when that cannot be done."""

    async def close(self) -> None:
        """Finish what was accepted and let go of everything. Safe to call twice."""

    # Messages

    def append(self, draft: Draft, roles: frozenset[Role] | None = None) -> Future[Message]:
        """Store a message and number it; drafts of one thread are numbered in the order of the calls.

        Numbers start at 1, without holes, per thread. A second call with the same sender and key stores nothing
        and returns the first message; with another body it raises KeyConflict. When the sender had seen
        everything before this message, it counts as seen by them too. Raises NotFound: the thread does not exist, or
        the sender has none of `roles` in it at that moment.
        """

    async def read_after(self, thread: str, after: int, limit: int, max_bytes: int) -> Page:
        """Up to `limit` messages with a seq greater than `after`; stops early once `max_bytes` of text are in the
        page, but never before the first message."""

    async def read_before(self, thread: str, before: int | None, limit: int, max_bytes: int) -> Page:
        """Like read_after, for the newest `limit` messages below `before` (None: below infinity)."""

    async def message(self, thread: str, seq: int) -> Message | None:
        """The message with that number."""

    # Members and threads

    async def members(self) -> list[Member]:
        """Every member ever seen, oldest first."""

    async def add_member(self, member: Member, joins: Sequence[tuple[str, int | None]] = ()) -> Member:
        """The member of that name, made when there is none; an existing one keeps its spelling and kind.

        With `member.arrived` set for the first time, they also join the threads named in `joins`, each with the
        seq they have seen (None: the head), in the same transaction.
        """

    async def create_thread(self, thread: Thread, members: Sequence[Membership]) -> Thread:
        """A new thread. Raises KeyConflict: the id is in use. For a private thread with the same two members as
        an existing one, that one is returned instead."""

    async def thread(self, id: str) -> Thread | None:
        """The thread with its present head and member count."""

    async def heads(self, threads: Sequence[str]) -> dict[str, int]:
        """The newest seq of each of these threads, 0 for an empty one; a thread that does not exist is left out."""

    async def update_thread(self, id: str, *, title: str | None = None, public: bool | None = None) -> Thread:
        """Change what is given. Raises NotFound."""

    async def delete_thread(self, id: str) -> None:
        """The thread, its messages and memberships are gone. No error when they were already."""

    async def private_thread(self, one: str, other: str) -> Thread | None:
        """The private thread of the two, in either order."""

    async def threads_of(self, member: str) -> list[tuple[Thread, int]]:
        """The member's threads with their `seen`, oldest membership first."""

    async def public_threads(self) -> list[Thread]:
        """Threads anyone may join, oldest first."""

    async def memberships(self, thread: str) -> list[Membership]:
        """Who is in the thread, in the order of joining."""

    async def role(self, thread: str, member: str) -> Role | None:
        """What a member may do there; None when they are not in."""

    async def join(self, membership: Membership, notice: Draft | None, by: Asker | None = None) -> Message | None:
        """Add a member, and in the same transaction post `notice`. `seen` below 0 means the head before it; whoever was
        made a reader and left is one again. Nothing happens, and None is returned, when they are in already. Raises
        NotFound: there is no such thread, or the one who asks has none of the roles it takes at that moment."""

    async def leave(self, thread: str, member: str, notice: Draft | None, by: Asker | None = None) -> Message | None:
        """Remove a member and post `notice` in the same transaction. None when they were not in. When the last owner
        goes, whoever may write and has been in longest owns the thread, or else whoever may read; no assistant. Raises
        NotFound, as `join`."""

    async def set_role(
        self, thread: str, member: str, role: Role, notice: Draft | None, by: Asker | None = None
    ) -> Message | None:
        """Change what a member may do, and post `notice` in the same transaction. None when they were not in or had
        that role already. Raises NotFound, as `join`; BadRequest: a thread has an owner."""

    async def see(self, thread: str, member: str, seq: int) -> int:
        """Move the member's mark forward to `seq`, at most to the head; never back. The mark as it is then."""

    # Runs

    async def begin_run(self, run: Run) -> Run | None:
        """Store a queued run and move its assistant's mark to the trigger, in one transaction. None when that
        assistant was already asked by that message (same thread, assistant and trigger > 0), or a run of that id is
        there."""

    async def last_asked(self, thread: str, assistant: str) -> int:
        """The newest trigger of a run of that assistant in that thread; 0: none has one."""

    async def run(self, id: str) -> Run | None:
        """The run as it is."""

    async def open_runs(self) -> list[Run]:
        """Every run that has not ended, oldest first."""

    async def set_run(self, id: str, state: RunState, attempt: int) -> Run | None:
        """Move an open run to `state` and to `attempt` (never backwards). None when it has ended."""

    async def end_run(
        self, id: str, attempt: int, state: RunState, error: str | None, draft: Draft, personality: str | None = None
    ) -> Message | None:
        """End an open run of that attempt with its one message, and choose a `personality` for its assistant in its
        thread unless it is None, in one transaction. None when it had ended or another attempt is under way: then
        nothing is stored."""


class Assistants(Protocol):
    """The part of a store that says who answers, and in which manner."""

    async def all(self) -> list[Assistant]:
        """Every assistant there is, the first made first."""

    async def add(self, assistant: Assistant) -> None:
        """Keep a new assistant. Raises NameTaken: there is one of that name."""

    async def change(self, assistant: Assistant) -> None:
        """Keep it as it is now. Raises NotFound: there is none of that name."""

    async def delete(self, name: str) -> None:
        """It answers no more. No error when there is none of that name."""

    async def personality(self, thread: str, member: str) -> str:
        """The personality that was chosen for a member in a thread; empty: none yet, or they are not in it."""


class Accounts(Protocol):
    """The part of a store that says who may sign in. Whoever remembers it reads what changed after their version."""

    async def changes_after(self, version: int) -> Rights:
        """Everything that changed after `version` (0: everything there is) and the version now."""

    async def add(self, account: Account) -> None:
        """A new account. Raises NameTaken."""

    async def change(
        self,
        name: str,
        *,
        password: str | None = None,
        admin: bool | None = None,
        disabled: bool | None = None,
        sign_out: bool = False,
    ) -> Account:
        """Change what is given; `sign_out` begins the next generation. Raises NotFound."""

    async def add_token(self, token: Token) -> None:
        """Keep a new token."""

    async def revoke_token(self, id: str) -> None:
        """The token is worth nothing from now on."""

    async def sign_out(self, id: str, expires: float, now: float) -> None:
        """The signed token of that id is worth nothing from now on. Those that had expired by `now` are forgotten."""


class Bus(Protocol):
    """Shouts events and queues tasks. Events are hints: they may be lost, doubled and reordered; so are news."""

    alone: bool
    """Is there no other node?"""

    async def open(self) -> None:
        """Begin. What it stands on may be away and come later. Raises BadRequest: its address cannot be one."""

    async def close(self) -> None:
        """Hand back what was taken and not finished, and let go of everything. Safe to call twice."""

    def checks(self) -> dict[str, str]:
        """What it stands on, by name: "ok", or a sentence that says what is wrong. Nothing, for one that stands on
        this process alone."""

    def publish(self, event: Event) -> None:
        """Shout to every node, this one included. Never waits. A RunDelta also extends what `so_far` tells, at
        once or, where it is shown only once the queue has it, soon."""

    def tell(self, news: AnyNews) -> None:
        """Tell the other nodes. Never waits."""

    def listen(
        self,
        hear: Callable[[Event], None],
        ended: Callable[[str], None],
        heed: Callable[[AnyNews], None] | None = None,
        missed: Callable[[], None] | None = None,
    ) -> None:
        """Call `hear` for every event, `ended` with the id of a run when its answer is finished or its writer lost,
        `heed` for what another node told, and `missed` when some of all that may have got lost. They are called from
        the event loop and must not block."""

    async def put(self, task: Task) -> int:
        """Queue a task for its engine, at least once; the same attempt at the same run counts once. Its place in the
        queue, 1 for the next, 0 once it was taken; members take turns (turns.py). A later attempt takes the place of
        an earlier one, wherever that is. Raises QueueFull, which says when to try again, but not for a later attempt
        at what was accepted once; and Unavailable within about two seconds: the outcome is unknown, and putting the
        same again is safe."""

    async def place(self, run: str) -> int | None:
        """Its place in the queue now; None when it does not wait. Raises Unavailable."""

    async def take(self, engine: str, limit: int, wait_s: float) -> list[Lease]:
        """Up to `limit` of the next tasks for that engine: as soon as there is one, wait at most `wait_s` from when
        the oldest was put for others. A later attempt comes alone. Blocks until there is one."""

    def wanted(self, lease: Lease) -> bool:
        """Should the worker go on? False once the run was forgotten or the lease taken over."""

    async def done(
        self,
        lease: Lease,
        state: RunState,
        error: str | None = None,
        *,
        truncated: bool = False,
        usage: Usage | None = None,
        model: str = "",
    ) -> None:
        """The answer is finished, as `so_far` tells from now on. A lease that was taken over changes nothing."""

    async def resume(self, run: str, attempt: int) -> Resumed:
        """How it is with an attempt that this process did not put. If it goes on, it is told from now on like those it
        put. Raises Unavailable, as `put`."""

    def cancel(self, run: str) -> None:
        """Stop an answer where it is: it leaves the queue, no worker goes on with it, and `so_far` tells it as
        CANCELLED unless it had ended before."""

    async def settled(self, run: str) -> Progress | None:
        """`so_far`, after `cancel`, with whatever was written elsewhere before that came there; soon, and without it
        when it cannot be had."""

    def so_far(self, run: str) -> Progress | None:
        """What has been written of an answer; None when nobody has heard of it."""

    def forget(self, run: str) -> None:
        """The run has its message; drop what is kept of it, in the queue too."""


class EngineFailure(Exception):
    """An engine could not go on. The sentence is for the people in the thread."""


Piece = str | Usage | EngineFailure


class Engine(Protocol):
    """Writes answers."""

    name: str
    """Shown with every answer whose prompt names no model, as `metadata.model`."""

    batch: int
    """How many prompts it takes in one call."""

    at_once: int
    """How many calls it serves at the same time."""

    def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, Piece]]:
        """Yield (index of the prompt, piece of its answer) as pieces are written.

        An empty piece ends that answer while the others go on; so does the end of the iteration, for all. A Usage may
        come before the end. An EngineFailure that is yielded ends that answer alone; raised, it ends all that have not
        ended. Closing the iterator stops whatever is still being written.
        """
