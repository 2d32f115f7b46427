"""Many writes, one commit: what arrives in a turn of the event loop shares a transaction and its fsync.

A write is a function that runs inside the group's transaction and returns what its caller is told once the commit
has returned. It must check before it writes: raising a Problem refuses that write alone, the rest of the group goes on.

Where to commit was measured. A writer thread that also runs the statements loses the interpreter to a busy loop at
every statement (0.9 k acks/s, p99 708 ms); on the loop the group commits in 0.2 ms on a fast disk and nothing is handed
over. So statements, which only touch memory, always run on the loop, and the one call that waits for the disk runs
there too while the disk is fast; from `SLOW_S` on, only `COMMIT` moves to a thread and the loop goes on collecting the
next group meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apsw

from hubbub.core.errors import Internal, Problem, StorageFull, Unavailable

SLOW_S = 0.002
SAMPLE = 32
"""Commits after which it is asked again whether the disk is slow."""

MAX_GROUP = 1024
MAX_WAITING = 16384
CHECKPOINT_PAGES = 2000
MAX_WAL_PAGES_RATIO = 8
"""So many times CHECKPOINT_PAGES may come while they are copied; then commits wait."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Write = Callable[[], Any]


class GroupCommit:
    """Runs writes on `db` in groups. One owner, one event loop.

    Args:
        before_commit: called in each group's transaction after its last write.
        after_failure: called when a group was lost, to drop cached state; returns the connection to go on with. True:
            a checkpoint's sync has failed, so what SQLite has noted as copied into the database may never get there;
            every connection has to be let go of, for SQLite to begin again with the whole log.
        slow: does the disk take longer than `SLOW_S`?
        copies: is it for this process to copy the log into the database?
        committed: called after each group with how many writes it had and the seconds its commit took; None for those:
            it was lost.
    """

    def __init__(
        self,
        db: apsw.Connection,
        *,
        before_commit: Callable[[], None],
        after_failure: Callable[[bool], apsw.Connection],
        slow: bool,
        copies: bool = True,
        committed: Callable[[int, float | None], None] | None = None,
    ) -> None:
        self._db = db
        self._before_commit = before_commit
        self._after_failure = after_failure
        self._off_loop = slow
        self._copies = copies
        self._committed = committed
        self._took_s = 0.0  # the commit that was the last
        self._waiting: deque[tuple[Write, asyncio.Future[Any]]] = deque()
        self._scheduled = False
        self._fastest_s = 1.0  # of the commits since the question was last asked
        self._commits = 0
        self._wal_pages = 0
        self._copied = False  # all but what was committed meanwhile
        self._uncopied = 0  # pages that somebody else's reading keeps in the log
        self._holding = False  # no commits until the checkpoint is done
        self._committing: asyncio.Task[None] | None = None
        self._checkpointing: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(2, "commit")  # one commit and one checkpoint at a time
        self._broken = False
        self.doubtful = False  # see `after_failure`; until then nothing is copied, nor the log given up
        self._closed = False
        self._prepare()

    def write(self, work: Write) -> asyncio.Future[Any]:
        """Run `work` in the next group. The future holds its result, or why it was refused, once that is on disk."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        if self._closed:
            done.set_exception(Unavailable("The store is closed.", retry_after=1))
            return done
        if len(self._waiting) >= MAX_WAITING:
            done.set_exception(Unavailable("The disk cannot keep up; try again in a moment.", retry_after=1))
            return done
        self._waiting.append((work, done))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._run_group)
        return done

    async def close(self) -> None:
        """Commit what is waiting, then stop. Nothing is accepted from now on."""
        self._closed = True
        while self._waiting or self._scheduled or self._committing:
            await asyncio.sleep(0)
            if under_way := [work for work in (self._committing, self._checkpointing) if work]:
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        if self._checkpointing:
            with contextlib.suppress(apsw.Error):
                await self._checkpointing
        self._thread.shutdown()

    def _prepare(self) -> None:
        self._db.wal_autocheckpoint(0)
        self._db.set_wal_hook(self._noticed_wal)

    def _noticed_wal(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        if pages < self._wal_pages:  # everything had been copied, so the log began anew
            self._copied, self._uncopied = False, 0
        self._wal_pages = pages
        return 0

    def _run_group(self) -> None:
        self._scheduled = False
        if self._committing or self._holding:  # its end schedules the next group
            return
        group = [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]
        if not group:
            return
        outcomes: list[tuple[asyncio.Future[Any], Any, Problem | None]] = []
        try:
            if self._broken or (self.doubtful and not self._checkpointing):
                doubtful = self.doubtful and not self._checkpointing
                self._broken = True
                self._db = self._after_failure(doubtful)
                self._prepare()
                self._broken = False
                if doubtful:
                    self.doubtful = self._copied = False
                    self._uncopied = 0
            self._db.execute("BEGIN IMMEDIATE")
            for work, done in group:
                try:
                    outcomes.append((done, work(), None))
                except Problem as refused:
                    outcomes.append((done, None, refused))
            self._before_commit()
            if self._off_loop:
                self._committing = asyncio.get_running_loop().create_task(self._commit_in_thread(outcomes))
                return
            self._commit()
        except Exception as failure:
            self._lose([done for _, done in group], failure)
        else:
            self._settle(outcomes)
        self._after_group()

    async def _commit_in_thread(self, outcomes: list[tuple[asyncio.Future[Any], Any, Problem | None]]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._commit)
        except Exception as failure:
            self._lose([done for done, _, _ in outcomes], failure)
        else:
            self._settle(outcomes)
        finally:
            self._committing = None
            self._after_group()

    def _commit(self) -> None:
        """Commit, and learn where to commit next. The fastest of some commits says how slow the disk is: the others
        may have waited for a checkpoint or, in the thread, for the interpreter."""
        began = time.perf_counter()
        self._db.execute("COMMIT")
        self._took_s = time.perf_counter() - began
        self._fastest_s = min(self._fastest_s, self._took_s)
        self._commits += 1
        if self._commits >= SAMPLE:
            self._off_loop = self._fastest_s > SLOW_S
            self._fastest_s, self._commits = 1.0, 0

    def _settle(self, outcomes: list[tuple[asyncio.Future[Any], Any, Problem | None]]) -> None:
        if self._committed is not None:
            self._committed(len(outcomes), self._took_s)
        for done, result, refused in outcomes:
            if done.done():  # its caller gave up
                continue
            if refused is None:
                done.set_result(result)
            else:
                done.set_exception(refused)

    def _lose(self, group: list[asyncio.Future[Any]], failure: Exception) -> None:
        """Nothing of this group is promised to anyone. A commit is never tried again: after a failed fsync the
        kernel may have dropped the pages (fsyncgate). What was written of it is not in the index of the log, which
        whoever reads keeps open, so the next commit, on a connection of its own, writes over it."""
        system_errno = 0
        with contextlib.suppress(apsw.Error):
            system_errno = self._db.system_errno
        problem = outside(failure, system_errno)
        if self._committed is not None:
            self._committed(len(group), None)
        for done in group:
            if not done.done():
                done.set_exception(problem)
        self._broken = True
        with contextlib.suppress(apsw.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _after_group(self) -> None:
        self._go_on()
        due = self._copies and (self._copied or self._wal_pages > CHECKPOINT_PAGES + self._uncopied)
        if due and self._checkpointing is None and not self._broken and not self.doubtful:
            # SQLite begins its log anew only when nothing was committed while the last of it was copied. So commits go
            # on while most of it is copied and wait while the little that came meanwhile is.
            self._holding = self._copied
            self._copied = not self._copied
            self._uncopied = self._wal_pages if self._holding else 0
            loop = asyncio.get_running_loop()
            self._checkpointing = loop.run_in_executor(self._thread, self._checkpoint, self._db.filename)
            self._checkpointing.add_done_callback(self._checkpointed)
        if self._checkpointing and self._wal_pages > MAX_WAL_PAGES_RATIO * CHECKPOINT_PAGES + self._uncopied:
            self._holding = True

    def _go_on(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_group)

    @staticmethod
    def _checkpoint(filename: str) -> None:
        """Copy the log into the database without stopping any reader."""
        db = apsw.Connection(filename)
        try:
            db.pragma("user_version")  # until it has read something, a connection does not know that there is a log
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        finally:
            db.close()

    def _checkpointed(self, done: asyncio.Future[None]) -> None:
        self._checkpointing = None
        self._holding = False
        failure = done.exception()
        self.doubtful = self.doubtful or (failure is not None and _sync_failed(failure))
        self._go_on()


def outside(failure: Exception, system_errno: int = 0) -> Problem:
    """The problem to tell for what SQLite said, and the system said to SQLite."""
    if isinstance(failure, Problem):
        return failure
    if _no_room(failure, system_errno):
        return StorageFull("There is no room left on the disk; reading still works.", retry_after=5)
    if isinstance(failure, apsw.Error | OSError):
        return Unavailable(f"The data could not be written ({type(failure).__name__}); the outcome is unknown.")
    return Internal(f"A write failed unexpectedly ({type(failure).__name__}).")


def _no_room(failure: Exception, system_errno: int) -> bool:
    """SQLite calls a disk full only at ENOSPC; a quota and a limit of the file's size are the same to us. Not where a
    sync failed: then the outcome is unknown, whatever the reason."""
    if isinstance(failure, OSError):
        return failure.errno in NO_ROOM
    if isinstance(failure, apsw.IOError):
        return system_errno in NO_ROOM and not _sync_failed(failure)
    return isinstance(failure, apsw.FullError)


def _sync_failed(failure: BaseException) -> bool:
    return getattr(failure, "extendedresult", None) == apsw.SQLITE_IOERR_FSYNC
