"""What Hubbub talks about: members, threads, messages and runs. Read this file first.

A *member* (a person, an assistant or a device) posts *messages* to *threads*. The store numbers the messages
of each thread 1, 2, 3 …; that number, the *seq*, is all a reader needs to remember. A *run* is an assistant's
message while it is still being written.

They are msgspec structs rather than dataclasses because every message is made once and encoded once on the hot
path: a frozen struct of twelve fields costs about a tenth of a frozen dataclass, and encodes itself.
"""

from __future__ import annotations

import datetime as dt
import secrets
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

LOBBY = "lobby"
"""The public thread that always exists and that every newcomer is silently a member of."""

SHOWN_MEMBERS = 50
"""At most this many names are listed in a thread or an acknowledgement; counts are exact."""


_exact = msgspec.json.Encoder(order="sorted").encode


class MessageType(StrEnum):
    CHAT = "chat"
    COMMAND = "command"
    NOTIFICATION = "notification"
    SUBSCRIPTION = "subscription"


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


class Kind(StrEnum):
    PERSON = "person"
    ASSISTANT = "assistant"
    DEVICE = "device"


class Role(StrEnum):
    """What a member may do in a thread: a reader reads, a member also writes and brings others in, an owner also says
    who is in it and what it is called."""

    OWNER = "owner"
    MEMBER = "member"
    READER = "reader"

    __hash__ = str.__hash__  # Enum's is written in Python, and this is asked for every message


class Scope(StrEnum):
    """What a token allows, of what its member may do."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    __hash__ = str.__hash__


class Noun(msgspec.Struct, frozen=True, kw_only=True):
    """Common settings of the nouns: immutable, made by keyword."""


class Member(Noun, frozen=True, kw_only=True):
    """Who can speak. `name` is the first spelling used; names are equal when their keys are (see names.py)."""

    name: str
    kind: Kind = Kind.PERSON
    arrived: bool = False  # has ever signed in; somebody unknown can be written to before that


class Message(Noun, frozen=True, kw_only=True):
    """What was said. `seq`, `id`, `sender` and `timestamp` are the server's; a client cannot set them."""

    id: str
    thread: str
    seq: int
    sender: str
    destination: str
    type: str
    text: str
    timestamp: str  # UTC, RFC 3339, milliseconds
    metadata: dict[str, Any]
    reply_to: str | None = None
    run: str | None = None


class Draft(Noun, frozen=True, kw_only=True):
    """A message before the store has numbered it. `key` makes the same draft count once per sender."""

    thread: str
    sender: str
    text: str
    timestamp: str
    destination: str
    type: str = "chat"
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    reply_to: str | None = None
    run: str | None = None
    key: str | None = None

    def numbered(self, seq: int) -> Message:
        """The message it becomes under that number."""
        return Message(
            id=message_id(seq),
            thread=self.thread,
            seq=seq,
            sender=self.sender,
            destination=self.destination,
            type=self.type,
            text=self.text,
            timestamp=self.timestamp,
            metadata=self.metadata,
            reply_to=self.reply_to,
            run=self.run,
        )

    def same_body(self, message: Message) -> bool:
        """Is `message` what storing this draft would have made? Decides between a repeat and a key conflict."""
        return (
            self.thread == message.thread
            and self.text == message.text
            and self.type == message.type
            and _exact(self.metadata) == _exact(message.metadata)  # Python calls 1, 1.0 and True equal
            and self.reply_to == message.reply_to
        )


class Thread(Noun, frozen=True, kw_only=True):
    """Where it is said. A private thread belongs to its two members for good; nobody can be added."""

    id: str
    title: str = ""
    public: bool = False
    private: bool = False
    head: int = 0  # seq of the newest message, 0 when there is none
    member_count: int = 0


class Membership(Noun, frozen=True, kw_only=True):
    """A member in a thread, and how far they have heard (`seen`, a seq; 0 means from the beginning)."""

    thread: str
    member: str
    seen: int = 0
    role: Role = Role.MEMBER


