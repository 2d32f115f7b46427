"""A disk that survives its server: commits take time and come in groups, fail in every way, and are kept or lost.

`Log` is what lies on the disk; `Disk` keeps it over crashes and knows everything that was ever committed; `DiskStore`
is the store of one server process. A write waits for its group; nothing of it is there before the group's commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from hubbub.core.errors import Problem, StorageFull, Unavailable
from hubbub.core.nouns import Assistant, Draft, Member, Membership, Message, Role, Run, RunState, Thread
from hubbub.core.ports import Asker, Assistants, Page
from hubbub.stores.memory import MemoryStore, _Log
from simulation.clock import VirtualLoop

T = TypeVar("T")


class Log(MemoryStore):
    """Everything that is committed. `told` is called as a message becomes so."""

    def __init__(self) -> None:
        super().__init__()
        self.told: Callable[[Message], None] = lambda message: None

    def _append(self, draft: Draft, roles: frozenset[Role] | None = None) -> Message:
        before = len(self._logs[draft.thread].messages) if draft.thread in self._logs else 0
        message = super()._append(draft, roles)
        if message.seq > before:
            self.told(message)
        return message

    def copy(self) -> Log:
        """A backup, of the same epoch."""
        copy = Log()
        copy.epoch = self.epoch
        copy._members, copy._pairs, copy._keys = dict(self._members), dict(self._pairs), dict(self._keys)
        copy._runs, copy._asked = dict(self._runs), set(self._asked)
        copy._places = {member: dict(threads) for member, threads in self._places.items()}
        for id, log in self._logs.items():
            copy._logs[id] = kept = _Log(log.thread)
            kept.messages, kept.seen, kept.roles = list(log.messages), dict(log.seen), dict(log.roles)
            kept.readers, kept.personalities = set(log.readers), dict(log.personalities)
        return copy

    def messages(self) -> dict[str, list[Message]]:
        return {id: list(log.messages) for id, log in self._logs.items()}

    def runs(self) -> list[Run]:
        return list(self._runs.values())

    def private(self, thread: str) -> bool:
        return self._logs[thread].thread.private

    def members_of(self, thread: str) -> list[str]:
        return list(self._logs[thread].seen)

    def is_in(self, thread: str, member: str) -> bool:
        return thread in self._logs and member in self._logs[thread].seen

    def seen(self, thread: str, member: str) -> int:
        return self._logs[thread].seen.get(member, 0)


@dataclass
class Weather:
    """How bad a disk is just now. Chances are of one; times in seconds."""

    commit_s: float = 0.003
    read_s: float = 0.0
    commit_fails: float = 0.0
    read_fails: float = 0.0
    full: bool = False


class Disk:
    """What outlives every server.

    Args:
        note: keeps a line of the trace.
    """

    def __init__(self, loop: VirtualLoop, chance: Random, note: Callable[[str], None]) -> None:
        self.loop = loop
        self.chance = chance
        self.note = note
        self.weather = Weather()
        self.log = Log()
        self.log.epoch = chance.randbytes(8).hex()
        self.committed: dict[str, dict[str, list[tuple[Message, float]]]] = {}  # epoch -> thread -> with its time
        self.backup: Log | None = None
        self.failures = 0  # calls that failed for no fault of their caller
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        known = {id: [(message, -1.0) for message in messages] for id, messages in self.log.messages().items()}
        self.committed[self.log.epoch] = known
        self.log.told = self._told

    def _told(self, message: Message) -> None:
        self.committed[self.log.epoch].setdefault(message.thread, []).append((message, self.loop.time()))
        self.note(f"disk {message.thread} {message.seq} {message.sender} {message.text[:24]!r}")

    def restore(self) -> None:
        """The last backup comes back, and with it a new epoch."""
        assert self.backup is not None
        self.log = self.backup.copy()
        self.log.epoch = self.chance.randbytes(8).hex()
        self._begin_epoch()
        self.note(f"disk restored as {self.log.epoch}")

    def has_ended(self, run: str) -> bool:
        kept = now(self.log.run(run))
        return kept is not None and kept.state.ended

    def apply(self, group: list[tuple[Callable[[Log], Any], asyncio.Future[Any]]]) -> list[tuple[Any, Problem | None]]:
        """Commit a group of writes; what each is told."""
        outcomes: list[tuple[Any, Problem | None]] = []
        for work, _ in group:
            try:
                outcomes.append((work(self.log), None))
            except Problem as refused:
                outcomes.append((None, refused))
        return outcomes


class DiskStore:
    """The store of one process. It dies with it; see `core.ports.Store` for what it promises until then."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.epoch = disk.log.epoch
        self.accounts = disk.log.accounts  # nobody here has one
        self._waiting: list[tuple[Callable[[Log], Any], asyncio.Future[Any]]] = []
        self._committing: list[tuple[Callable[[Log], Any], asyncio.Future[Any]]] = []
        self._scheduled = False
        self._closed = False

    async def open(self) -> None: ...

    async def close(self) -> None:
        self._closed = True
        if under_way := [done for _, done in (*self._waiting, *self._committing)]:
            await asyncio.wait(under_way)

    def crash(self) -> None:
        """The process is gone, perhaps between the commit and its answer. What had not come so far is lost."""
        if self._committing and self._disk.chance.random() < 0.5:
            self._disk.note(f"disk kept {len(self._committing)} writes nobody was told of")
            self._disk.apply(self._committing)

    # Writing

    def _write(self, work: Callable[[Log], Any]) -> asyncio.Future[Any]:
        loop = self._disk.loop
        done: asyncio.Future[Any] = loop.create_future()
        if self._closed:
            done.set_exception(Unavailable("The store is closed.", retry_after=1))
            return done
        self._waiting.append((work, done))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._begin)
        return done

    def _begin(self) -> None:
        self._committing, self._waiting = self._waiting, []
        disk = self._disk
        disk.loop.call_later(disk.chance.expovariate(1 / disk.weather.commit_s), self._commit)

    def _commit(self) -> None:
        group, self._committing = self._committing, []
        disk = self._disk
        failure: Problem | None = None
        outcomes: list[tuple[Any, Problem | None]] = []
        if disk.weather.full:
            disk.failures += 1
            failure = StorageFull("There is no room left on the disk.", retry_after=1)
        elif disk.weather.commit_fails and disk.chance.random() < disk.weather.commit_fails:
            disk.failures += 1
            failure = Unavailable("The data could not be written; the outcome is unknown.", retry_after=1)
            if disk.chance.random() < 0.5:
                disk.apply(group)
            disk.note(f"disk failed {len(group)} writes")
        if failure is None:
            outcomes = disk.apply(group)
        for (_, done), (result, refused) in zip(group, outcomes or [(None, failure)] * len(group), strict=True):
            if done.done():  # its caller gave up
                continue
            if refused is None:
                done.set_result(result)
            else:
                done.set_exception(refused)
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            self._begin()

    def append(self, draft: Draft, roles: frozenset[Role] | None = None) -> asyncio.Future[Message]:
        return self._write(lambda log: log.append(draft, roles).result())

    async def add_member(self, member: Member, joins: Sequence[tuple[str, int | None]] = ()) -> Member:
        return await self._write(lambda log: now(log.add_member(member, joins)))

    async def create_thread(self, thread: Thread, members: Sequence[Membership]) -> Thread:
        return await self._write(lambda log: now(log.create_thread(thread, members)))

    async def update_thread(self, id: str, *, title: str | None = None, public: bool | None = None) -> Thread:
        return await self._write(lambda log: now(log.update_thread(id, title=title, public=public)))

    async def delete_thread(self, id: str) -> None:
        await self._write(lambda log: now(log.delete_thread(id)))

    async def join(self, membership: Membership, notice: Draft | None, by: Asker | None = None) -> Message | None:
        return await self._write(lambda log: now(log.join(membership, notice, by)))

    async def leave(self, thread: str, member: str, notice: Draft | None, by: Asker | None = None) -> Message | None:
        return await self._write(lambda log: now(log.leave(thread, member, notice, by)))

    async def set_role(
        self, thread: str, member: str, role: Role, notice: Draft | None, by: Asker | None = None
    ) -> Message | None:
        return await self._write(lambda log: now(log.set_role(thread, member, role, notice, by)))

    async def see(self, thread: str, member: str, seq: int) -> int:
        return await self._write(lambda log: now(log.see(thread, member, seq)))

    async def begin_run(self, run: Run) -> Run | None:
        return await self._write(lambda log: now(log.begin_run(run)))

    async def set_run(self, id: str, state: RunState, attempt: int) -> Run | None:
        return await self._write(lambda log: now(log.set_run(id, state, attempt)))

    async def end_run(
        self, id: str, attempt: int, state: RunState, error: str | None, draft: Draft, personality: str | None = None
    ) -> Message | None:
        return await self._write(lambda log: now(log.end_run(id, attempt, state, error, draft, personality)))

    # Reading

    async def _read(self, look: Callable[[Log], Coroutine[Any, Any, T]]) -> T:
        """Some time before and some time after it is looked at: what is returned may be old by then."""
        await self._pause()
        disk = self._disk
        if disk.weather.read_fails and disk.chance.random() < disk.weather.read_fails:
            disk.failures += 1
            raise Unavailable("The data could not be read.", retry_after=1)
        found = now(look(disk.log))
        await self._pause()
        return found

    async def _pause(self) -> None:
        chance = self._disk.chance.random()
        if chance < 0.6:
            return
        if self._disk.weather.read_s and chance > 0.7:
            await asyncio.sleep(self._disk.chance.expovariate(1 / self._disk.weather.read_s))
        else:
            await asyncio.sleep(0 if chance < 0.9 else 0.002)

    async def read_after(self, thread: str, after: int, limit: int, max_bytes: int) -> Page:
        return await self._read(lambda log: log.read_after(thread, after, limit, max_bytes))

    async def read_before(self, thread: str, before: int | None, limit: int, max_bytes: int) -> Page:
        return await self._read(lambda log: log.read_before(thread, before, limit, max_bytes))

    async def message(self, thread: str, seq: int) -> Message | None:
        return await self._read(lambda log: log.message(thread, seq))

    async def members(self) -> list[Member]:
        return await self._read(lambda log: log.members())

    async def thread(self, id: str) -> Thread | None:
        return await self._read(lambda log: log.thread(id))

    async def heads(self, threads: Sequence[str]) -> dict[str, int]:
        return await self._read(lambda log: log.heads(threads))

    async def private_thread(self, one: str, other: str) -> Thread | None:
        return await self._read(lambda log: log.private_thread(one, other))

    async def threads_of(self, member: str) -> list[tuple[Thread, int]]:
        return await self._read(lambda log: log.threads_of(member))

    async def public_threads(self) -> list[Thread]:
        return await self._read(lambda log: log.public_threads())

    async def role(self, thread: str, member: str) -> Role | None:
        return await self._read(lambda log: log.role(thread, member))

    async def memberships(self, thread: str) -> list[Membership]:
        return await self._read(lambda log: log.memberships(thread))

    async def run(self, id: str) -> Run | None:
        return await self._read(lambda log: log.run(id))

    async def open_runs(self) -> list[Run]:
        return await self._read(lambda log: log.open_runs())

    async def last_asked(self, thread: str, assistant: str) -> int:
        return await self._read(lambda log: log.last_asked(thread, assistant))

    @property
    def assistants(self) -> Assistants:
        return _Assistants(self._read, self._write)


class _Assistants:
    """Those of a log, read and written as everything else is."""

    def __init__(self, read: Callable[..., Any], write: Callable[..., Any]) -> None:
        self._read = read
        self._write = write

    async def all(self) -> list[Assistant]:
        found: list[Assistant] = await self._read(lambda log: log.assistants.all())
        return found

    async def add(self, assistant: Assistant) -> None:
        await self._write(lambda log: now(log.assistants.add(assistant)))

    async def change(self, assistant: Assistant) -> None:
        await self._write(lambda log: now(log.assistants.change(assistant)))

    async def delete(self, name: str) -> None:
        await self._write(lambda log: now(log.assistants.delete(name)))

    async def personality(self, thread: str, member: str) -> str:
        found: str = await self._read(lambda log: log.assistants.personality(thread, member))
        return found


def now(work: Coroutine[Any, Any, T]) -> T:
    """What something that never waits returns."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError(f"{work} waits")
