"""Numbering: how a flight of drafts becomes messages, in one transaction.

The document of a thread holds its head. A transaction moves the head, which no two can do at once, and inserts the
messages with the numbers in between; so a reader never sees a number before those below it, and none is used twice.
Who is in a thread as what is changed only together with the `version` in that same document. A flight names the head
and the version it believes in; where they are others by now nothing is written, it looks again, and whoever was
removed meanwhile is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import pymongo
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from hubbub.core.errors import NOT_HERE, KeyConflict, NotFound, Problem, Unavailable
from hubbub.core.nouns import Draft, Message
from hubbub.stores import mongo_rows as rows
from hubbub.stores.mongo_lanes import Flight, Landed, Posting
from hubbub.stores.mongo_rows import Doc
from hubbub.stores.mongo_server import AWAY, PATIENCE_S, Server, is_duplicate

MAX_KNOWN = 50_000

SPLIT_S = 0.2
"""For so long a flight that meets another node's begins again as a whole."""

NO_THREAD = "There is no such thread."


class _Stale(Exception):
    """What this node believed of a thread was not true any more."""


class _Crowded(Exception):
    """Somebody has kept one of these threads for long; the others need not wait for it."""


class _Known:
    """What this node believes of a thread."""

    __slots__ = ("head", "roles", "version")

    def __init__(self, head: int, version: int) -> None:
        self.head = head
        self.version = version
        self.roles: dict[str, str | None] = {}  # of whoever wrote lately, as of `version`; None: not in it


class _Plan:
    """What a flight comes to: who is refused, what is inserted, whose marks and which heads move."""

    def __init__(self) -> None:
        self.outcomes: dict[Posting, Message | Problem | Posting] = {}  # another posting: it repeats that one
        self.messages: list[Doc] = []
        self.heads: list[UpdateOne] = []
        self.marks: list[UpdateOne] = []
        self.moved: dict[str, int] = {}
        self.refused: set[str] = set()  # threads somebody may not write to
        self._keys: dict[tuple[str, str], Posting] = {}

    def thread(self, thread: str, known: _Known | None, postings: Sequence[Posting]) -> None:
        if known is None:
            self.outcomes |= {posting: NotFound(NO_THREAD) for posting in postings}
            return
        head, first, mark = known.head, "", 0
        for posting in postings:
            draft = posting.draft
            key = None if draft.key is None else (draft.sender, draft.key)
            if posting.roles is not None and known.roles[draft.sender] not in posting.roles:
                self.outcomes[posting] = NotFound(NOT_HERE)
                self.refused.add(thread)
            elif key is not None and key in self._keys:
                self.outcomes[posting] = self._keys[key]
            else:
                head += 1
                message = self.outcomes[posting] = draft.numbered(head)
                self.messages.append(rows.of_message(message, draft.key))
                if key is not None:
                    self._keys[key] = posting
                if head == known.head + 1:
                    first = draft.sender
                if draft.sender == first and mark in (0, head - 1):
                    mark = head
        if head > known.head:
            believed = {"_id": thread, "head": known.head, "version": known.version}
            self.heads.append(UpdateOne(believed, {"$set": {"head": head}}))
            # Nobody but the sender of the first message can have seen all that was before theirs.
            self.marks.append(own_mark(thread, first, known.head, mark))
            self.moved[thread] = head

    def may_be_stored(self, draft: Draft) -> bool:
        """Could a draft that was refused have been stored by an earlier call?"""
        return draft.key is not None and (draft.sender, draft.key) not in self._keys


def own_mark(thread: str, sender: str, before: int, seq: int) -> UpdateOne:
    """Whoever had seen everything before their own message has seen that, too."""
    return UpdateOne({"thread": thread, "member": sender, "seen": before}, {"$set": {"seen": seq}})