class Account(Noun, frozen=True, kw_only=True):
    """A name that has to be proved. What was signed for an earlier `generation` is worth nothing any more."""

    name: str
    password: str = ""  # its hash; without one, tokens alone prove the name
    admin: bool = False
    disabled: bool = False
    generation: int = 1


class Token(Noun, frozen=True, kw_only=True):
    """A credential without a password, for a device, a bot or a program. Only the hash of its secret is kept."""

    id: str
    member: str
    label: str
    digest: str  # SHA-256 of the secret, hexadecimal
    scopes: tuple[Scope, ...]
    created: float  # Unix seconds, as every time here
    expires: float | None = None
    revoked: bool = False


class Rights(Noun, frozen=True, kw_only=True):
    """What changed about who may sign in, after a version: the cursor of a log of which only the newest entry for each
    account, token and sign-in is kept."""

    version: int
    accounts: tuple[Account, ...] = ()
    tokens: tuple[Token, ...] = ()
    signed_out: dict[str, float] = {}  # id of a signed token -> when it would have expired


class Run(Noun, frozen=True, kw_only=True):
    """An answer being written. `trigger` is the seq of the message that asked for it, 0 when nobody wrote one."""

    id: str
    thread: str
    assistant: str
    trigger: int
    depth: int = 0  # how many assistants have answered each other so far
    state: RunState = RunState.QUEUED
    attempt: int = 1
    error: str | None = None
    message: str | None = None  # id of the message it ended in
    seq: int | None = None
    asked_by: str = ""  # whose turn in the queue it takes


class Assistant(Noun, frozen=True, kw_only=True):
    """A member that answers, and when: addressed (triggers.py), and also by itself after `every` messages of others
    (0: never), or every `every_s` seconds while people listen (0: never)."""

    name: str
    instructions: str = ""
    engine: str = ""  # who writes for it; empty: whoever the server is set to
    model: str = ""  # empty: the engine's own
    personalities: dict[str, str] = {}  # name -> instructions; the first one is in force until another is chosen
    every: int = 0
    every_s: float = 0.0
    in_turn: bool = False  # waits for the answers that were asked for before, and is shown them
    owner: str = ""  # who made it; empty: it came with the server


class Turn(Noun, frozen=True, kw_only=True):
    """One line of what a model is shown. `role` is system, user or assistant; `name` is who said it."""

    role: str
    name: str
    text: str


class Prompt(Noun, frozen=True, kw_only=True):
    """Everything an engine needs to answer once: the thread's recent turns, newest last."""

    run: str
    assistant: str
    turns: tuple[Turn, ...]
    model: str = ""  # empty: the engine's own
    personality: str = ""  # its name, where the assistant has several; its instructions are among the turns


class Task(Noun, frozen=True, kw_only=True):
    """A run in the queue, with its prompt, so that a worker never has to open the store. `engine` names who writes it,
    `member` who asked."""

    run: str
    thread: str
    assistant: str
    attempt: int
    prompt: Prompt
    engine: str = "demo"
    member: str = ""


def new_id() -> str:
    """An opaque, unguessable id: 128 random bits, letters, digits, `_` and `-`."""
    return secrets.token_urlsafe(16)


def new_generation() -> int:
    """What makes everything that was signed before worth nothing. Random, so that no value comes again after a backup
    was restored; at most 2^53, as a number in JSON may be."""
    return secrets.randbits(53) + 1


def message_id(seq: int) -> str:
    """An id that carries its seq, so that `reply_to` is found without an index of its own."""
    return f"{seq}-{secrets.token_urlsafe(9)}"


def seq_of(message: str) -> int:
    """The seq inside a message id; 0 when the text is not one."""
    head, dash, _ = message.partition("-")
    return int(head) if dash and head.isascii() and head.isdigit() and len(head) <= 16 else 0


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def stamp(now: float) -> str:
    """Unix seconds as UTC RFC 3339 with milliseconds: `2026-11-20T20:37:00.123Z`. Formatting the second anew for
    every message was 7 of its 70 µs."""
    milliseconds = int(now * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"
