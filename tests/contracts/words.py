"""Drafts, threads, runs and tasks, with only what a test is about spelled out."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from hubbub.core.frames import RunDelta
from hubbub.core.nouns import Draft, Membership, Message, Prompt, Run, Task, Thread, new_id, stamp
from hubbub.core.ports import Event, Store

T = TypeVar("T")

BIG = 1 << 30
"""More bytes than any page has."""


def draft(text: str = "hello", sender: str = "alice", thread: str = "garden", **more: Any) -> Draft:
    return Draft(
        **{"thread": thread, "sender": sender, "text": text, "timestamp": stamp(0), "destination": thread} | more
    )


async def open_thread(store: Store, *members: str, id: str = "garden", **more: Any) -> Thread:
    return await store.create_thread(
        Thread(id=id, **more), [Membership(thread=id, member=member) for member in members]
    )


async def log(store: Store, thread: str = "garden") -> list[Message]:
    """Everything in the thread."""
    return (await store.read_after(thread, 0, 1_000_000, BIG)).messages


async def texts(store: Store, thread: str = "garden") -> list[str]:
    return [message.text for message in await log(store, thread)]


async def seen(store: Store, member: str, thread: str = "garden") -> int:
    return next(m.seen for m in await store.memberships(thread) if m.member == member)


def run_of(assistant: str = "openai", trigger: int = 1, thread: str = "garden", **more: Any) -> Run:
    return Run(**{"id": new_id(), "thread": thread, "assistant": assistant, "trigger": trigger} | more)


def task_of(run: str, attempt: int = 1, thread: str = "garden") -> Task:
    prompt = Prompt(run=run, assistant="openai", turns=())
    return Task(run=run, thread=thread, assistant="openai", attempt=attempt, prompt=prompt)


def delta(run: str, offset: int, text: str, attempt: int = 1, thread: str = "garden") -> Event:
    frame = RunDelta(run=run, thread=thread, assistant="openai", attempt=attempt, offset=offset, text=text)
    return Event(thread, frame)


def begun(work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """`work`, whose first step is taken here and now, so that its place among the calls around it is certain."""
    try:
        first = work.send(None)
    except StopIteration as finished:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        done.set_result(finished.value)
        return done
    return asyncio.ensure_future(_rest(first, work))


@types.coroutine
def _rest(first: Any, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    yield first
    return (yield from work)