class Appends:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: dict[str, _Known] = {}
        self._flying: Counter[str] = Counter()  # threads that are being written to

    def forget(self, thread: str) -> None:
        """It changes in another way than by a flight."""
        self._known.pop(thread, None)

    async def fly(self, flight: Flight, shared: bool, landed: Landed) -> set[str]:
        """Write the drafts and tell each how it went.

        Args:
            shared: another node writes to these threads, too.
            landed: is given those threads that are done with while others of the flight are kept by somebody.

        Returns: the threads that turned out to be shared. Raises PyMongoError: the outcome is unknown for all that
        were not told.
        """
        self._flying.update(flight.keys())
        try:
            return await self._fly(flight, shared, landed)
        finally:
            self._flying -= Counter(flight.keys())

    async def _half(self, flight: Flight, landed: Landed) -> set[str]:
        met = await self.fly(flight, True, landed)
        landed(flight)
        return met

    async def _fly(self, flight: Flight, shared: bool, landed: Landed) -> set[str]:
        until = time.monotonic() + PATIENCE_S
        split_at = time.monotonic() + SPLIT_S
        if len(self._known) > MAX_KNOWN:
            self._known = {thread: known for thread, known in self._known.items() if thread in self._flying}
        believed: dict[str, _Known] = {}
        hold_first = shared
        tries = 0

        async def attempt(session: AsyncClientSession) -> _Plan:
            nonlocal believed, hold_first, tries
            tries += 1
            if tries > 1:
                believed = self._forget(flight) | believed
                hold_first = True
                if len(flight) > 1 and time.monotonic() > split_at:
                    raise _Crowded
            if hold_first:  # what is read after this is true until the end
                held = {"_id": {"$in": list(flight)}}
                await self._server["threads"].update_many(held, {"$inc": {"touched": 1}}, session=session)
            return await self._attempt(session, flight)

        with pymongo.timeout(PATIENCE_S):
            while flight:
                tries = 0
                try:
                    plan = await self._server.transaction(attempt)
                    moved = {thread for thread, known in believed.items() if self._differs(thread, known)}
                    await self._settle(plan)
                    return moved
                except _Crowded:
                    threads = list(flight.items())
                    halves = dict(threads[::2]), dict(threads[1::2])
                    met: set[str] = set()
                    for half in await asyncio.gather(
                        *(self._half(half, landed) for half in halves), return_exceptions=True
                    ):
                        if isinstance(half, BaseException):
                            raise half from None
                        met |= half
                    return met
                except _Stale:
                    believed = self._forget(flight) | believed
                    hold_first = True
                except PyMongoError as failure:
                    self._forget(flight)
                    if not is_duplicate(failure):
                        raise
                    flight = await self._without_repeats(flight)
                except BaseException:
                    self._forget(flight)
                    raise
                if time.monotonic() > until:
                    raise Unavailable(AWAY, retry_after=1)
        return set()

    def _forget(self, flight: Flight) -> dict[str, _Known]:
        """What was believed of these threads."""
        return {thread: known for thread in flight if (known := self._known.pop(thread, None))}

    def _differs(self, thread: str, before: _Known) -> bool:
        now = self._known.get(thread)
        return now is None or (now.head, now.version) != (before.head, before.version)

    async def _attempt(self, session: AsyncClientSession, flight: Flight) -> _Plan:
        remembered = flight.keys() & self._known.keys()
        await self._learn(session, flight)
        plan = _Plan()
        for thread, postings in flight.items():
            plan.thread(thread, self._known.get(thread), postings)
        if (plan.refused & remembered) - plan.moved.keys():
            raise _Stale  # they may have come back meanwhile, and nothing that is written would tell
        if plan.messages:
            moved = await self._server["threads"].bulk_write(plan.heads, session=session)
            if moved.matched_count < len(plan.heads):
                raise _Stale
            await self._server["memberships"].bulk_write(plan.marks, session=session)
            await self._server["messages"].insert_many(plan.messages, session=session)
        return plan

    async def _learn(self, session: AsyncClientSession, flight: Flight) -> None:
        unknown = [thread for thread in flight if thread not in self._known]
        if unknown:
            live = {"_id": {"$in": unknown}, "deleting": False}
            async for doc in self._server["threads"].find(live, {"head": 1, "version": 1}, session=session):
                self._known[doc["_id"]] = _Known(doc["head"], doc["version"])
        strangers = []
        for thread, postings in flight.items():
            known = self._known.get(thread)
            if known is not None:
                if len(known.roles) > MAX_KNOWN:
                    known.roles.clear()
                senders = {posting.draft.sender for posting in postings if posting.roles is not None}
                if new := senders - known.roles.keys():
                    known.roles |= dict.fromkeys(new)
                    strangers.append({"thread": thread, "member": {"$in": list(new)}})
        if strangers:
            fields = {"thread": 1, "member": 1, "role": 1}
            async for doc in self._server["memberships"].find({"$or": strangers}, fields, session=session):
                self._known[doc["thread"]].roles[doc["member"]] = doc["role"]

    async def _settle(self, plan: _Plan) -> None:
        """Tell everybody. A key that was used before gives its first message, also to one who may not write there any
        more."""
        refused: dict[Posting, Problem] = {}
        for thread, head in plan.moved.items():
            self._known[thread].head = head
        for posting, outcome in plan.outcomes.items():
            if isinstance(outcome, Posting):
                stored = plan.outcomes[outcome]
                assert isinstance(stored, Message)
                posting.tell(again(posting.draft, stored))
            elif isinstance(outcome, Problem) and plan.may_be_stored(posting.draft):
                refused[posting] = outcome
            else:
                posting.tell(outcome)
        if refused:
            first = await self._first(list(refused))
            for posting, problem in refused.items():
                posting.tell(first.get(posting, problem))

    async def _without_repeats(self, flight: Flight) -> Flight:
        """Some key was used before: tell those, and return the rest."""
        keyed = [posting for postings in flight.values() for posting in postings if posting.draft.key is not None]
        first = await self._first(keyed)
        if not first:  # whoever used it is only just committing
            await asyncio.sleep(0.005)
        for posting, outcome in first.items():
            posting.tell(outcome)
        return {
            thread: rest
            for thread, postings in flight.items()
            if (rest := [posting for posting in postings if posting not in first])
        }

    async def _first(self, postings: Sequence[Posting]) -> Mapping[Posting, Message | KeyConflict]:
        """What is stored under the keys of these."""
        by_sender: dict[str, list[str]] = {}
        for posting in postings:
            assert posting.draft.key is not None
            by_sender.setdefault(posting.draft.sender, []).append(posting.draft.key)
        ours = {"$or": [{"sender": sender, "key": {"$in": keys}} for sender, keys in by_sender.items()]}
        stored: dict[tuple[str, str | None], Message] = {}
        async for doc in self._server["messages"].find(ours):
            stored[doc["sender"], doc["key"]] = rows.message(doc)
        return {
            posting: again(posting.draft, message)
            for posting in postings
            if (message := stored.get((posting.draft.sender, posting.draft.key)))
        }


def again(draft: Draft, first: Message) -> Message | KeyConflict:
    """What a draft comes to whose key has been used for `first`."""
    if draft.same_body(first):
        return first
    return KeyConflict(f"The key {draft.key!r} was already used for another message.")
