"""Answers being written, in the file of the default store. See `core.ports.Store` for what each method promises."""

from __future__ import annotations

from typing import Protocol, cast

from msgspec.structs import replace

from hubbub.core.nouns import Draft, Message, Run, RunState
from hubbub.stores import sqlite_rows as rows
from hubbub.stores.sqlite_accounts import File


class Log(File, Protocol):
    """What is needed of the store around this. All but `write` and `read` are for within the open group."""

    def head(self, thread: str) -> int: ...

    def forget_mark(self, thread: str, member: str) -> None: ...

    def append_now(self, draft: Draft) -> Message: ...


class SqliteRuns:
    def __init__(self, store: Log) -> None:
        self._store = store

    async def begin(self, run: Run) -> Run | None:
        def work() -> Run | None:
            db = self._store.writer
            asked = db.execute(
                "SELECT 1 FROM runs WHERE thread = ? AND assistant = ? AND trigger_ = ? AND trigger_ > 0",
                (run.thread, run.assistant, run.trigger),
            )
            if asked.fetchone() or db.execute("SELECT 1 FROM runs WHERE id = ?", (run.id,)).fetchone():
                return None
            self._store.head(run.thread)
            self._store.forget_mark(run.thread, run.assistant)
            db.execute(
                f"INSERT INTO runs ({rows.RUN}) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                (
                    run.id,
                    run.thread,
                    run.assistant,
                    run.trigger,
                    run.depth,
                    run.state,
                    run.attempt,
                    run.error,
                    run.message,
                    run.seq,
                    run.asked_by,
                ),
            )
            db.execute(
                "UPDATE memberships SET seen = max(seen, ?) WHERE thread = ? AND member = ?",
                (run.trigger, run.thread, run.assistant),
            )
            return run

        return cast("Run | None", await self._store.write(work))

    def last_asked(self, thread: str, assistant: str) -> int:
        sql = "SELECT coalesce(max(trigger_), 0) FROM runs WHERE thread = ? AND assistant = ? AND trigger_ > 0"
        return int(self._store.read(sql, (thread, assistant))[0][0])

    def one(self, id: str) -> Run | None:
        found = self._store.read(f"SELECT {rows.RUN} FROM runs WHERE id = ?", (id,))
        return rows.run(found[0]) if found else None

    def open(self) -> list[Run]:
        return [
            rows.run(row)
            for row in self._store.read(
                f"SELECT {rows.RUN} FROM runs WHERE state IN ('queued', 'running') ORDER BY n", ()
            )
        ]

    async def move(self, id: str, state: RunState, attempt: int) -> Run | None:
        def work() -> Run | None:
            run = self._open_run(id)
            if run is None or attempt < run.attempt:
                return None
            self._store.writer.execute("UPDATE runs SET state = ?, attempt = ? WHERE id = ?", (state, attempt, id))
            return replace(run, state=state, attempt=attempt)

        return cast("Run | None", await self._store.write(work))

    async def end(
        self, id: str, attempt: int, state: RunState, error: str | None, draft: Draft, personality: str | None
    ) -> Message | None:
        def work() -> Message | None:
            run = self._open_run(id)
            if run is None or attempt != run.attempt:
                return None
            message = self._store.append_now(draft)
            self._store.writer.execute(
                "UPDATE runs SET state = ?, error = ?, message = ?, seq = ? WHERE id = ?",
                (state, error, message.id, message.seq, id),
            )
            if personality is not None:
                self._store.writer.execute(
                    "UPDATE memberships SET personality = ? WHERE thread = ? AND member = ?",
                    (personality, run.thread, run.assistant),
                )
            return message

        return cast("Message | None", await self._store.write(work))

    def _open_run(self, id: str) -> Run | None:
        row = self._store.writer.execute(f"SELECT {rows.RUN} FROM runs WHERE id = ?", (id,)).fetchone()
        run = rows.run(row) if row else None
        return None if run is None or run.state.ended else run
