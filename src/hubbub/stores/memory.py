"""A store that keeps everything in the process's memory: for trying things out, and for tests.

It keeps every promise of the port but durability. Nothing ever waits here, so each method is one atomic step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from hubbub.core import names
from hubbub.core.errors import LAST_OWNER, NOT_HERE, BadRequest, KeyConflict, NotFound
from hubbub.core.nouns import (
    Draft,
    Kind,
    Member,
    Membership,
    Message,
    Role,
    Run,
    RunState,
    Thread,
    new_id,
)
from hubbub.core.ports import Asker, Page
from hubbub.stores.memory_accounts import MemoryAccounts
from hubbub.stores.memory_assistants import MemoryAssistants


class _Log:
    """One thread with everything in it."""

    def __init__(self, thread: Thread) -> None:
        self.thread = thread
        self.messages: list[Message] = []
        self.seen: dict[str, int] = {}  # by member, in the order of joining
        self.roles: dict[str, Role] = {}
        self.readers: set[str] = set()  # whoever was made one, also while they are away
        self.personalities: dict[str, str] = {}

    def view(self) -> Thread:
        return replace(self.thread, head=len(self.messages), member_count=len(self.seen))


class MemoryStore:
    """See `core.ports.Store` for what each method promises."""

    def __init__(self) -> None:
        self.epoch = new_id()
        self.accounts = MemoryAccounts()
        self.assistants = MemoryAssistants(self._personalities)
        self._members: dict[str, Member] = {}
        self._logs: dict[str, _Log] = {}
        self._places: dict[str, dict[str, None]] = {}  # member -> threads, in the order of joining
        self._pairs: dict[frozenset[str], str] = {}
        self._keys: dict[tuple[str, str], Message] = {}
        self._runs: dict[str, Run] = {}
        self._asked: set[tuple[str, str, int]] = set()

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def append(self, draft: Draft, roles: frozenset[Role] | None = None) -> asyncio.Future[Message]:
        done: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        try:
            done.set_result(self._append(draft, roles))
        except (NotFound, KeyConflict) as refused:
            done.set_exception(refused)
        return done

    def _append(self, draft: Draft, roles: frozenset[Role] | None = None) -> Message:
        log = self._log(draft.thread)
        if draft.key is not None:
            first = self._keys.get((draft.sender, draft.key))
            if first is not None:
                if not draft.same_body(first):
                    raise KeyConflict(f"The key {draft.key!r} was already used for another message.")
                return first
        if roles is not None and log.roles.get(draft.sender) not in roles:
            raise NotFound(NOT_HERE)
        seq = len(log.messages) + 1
        message = draft.numbered(seq)
        log.messages.append(message)
        if draft.key is not None:
            self._keys[draft.sender, draft.key] = message
        if log.seen.get(draft.sender) == seq - 1:
            log.seen[draft.sender] = seq
        return message

    async def read_after(self, thread: str, after: int, limit: int, max_bytes: int) -> Page:
        return self._page(self._log(thread).messages[after : after + limit + 1], limit, max_bytes)

    async def read_before(self, thread: str, before: int | None, limit: int, max_bytes: int) -> Page:
        messages = self._log(thread).messages
        end = len(messages) if before is None else max(0, min(before - 1, len(messages)))
        page = self._page(messages[max(0, end - limit - 1) : end][::-1], limit, max_bytes)
        return Page(page.messages[::-1], page.more)

    @staticmethod
    def _page(messages: list[Message], limit: int, max_bytes: int) -> Page:
        """`messages` has one more than `limit`, if there is one."""
        taken: list[Message] = []
        for message in messages[:limit]:
            max_bytes -= len(message.text.encode())
            if taken and max_bytes < 0:
                break
            taken.append(message)
        return Page(taken, len(taken) < len(messages))

    async def message(self, thread: str, seq: int) -> Message | None:
        log = self._logs.get(thread)
        return log.messages[seq - 1] if log and 0 < seq <= len(log.messages) else None

    async def members(self) -> list[Member]:
        return list(self._members.values())

    async def add_member(self, member: Member, joins: Sequence[tuple[str, int | None]] = ()) -> Member:
        known = self._members.get(names.key(member.name))
        if known is not None:
            if known.arrived or not member.arrived:
                return known
            member = replace(known, arrived=True)
        logs = [(self._log(thread), seen) for thread, seen in joins]
        self._members[names.key(member.name)] = member
        for log, seen in logs:
            self._enter(log, member.name, len(log.messages) if seen is None else seen)
        return member

    def _enter(self, log: _Log, member: str, seen: int, role: Role = Role.MEMBER) -> None:
        log.seen.setdefault(member, seen)
        log.roles.setdefault(member, role)
        self._places.setdefault(member, {})[log.thread.id] = None

    async def create_thread(self, thread: Thread, members: Sequence[Membership]) -> Thread:
        pair = _pair(members[0].member, members[1].member) if thread.private else None
        if pair and (known := self._pairs.get(pair)):
            return self._logs[known].view()
        if thread.id in self._logs:
            raise KeyConflict(f"There is a thread {thread.id!r} already.")
        log = self._logs[thread.id] = _Log(thread)
        for membership in members:
            self._enter(log, membership.member, membership.seen, membership.role)
        if pair:
            self._pairs[pair] = thread.id
        return log.view()

    async def thread(self, id: str) -> Thread | None:
        log = self._logs.get(id)
        return log.view() if log else None

    async def update_thread(self, id: str, *, title: str | None = None, public: bool | None = None) -> Thread:
        log = self._log(id)
        old = log.thread
        log.thread = replace(
            old, title=old.title if title is None else title, public=old.public if public is None else public
        )
        return log.view()

    async def delete_thread(self, id: str) -> None:
        log = self._logs.pop(id, None)
        if log is None:
            return
        for member in log.seen:
            del self._places[member][id]
        self._pairs = {pair: thread for pair, thread in self._pairs.items() if thread != id}
        self._keys = {key: message for key, message in self._keys.items() if message.thread != id}
        self._runs = {run.id: run for run in self._runs.values() if run.thread != id}
        self._asked = {asked for asked in self._asked if asked[0] != id}

    async def private_thread(self, one: str, other: str) -> Thread | None:
        id = self._pairs.get(_pair(one, other))
        return self._logs[id].view() if id else None

    async def threads_of(self, member: str) -> list[tuple[Thread, int]]:
        logs = [self._logs[thread] for thread in self._places.get(member, ())]
        return [(log.view(), log.seen[member]) for log in logs]

    async def heads(self, threads: Sequence[str]) -> dict[str, int]:
        return {id: len(self._logs[id].messages) for id in threads if id in self._logs}

    async def public_threads(self) -> list[Thread]:
        return [log.view() for log in self._logs.values() if log.thread.public]

    async def memberships(self, thread: str) -> list[Membership]:
        log = self._logs.get(thread)
        if log is None:
            return []
        return [
            Membership(thread=thread, member=name, seen=seen, role=log.roles[name]) for name, seen in log.seen.items()
        ]

    async def role(self, thread: str, member: str) -> Role | None:
        log = self._logs.get(thread)
        return log.roles.get(member) if log else None

    async def join(self, membership: Membership, notice: Draft | None, by: Asker | None = None) -> Message | None:
        log = self._log(membership.thread)
        _require(log, by)
        if membership.member in log.seen:
            return None
        seen = membership.seen if membership.seen >= 0 else len(log.messages)
        role = Role.READER if membership.member in log.readers else membership.role
        self._enter(log, membership.member, seen, role)
        return self._append(notice) if notice else None

    async def leave(self, thread: str, member: str, notice: Draft | None, by: Asker | None = None) -> Message | None:
        log = self._log(thread)
        _require(log, by)
        if log.seen.pop(member, None) is None:
            return None
        log.personalities.pop(member, None)
        role = log.roles.pop(member)
        if role is Role.OWNER and Role.OWNER not in log.roles.values():
            self._crown(log)
        del self._places[member][thread]
        return self._append(notice) if notice else None

    def _crown(self, log: _Log) -> None:
        """Whoever may write and has been in longest owns it from now on, or else whoever may read."""
        heirs = [name for name in log.roles if self._kind(name) is not Kind.ASSISTANT]
        writers = [name for name in heirs if log.roles[name] is Role.MEMBER]
        if heirs:
            self._set_role(log, (writers or heirs)[0], Role.OWNER)

    def _kind(self, name: str) -> Kind | None:
        member = self._members.get(names.key(name))
        return member.kind if member else None

    async def set_role(
        self, thread: str, member: str, role: Role, notice: Draft | None, by: Asker | None = None
    ) -> Message | None:
        log = self._log(thread)
        _require(log, by)
        if log.roles.get(member, role) is role:
            return None
        if [name for name, its in log.roles.items() if its is Role.OWNER] == [member]:
            raise BadRequest(LAST_OWNER)
        self._set_role(log, member, role)
        return self._append(notice) if notice else None

    @staticmethod
    def _set_role(log: _Log, member: str, role: Role) -> None:
        log.roles[member] = role
        if role is Role.READER:  # and stays one after leaving and coming back
            log.readers.add(member)
        else:
            log.readers.discard(member)

    async def see(self, thread: str, member: str, seq: int) -> int:
        log = self._log(thread)
        if member not in log.seen:
            raise NotFound("You are not in this thread.")
        log.seen[member] = max(log.seen[member], min(seq, len(log.messages)))
        return log.seen[member]

    async def begin_run(self, run: Run) -> Run | None:
        asked = (run.thread, run.assistant, run.trigger)
        if (run.trigger and asked in self._asked) or run.id in self._runs:
            return None
        log = self._log(run.thread)
        self._asked.add(asked)
        self._runs[run.id] = run
        if run.trigger and run.assistant in log.seen:
            log.seen[run.assistant] = max(log.seen[run.assistant], run.trigger)
        return run

    async def last_asked(self, thread: str, assistant: str) -> int:
        runs = (run for run in self._runs.values() if (run.thread, run.assistant) == (thread, assistant))
        return max((run.trigger for run in runs), default=0)

    async def run(self, id: str) -> Run | None:
        return self._runs.get(id)

    async def open_runs(self) -> list[Run]:
        return [run for run in self._runs.values() if not run.state.ended]

    async def set_run(self, id: str, state: RunState, attempt: int) -> Run | None:
        run = self._runs.get(id)
        if run is None or run.state.ended or attempt < run.attempt:
            return None
        return self._change(run, state=state, attempt=attempt)

    async def end_run(
        self, id: str, attempt: int, state: RunState, error: str | None, draft: Draft, personality: str | None = None
    ) -> Message | None:
        run = self._runs.get(id)
        if run is None or run.state.ended or attempt != run.attempt:
            return None
        message = self._append(draft)
        self._change(run, state=state, error=error, message=message.id, seq=message.seq)
        chosen = self._personalities(run.thread, run.assistant)
        if personality is not None and chosen is not None:
            chosen[run.assistant] = personality
        return message

    def _change(self, run: Run, **changes: object) -> Run:
        changed = self._runs[run.id] = replace(run, **changes)
        return changed

    def _personalities(self, thread: str, member: str) -> dict[str, str] | None:
        log = self._logs.get(thread)
        return log.personalities if log is not None and member in log.seen else None

    def _log(self, thread: str) -> _Log:
        log = self._logs.get(thread)
        if log is None:
            raise NotFound("There is no such thread.")
        return log


def _require(log: _Log, by: Asker | None) -> None:
    if by is not None and log.roles.get(by.name) not in by.roles:
        raise NotFound(NOT_HERE)


def _pair(one: str, other: str) -> frozenset[str]:
    return frozenset((names.key(one), names.key(other)))
