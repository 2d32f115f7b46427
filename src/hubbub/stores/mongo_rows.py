"""The documents of the database and the nouns they are."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from bson import Timestamp

from hubbub.core import names
from hubbub.core.nouns import Kind, Member, Membership, Message, Role, Run, RunState, Thread

Doc = dict[str, Any]

NEXT = Timestamp(0, 0)
"""As a field of a new document: the server's own clock, which ticks with every use and never goes back, not even when
another server takes over. It tells what came first, whichever node it came from."""

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(dict[str, Any]).decode


def of_message(message: Message, key: str | None) -> Doc:
    """Its document. The metadata are text in there: their names are the user's, and may be anything."""
    doc: Doc = {
        "_id": message.id,
        "thread": message.thread,
        "seq": message.seq,
        "sender": message.sender,
        "type": message.type,
        "text": message.text,
        "timestamp": message.timestamp,
    }
    if message.destination != message.thread:
        doc["destination"] = message.destination
    if message.metadata:
        doc["metadata"] = _to_json(message.metadata).decode()
    if message.reply_to is not None:
        doc["reply_to"] = message.reply_to
    if message.run is not None:
        doc["run"] = message.run
    if key is not None:
        doc["key"] = key
    return doc


def message(doc: Doc) -> Message:
    metadata = doc.get("metadata")
    return Message(
        id=doc["_id"],
        thread=doc["thread"],
        seq=doc["seq"],
        sender=doc["sender"],
        destination=doc.get("destination") or doc["thread"],
        type=doc["type"],
        text=doc["text"],
        timestamp=doc["timestamp"],
        metadata=_from_json(metadata) if metadata else {},
        reply_to=doc.get("reply_to"),
        run=doc.get("run"),
    )


def of_thread(thread: Thread, pair: str | None, member_count: int) -> Doc:
    """`version` counts the changes of who is in it as what, from where no thread that had the same id did; `deleting`:
    nobody is to find it any more."""
    doc: Doc = {
        "_id": thread.id,
        "n": NEXT,
        "title": thread.title,
        "public": thread.public,
        "head": 0,
        "member_count": member_count,
        "version": secrets.randbits(48),
        "touched": 0,
        "deleting": False,
    }
    if pair is not None:
        doc["pair"] = pair
    return doc


def thread(doc: Doc) -> Thread:
    return Thread(
        id=doc["_id"],
        title=doc["title"],
        public=doc["public"],
        private="pair" in doc,
        head=doc["head"],
        member_count=doc["member_count"],
    )


def pair(one: str, other: str) -> str:
    return "/".join(sorted((names.key(one), names.key(other))))  # no name contains a slash


def of_membership(thread: str, member: str, seen: int, role: Role) -> Doc:
    return {"thread": thread, "member": member, "n": NEXT, "seen": seen, "role": role.value, "personality": ""}


def membership(doc: Doc) -> Membership:
    return Membership(thread=doc["thread"], member=doc["member"], seen=doc["seen"], role=Role(doc["role"]))


def of_member(member: Member) -> Doc:
    return {
        "_id": names.key(member.name),
        "n": NEXT,
        "name": member.name,
        "kind": member.kind.value,
        "arrived": member.arrived,
    }


def member(doc: Doc) -> Member:
    return Member(name=doc["name"], kind=Kind(doc["kind"]), arrived=doc["arrived"])


def of_run(run: Run) -> Doc:
    return {
        "_id": run.id,
        "n": NEXT,
        "thread": run.thread,
        "assistant": run.assistant,
        "trigger": run.trigger,
        "depth": run.depth,
        "state": run.state.value,
        "open": not run.state.ended,
        "attempt": run.attempt,
        "error": run.error,
        "message": run.message,
        "seq": run.seq,
        "asked_by": run.asked_by,
    }


def run(doc: Doc) -> Run:
    return Run(
        id=doc["_id"],
        thread=doc["thread"],
        assistant=doc["assistant"],
        trigger=doc["trigger"],
        depth=doc["depth"],
        state=RunState(doc["state"]),
        attempt=doc["attempt"],
        error=doc["error"],
        message=doc["message"],
        seq=doc["seq"],
        asked_by=doc["asked_by"],
    )
