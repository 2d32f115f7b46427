"""The rows of the database and the nouns they are: columns in one order, and a function that reads them in it."""

from __future__ import annotations

from typing import Any

import msgspec

from hubbub.core.nouns import Kind, Member, Message, Run, RunState, Thread

MESSAGE = "id, thread, seq, sender, destination, type, text, timestamp, metadata, reply_to, run"
RUN = "id, thread, assistant, trigger_, depth, state, attempt, error, message, seq, asked_by"
THREAD = """
    id, title, public, pair IS NOT NULL,
    (SELECT coalesce(max(seq), 0) FROM messages WHERE thread = threads.id),
    member_count
"""
_from_json = msgspec.json.Decoder(dict[str, Any]).decode


def member(row: tuple[Any, ...]) -> Member:
    return Member(name=row[0], kind=Kind(row[1]), arrived=bool(row[2]))


def message(row: tuple[Any, ...]) -> Message:
    id, thread, seq, sender, destination, type, text, timestamp, metadata, reply_to, run = row
    return Message(
        id=id,
        thread=thread,
        seq=seq,
        sender=sender,
        destination=destination or thread,
        type=type,
        text=text,
        timestamp=timestamp,
        metadata=_from_json(metadata) if metadata else {},
        reply_to=reply_to,
        run=run,
    )


def thread(row: tuple[Any, ...]) -> Thread:
    return Thread(id=row[0], title=row[1], public=bool(row[2]), private=bool(row[3]), head=row[4], member_count=row[5])


def run(row: tuple[Any, ...]) -> Run:
    id, thread, assistant, trigger, depth, state, attempt, error, message, seq, asked_by = row
    return Run(
        id=id,
        thread=thread,
        assistant=assistant,
        trigger=trigger,
        depth=depth,
        state=RunState(state),
        attempt=attempt,
        error=error,
        message=message,
        seq=seq,
        asked_by=asked_by,
    )
