"""The default store: one SQLite file, durable against `kill -9` and power cuts, fast through group commit.

WAL with `synchronous=FULL`: a commit returns after its fsync, and only then is anybody told. Writes go through
`GroupCommit`; reads use a connection of their own and see committed data only. One process owns the directory; a
command may work beside it on what that process reads again, the accounts.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import apsw
import msgspec
from msgspec.structs import replace

from hubbub.core import names
from hubbub.core.errors import LAST_OWNER, NOT_HERE, BadRequest, KeyConflict, NotFound, Unavailable
from hubbub.core.nouns import (
    Draft,
    Member,
    Membership,
    Message,
    Role,
    Run,
    RunState,
    Thread,
)
from hubbub.core.ports import Asker, Page
from hubbub.stores import backup, sqlite_file
from hubbub.stores import sqlite_rows as rows
from hubbub.stores.archive import require_done
from hubbub.stores.group_commit import SLOW_S, GroupCommit, outside
from hubbub.stores.sqlite_accounts import SqliteAccounts
from hubbub.stores.sqlite_assistants import SqliteAssistants
from hubbub.stores.sqlite_marks import Marks
from hubbub.stores.sqlite_runs import SqliteRuns

DATABASE = "hubbub.db"
"""The file's name in the home directory."""

MAX_HEADS = 50_000

_to_json = msgspec.json.Encoder().encode


class SqliteStore:
    """See `core.ports.Store` for what each method promises.

    Args:
        path: the database file; its directory must exist. A `lock` file beside it keeps a second server out.
        beside: a server has the directory; leave to it what is for one alone to do, and remember nothing of messages.
        committed: see `GroupCommit`.
    """

    def __init__(
        self, path: Path, *, beside: bool = False, committed: Callable[[int, float | None], None] | None = None
    ) -> None:
        self.path = path
        self._committed = committed
        self._beside = beside
        self.epoch = ""
        self._heads: dict[str, int] = {}  # what the next seq follows, the open group's messages included
        self._marks = Marks(lambda: self._writer)
        self._lock = sqlite_file.DirectoryLock(path.parent)
        self._open: ExitStack | None = None  # what has to be let go of
        self.accounts = SqliteAccounts(self)
        self.assistants = SqliteAssistants(self)
        self._runs = SqliteRuns(self)

    async def open(self) -> None:
        with ExitStack() as undo:
            try:
                if self._beside:
                    undo.enter_context(sqlite_file.beside(self.path.parent))
                    if backup.incoming(self.path).exists():
                        raise Unavailable("A backup is only just being restored; try again in a moment.")
                    self._open_file(undo)
                else:
                    undo.callback(self._lock.close)
                    self._lock.take()
                    with sqlite_file.alone(self.path.parent):
                        backup.take_in(self.path)
                        sqlite_file.rewrite_log(self.path)
                        self._open_file(undo)
            except (apsw.Error, OSError) as failure:
                raise Unavailable(f"The database {self.path} cannot be opened: {failure}") from failure
            self._group = GroupCommit(
                self._writer,
                before_commit=self._marks.write,
                after_failure=self._reopen,
                slow=not self._beside and sqlite_file.fsync_s(self.path.parent) > SLOW_S,
                copies=not self._beside,
                committed=self._committed,
            )
            self._open = undo.pop_all()

    def _open_file(self, undo: ExitStack) -> None:
        self._writer = sqlite_file.connect(self.path, beside=self._beside)
        undo.callback(lambda: self._writer.close())
        bring_up = sqlite_file.require if self._beside else sqlite_file.migrate
        bring_up(self._writer, self.path, sqlite_file.migrations())
        require_done(sqlite_file.move(self._writer), f"the file {self.path}")
        self._reader = sqlite_file.connect(self.path, beside=self._beside)
        undo.callback(lambda: self._reader.close())
        self.epoch = sqlite_file.epoch(self._writer)

    async def close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            with opened:
                await self._group.close()
                if self._group.doubtful:
                    self._keep_log()

    # Messages

    def append(self, draft: Draft, roles: frozenset[Role] | None = None) -> Future[Message]:
        return self._group.write(lambda: self.append_now(draft, roles))

    def append_now(self, draft: Draft, roles: frozenset[Role] | None = None) -> Message:
        """`append`, in the open group."""
        db, thread, sender = self._writer, draft.thread, draft.sender
        if draft.key is not None:
            row = db.execute(
                f"SELECT {rows.MESSAGE} FROM messages WHERE sender = ? AND key = ?", (sender, draft.key)
            ).fetchone()
            if row:
                first = rows.message(row)
                if not draft.same_body(first):
                    raise KeyConflict(f"The key {draft.key!r} was already used for another message.")
                return first
        head = self._heads.get(thread)
        if head is None:
            head = self._load_head(thread)
        mark = self._marks.of(thread, sender)
        if roles is not None and mark.role not in roles:
            raise NotFound(NOT_HERE)
        seq = head + 1
        message = draft.numbered(seq)
        db.execute(
            f"INSERT INTO messages ({rows.MESSAGE}, key) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                message.id,
                thread,
                seq,
                sender,
                None if draft.destination == thread else draft.destination,
                draft.type,
                draft.text,
                draft.timestamp,
                _to_json(draft.metadata).decode() if draft.metadata else None,
                draft.reply_to,
                draft.run,
                draft.key,
            ),
        )
        self._heads[thread] = seq
        if mark.seen == head:
            self._marks.move(mark, seq)
        return message

    def _load_head(self, thread: str) -> int:
        row = self._writer.execute(
            "SELECT (SELECT coalesce(max(seq), 0) FROM messages WHERE thread = threads.id) FROM threads WHERE id = ?",
            (thread,),
        ).fetchone()
        if row is None:
            raise NotFound("There is no such thread.")
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()  # the writer reads its own open group, too
        return cast(int, row[0])

    async def read_after(self, thread: str, after: int, limit: int, max_bytes: int) -> Page:
        return self._page(
            f"SELECT {rows.MESSAGE} FROM messages WHERE thread = ? AND seq > ? ORDER BY seq LIMIT ?",
            (thread, after, limit + 1),
            max_bytes,
        )

    async def read_before(self, thread: str, before: int | None, limit: int, max_bytes: int) -> Page:
        page = self._page(
            f"SELECT {rows.MESSAGE} FROM messages WHERE thread = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
            (thread, 1 << 62 if before is None else before, limit + 1),
            max_bytes,
        )
        return Page(page.messages[::-1], page.more)

    def _page(self, sql: str, bindings: tuple[str, int, int], max_bytes: int) -> Page:
        limit = bindings[2] - 1
        taken: list[Message] = []
        for row in self.read(sql, bindings):
            message = rows.message(row)
            max_bytes -= len(message.text.encode())
            if len(taken) == limit or (taken and max_bytes < 0):
                return Page(taken, True)
            taken.append(message)
        if not taken and self._read_one("SELECT 1 FROM threads WHERE id = ?", bindings[:1]) is None:
            raise NotFound("There is no such thread.")
        return Page(taken, False)

    async def message(self, thread: str, seq: int) -> Message | None:
        row = self._read_one(f"SELECT {rows.MESSAGE} FROM messages WHERE thread = ? AND seq = ?", (thread, seq))
        return rows.message(row) if row else None

    # Members and threads

    async def members(self) -> list[Member]:
        return [rows.member(row) for row in self.read("SELECT name, kind, arrived FROM members ORDER BY n", ())]

    async def add_member(self, member: Member, joins: Sequence[tuple[str, int | None]] = ()) -> Member:
        def work() -> Member:
            db, key = self._writer, names.key(member.name)
            row = db.execute("SELECT name, kind, arrived FROM members WHERE key = ?", (key,)).fetchone()
            known = rows.member(row) if row else None
            if known and (known.arrived or not member.arrived):
                return known
            heads = [self.head(thread) for thread, _ in joins]
            self._marks.write()
            db.execute(
                "INSERT INTO members (key, name, kind, arrived) VALUES (?,?,?,?)"
                " ON CONFLICT (key) DO UPDATE SET arrived = excluded.arrived",
                (key, member.name, member.kind, member.arrived),
            )
            made = replace(known, arrived=True) if known else member
            for (thread, seen), head in zip(joins, heads, strict=True):
                self._insert_membership(thread, made.name, head if seen is None else seen)
            return made

        return cast(Member, await self._group.write(work))

    def _insert_membership(self, thread: str, member: str, seen: int, role: Role = Role.MEMBER) -> None:
        self._marks.forget(thread, member)
        self._writer.execute(
            "INSERT INTO memberships (thread, member, seen, role) VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
            (thread, member, seen, role),
        )
        self._writer.execute("UPDATE threads SET member_count = member_count + changes() WHERE id = ?", (thread,))

    def head(self, thread: str) -> int:
        head = self._heads.get(thread)
        return self._load_head(thread) if head is None else head

    async def create_thread(self, thread: Thread, members: Sequence[Membership]) -> Thread:
        def work() -> Thread:
            pair = _pair(members[0].member, members[1].member) if thread.private else None
            if pair and (known := self._thread_where("pair = ?", pair)):
                return known
            if self._thread_where("id = ?", thread.id):
                raise KeyConflict(f"There is a thread {thread.id!r} already.")
            self._writer.execute(
                "INSERT INTO threads (id, title, public, pair) VALUES (?,?,?,?)",
                (thread.id, thread.title, thread.public, pair),
            )
            for membership in members:
                self._insert_membership(thread.id, membership.member, membership.seen, membership.role)
            return replace(thread, head=0, member_count=len(members))

        return cast(Thread, await self._group.write(work))

    def _thread_where(self, condition: str, value: str) -> Thread | None:
        row = self._writer.execute(f"SELECT {rows.THREAD} FROM threads WHERE {condition}", (value,)).fetchone()
        return rows.thread(row) if row else None

    async def thread(self, id: str) -> Thread | None:
        row = self._read_one(f"SELECT {rows.THREAD} FROM threads WHERE id = ?", (id,))
        return rows.thread(row) if row else None

    async def heads(self, threads: Sequence[str]) -> dict[str, int]:
        found = self.read(
            "SELECT id, (SELECT coalesce(max(seq), 0) FROM messages WHERE thread = threads.id) FROM threads"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (_to_json(threads).decode(),),
        )
        return dict(cast("list[tuple[str, int]]", found))

    async def update_thread(self, id: str, *, title: str | None = None, public: bool | None = None) -> Thread:
        def work() -> Thread:
            self.head(id)
            self._writer.execute(
                "UPDATE threads SET title = coalesce(?, title), public = coalesce(?, public) WHERE id = ?",
                (title, public, id),
            )
            return cast(Thread, self._thread_where("id = ?", id))

        return cast(Thread, await self._group.write(work))

    async def delete_thread(self, id: str) -> None:
        def work() -> None:
            self._marks.write()
            self._marks.clear()
            self._heads.pop(id, None)
            for table in ("messages", "memberships", "runs", "readers"):
                self._writer.execute(f"DELETE FROM {table} WHERE thread = ?", (id,))
            self._writer.execute("DELETE FROM threads WHERE id = ?", (id,))

        await self._group.write(work)

    async def private_thread(self, one: str, other: str) -> Thread | None:
        row = self._read_one(f"SELECT {rows.THREAD} FROM threads WHERE pair = ?", (_pair(one, other),))
        return rows.thread(row) if row else None

    async def threads_of(self, member: str) -> list[tuple[Thread, int]]:
        found = self.read(
            f"SELECT {rows.THREAD}, seen FROM memberships JOIN threads ON threads.id = memberships.thread"
            " WHERE member = ? ORDER BY memberships.n",
            (member,),
        )
        return [(rows.thread(row), row[6]) for row in found]

    async def public_threads(self) -> list[Thread]:
        return [rows.thread(row) for row in self.read(f"SELECT {rows.THREAD} FROM threads WHERE public ORDER BY n", ())]

    async def memberships(self, thread: str) -> list[Membership]:
        found = self.read("SELECT member, seen, role FROM memberships WHERE thread = ? ORDER BY n", (thread,))
        return [Membership(thread=thread, member=name, seen=seen, role=Role(role)) for name, seen, role in found]

    async def role(self, thread: str, member: str) -> Role | None:
        row = self._read_one("SELECT role FROM memberships WHERE thread = ? AND member = ?", (thread, member))
        return Role(row[0]) if row else None

    async def join(self, membership: Membership, notice: Draft | None, by: Asker | None = None) -> Message | None:
        def work() -> Message | None:
            thread, member = membership.thread, membership.member
            head = self.head(thread)
            self._require(thread, by)
            if self._marks.of(thread, member).seen >= 0:
                return None
            seen = membership.seen if membership.seen >= 0 else head
            demoted = self._writer.execute("SELECT 1 FROM readers WHERE thread = ? AND member = ?", (thread, member))
            role = Role.READER if demoted.fetchone() else membership.role
            self._insert_membership(thread, member, seen, role)
            return self.append_now(notice) if notice else None

        return cast("Message | None", await self._group.write(work))

    async def leave(self, thread: str, member: str, notice: Draft | None, by: Asker | None = None) -> Message | None:
        def work() -> Message | None:
            self.head(thread)
            self._require(thread, by)
            role = self._marks.of(thread, member).role
            self._marks.forget(thread, member)
            if role is None:
                return None
            self._writer.execute("DELETE FROM memberships WHERE thread = ? AND member = ?", (thread, member))
            self._writer.execute("UPDATE threads SET member_count = member_count - 1 WHERE id = ?", (thread,))
            if role == Role.OWNER and not self._owners(thread):
                self._crown(thread)
            return self.append_now(notice) if notice else None

        return cast("Message | None", await self._group.write(work))

    def _crown(self, thread: str) -> None:
        """Whoever may write and has been in longest owns it from now on, or else whoever may read."""
        heir = self._writer.execute(
            "SELECT memberships.member FROM memberships LEFT JOIN members ON members.name = memberships.member"
            " WHERE thread = ? AND coalesce(kind, '') <> 'assistant' ORDER BY role = 'reader', memberships.n LIMIT 1",
            (thread,),
        ).fetchone()
        if heir is not None:
            self._set_role(thread, cast(str, heir[0]), Role.OWNER)

    async def set_role(
        self, thread: str, member: str, role: Role, notice: Draft | None, by: Asker | None = None
    ) -> Message | None:
        def work() -> Message | None:
            self.head(thread)
            self._require(thread, by)
            if self._marks.of(thread, member).role in (None, role):
                return None
            if self._owners(thread) == [(member,)]:
                raise BadRequest(LAST_OWNER)
            self._set_role(thread, member, role)
            return self.append_now(notice) if notice else None

        return cast("Message | None", await self._group.write(work))

    def _require(self, thread: str, by: Asker | None) -> None:
        if by is not None and self._marks.of(thread, by.name).role not in by.roles:
            raise NotFound(NOT_HERE)

    def _owners(self, thread: str) -> list[tuple[Any, ...]]:
        """At most two of them."""
        return self._writer.execute(
            "SELECT member FROM memberships WHERE thread = ? AND role = 'owner' LIMIT 2", (thread,)
        ).fetchall()

    def _set_role(self, thread: str, member: str, role: Role) -> None:
        self._marks.forget(thread, member)
        self._writer.execute("UPDATE memberships SET role = ? WHERE thread = ? AND member = ?", (role, thread, member))
        if role is Role.READER:  # and stays one after leaving and coming back
            self._writer.execute("INSERT OR IGNORE INTO readers (thread, member) VALUES (?,?)", (thread, member))
        else:
            self._writer.execute("DELETE FROM readers WHERE thread = ? AND member = ?", (thread, member))

    async def see(self, thread: str, member: str, seq: int) -> int:
        def work() -> int:
            self._marks.forget(thread, member)
            stored = self._marks.of(thread, member).seen
            if stored < 0:
                raise NotFound("You are not in this thread.")
            now = max(stored, min(seq, self.head(thread)))
            if now > stored:
                self._writer.execute(
                    "UPDATE memberships SET seen = ? WHERE thread = ? AND member = ?", (now, thread, member)
                )
                self._marks.forget(thread, member)
            return now

        return cast(int, await self._group.write(work))

    # Runs

    async def begin_run(self, run: Run) -> Run | None:
        return await self._runs.begin(run)

    async def last_asked(self, thread: str, assistant: str) -> int:
        return self._runs.last_asked(thread, assistant)

    async def run(self, id: str) -> Run | None:
        return self._runs.one(id)

    async def open_runs(self) -> list[Run]:
        return self._runs.open()

    async def set_run(self, id: str, state: RunState, attempt: int) -> Run | None:
        return await self._runs.move(id, state, attempt)

    async def end_run(
        self, id: str, attempt: int, state: RunState, error: str | None, draft: Draft, personality: str | None = None
    ) -> Message | None:
        return await self._runs.end(id, attempt, state, error, draft, personality)

    # The file

    def forget_mark(self, thread: str, member: str) -> None:
        self._marks.forget(thread, member)

    @property
    def writer(self) -> apsw.Connection:
        return self._writer

    def write(self, work: Callable[[], Any]) -> Future[Any]:
        return self._group.write(work)

    def read(self, sql: str, bindings: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(sql, cast(Any, bindings)).fetchall()
        except apsw.Error as failure:
            raise outside(failure) from failure

    def _read_one(self, sql: str, bindings: tuple[object, ...]) -> tuple[Any, ...] | None:
        found = self.read(sql, bindings)
        return found[0] if found else None

    def _reopen(self, doubtful: bool) -> apsw.Connection:
        """A new connection for writing; if `doubtful`, all of them, so that SQLite reads the whole log again."""
        self._heads.clear()
        self._marks.clear()
        if doubtful:
            self._keep_log()
            self._reader.close()
        self._writer.close()
        if doubtful:
            with sqlite_file.alone(self.path.parent):
                sqlite_file.rewrite_log(self.path)
                self._reader = sqlite_file.connect(self.path)
        self._writer = sqlite_file.connect(self.path, beside=self._beside)
        return self._writer

    def _keep_log(self) -> None:
        for db in (self._writer, self._reader):
            sqlite_file.keep_log(db)


def _pair(one: str, other: str) -> str:
    return "/".join(sorted((names.key(one), names.key(other))))  # no name contains a slash
