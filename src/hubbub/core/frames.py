"""The vocabulary: every frame that travels, as one declaration each. docs/protocol.md is tested against this file.

Requests come from clients; everything else goes to them. A frame that is not a reply is an *event*: it is what
the bus carries and what fan-out writes, the same object for every transport.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hubbub.core.framing import MAX_TEXT_BYTES as MAX_TEXT_BYTES
from hubbub.core.nouns import Message, Role

MAX_ANSWER_BYTES = 128 << 10
MAX_METADATA_BYTES = 16 << 10
MAX_KEY = 128
MAX_TITLE = 200
MAX_HISTORY = 200
DEFAULT_HISTORY = 50
MAX_HISTORY_BYTES = 512 << 10

Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Name = Annotated[str, Meta(min_length=1, max_length=256)]  # normalised and judged by names.py
Seq = Annotated[int, Meta(ge=0, le=2**53)]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY)]
Limit = Annotated[int, Meta(ge=1, le=MAX_HISTORY)]
Title = Annotated[str, Meta(max_length=MAX_TITLE)]
Password = Annotated[str, Meta(max_length=1024)]  # a new one is judged by whoever hashes it

SECRETS = frozenset({"password", "token"})
"""Fields that no log, traceback or message may show."""


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """One JSON object with a `type`."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        pairs = [(field, getattr(self, field)) for field in self.__struct_fields__]
        return [(field, "…" if value and field in SECRETS else value) for field, value in pairs]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{field}={value!r}' for field, value in self.__rich_repr__())})"


# Requests -------------------------------------------------------------------------------------------------------


class Request(Frame, frozen=True, kw_only=True):
    id: str | int | None = None  # echoed in the reply; checked by wire.py


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """Where a returning reader stopped: the epoch it knew, a seq per thread, [attempt, offset] per run."""

    epoch: str | None = None
    threads: dict[Id, Seq] = {}
    runs: dict[Id, tuple[Annotated[int, Meta(ge=0)], Seq]] = {}


class Hello(Request, frozen=True, kw_only=True, tag="hello"):
    token: str | None = None
    user: Name | None = None
    password: Password | None = None
    client: Annotated[str, Meta(max_length=200)] | None = None
    threads: Annotated[list[Id], Meta(max_length=256)] | None = None
    resume: Resume | None = None


class Register(Request, frozen=True, kw_only=True, tag="register"):
    password: Password


class MessageSend(Request, frozen=True, kw_only=True, tag="message.send"):
    text: str
    thread: Id | None = None
    to: Name | None = None
    message_type: str = "chat"
    metadata: dict[str, Any] = {}
    key: Key | None = None
    reply_to: Id | None = None


class ThreadCreate(Request, frozen=True, kw_only=True, tag="thread.create"):
    title: Title = ""
    members: Annotated[list[Name], Meta(max_length=1000)] = []
    public: bool = False


class ThreadJoin(Request, frozen=True, kw_only=True, tag="thread.join"):
    thread: Id


class ThreadLeave(Request, frozen=True, kw_only=True, tag="thread.leave"):
    thread: Id


class ThreadAdd(Request, frozen=True, kw_only=True, tag="thread.add"):
    thread: Id
    member: Name


class ThreadRemove(Request, frozen=True, kw_only=True, tag="thread.remove"):
    thread: Id
    member: Name


class ThreadRole(Request, frozen=True, kw_only=True, tag="thread.role"):
    thread: Id
    member: Name
    role: Role


class ThreadList(Request, frozen=True, kw_only=True, tag="thread.list"):
    public: bool = False


class HistoryGet(Request, frozen=True, kw_only=True, tag="history"):
    thread: Id
    after: Seq | None = None
    before: Seq | None = None
    limit: Limit = DEFAULT_HISTORY


class Check(Request, frozen=True, kw_only=True, tag="check"):
    pass


class Seen(Request, frozen=True, kw_only=True, tag="seen"):
    thread: Id
    seq: Seq


class TypingSend(Request, frozen=True, kw_only=True, tag="typing"):
    thread: Id


class WhoGet(Request, frozen=True, kw_only=True, tag="who"):
    pass


class RunStart(Request, frozen=True, kw_only=True, tag="run.start"):
    thread: Id
    assistant: Name


class RunCancel(Request, frozen=True, kw_only=True, tag="run.cancel"):
    run: Id


class Ping(Request, frozen=True, kw_only=True, tag="ping"):
    pass


class ByeSend(Request, frozen=True, kw_only=True, tag="bye"):
    pass


REQUESTS: dict[str, type[Request]] = {
    str(cls.__struct_config__.tag): cls
    for cls in (
        Hello,
        Register,
        MessageSend,
        ThreadCreate,
        ThreadJoin,
        ThreadLeave,
        ThreadAdd,
        ThreadRemove,
        ThreadRole,
        ThreadList,
        HistoryGet,
        Check,
        Seen,
        TypingSend,
        WhoGet,
        RunStart,
        RunCancel,
        Ping,
        ByeSend,
    )
}


# Replies --------------------------------------------------------------------------------------------------------


class Reply(Frame, frozen=True, kw_only=True):
    id: str | int | UnsetType = UNSET


class ThreadView(msgspec.Struct, frozen=True, kw_only=True):
    """A thread as its readers see it: at most 50 names. `seen` is there only for the one who asked."""

    id: str
    title: str
    members: list[str]
    member_count: int
    head: int
    public: bool
    seen: int | UnsetType = UNSET


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    thread: str
    assistant: str
    state: str
    attempt: int
    position: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


class Welcome(Reply, frozen=True, kw_only=True, tag="welcome"):
    user: str
    token: str
    session: str
    server: dict[str, str]
    threads: list[ThreadView]
    limits: dict[str, int | float]


class Registered(Reply, frozen=True, kw_only=True, tag="registered"):
    user: str
    token: str


class Ack(Reply, frozen=True, kw_only=True, tag="ack"):
    thread: str
    seq: int
    message: str
    timestamp: str
    delivery: str
    offline: list[str]
    offline_count: int
    hint: str | UnsetType = UNSET  # when nobody of that name was ever here, and somebody is called alike


class Error(Reply, frozen=True, kw_only=True, tag="error"):
    code: str
    title: str
    detail: str
    retry_after: float | UnsetType = UNSET


class Threads(Reply, frozen=True, kw_only=True, tag="threads"):
    threads: list[ThreadView]


class History(Reply, frozen=True, kw_only=True, tag="history"):
    thread: str
    messages: list[Message]
    more: bool


class Checked(Reply, frozen=True, kw_only=True, tag="checked"):
    count: int


class Ok(Reply, frozen=True, kw_only=True, tag="ok"):
    pass


class Who(Reply, frozen=True, kw_only=True, tag="who"):
    online: list[str]


class RunReply(Reply, frozen=True, kw_only=True, tag="run"):
    run: RunView


class Pong(Reply, frozen=True, kw_only=True, tag="pong"):
    pass


class ThreadFrame(Reply, frozen=True, kw_only=True, tag="thread"):
    """The reply to what changes a thread, and, without an `id`, the event that tells its members."""

    thread: ThreadView


# Events ---------------------------------------------------------------------------------------------------------


class MessageFrame(Reply, frozen=True, kw_only=True, tag="message"):
    """The one numbered event. With an `id` it is part of the answer to `check`."""

    thread: str
    seq: int
    message: Message
    stored: bool | UnsetType = UNSET


class RunFrame(Frame, frozen=True, kw_only=True):
    run: str
    thread: str
    assistant: str
    attempt: int


class RunQueued(RunFrame, frozen=True, kw_only=True, tag="run.queued"):
    position: int


class RunStarted(RunFrame, frozen=True, kw_only=True, tag="run.started"):
    pass


class RunDelta(RunFrame, frozen=True, kw_only=True, tag="run.delta"):
    """A piece of an answer. `offset` counts the Unicode code points before it."""

    offset: int
    text: str


class RunReset(RunFrame, frozen=True, kw_only=True, tag="run.reset"):
    """Throw away what you have of this run: a new attempt begins at offset 0."""


class RunCompleted(RunFrame, frozen=True, kw_only=True, tag="run.completed"):
    message: str
    seq: int


class RunCancelled(RunFrame, frozen=True, kw_only=True, tag="run.cancelled"):
    message: str
    seq: int


class RunFailed(RunFrame, frozen=True, kw_only=True, tag="run.failed"):
    message: str
    seq: int
    error: str


class Presence(Frame, frozen=True, kw_only=True, tag="presence"):
    user: str
    online: bool


class Typing(Frame, frozen=True, kw_only=True, tag="typing"):
    thread: str
    user: str


class Reset(Frame, frozen=True, kw_only=True, tag="reset"):
    """The cursor you hold for this thread cannot be continued: read it again."""

    thread: str
    reason: str


class Bye(Frame, frozen=True, kw_only=True, tag="bye"):
    code: str
    reason: str
    resume: bool
    retry_after: float


ENDS: dict[str, type[RunCompleted] | type[RunCancelled] | type[RunFailed]] = {
    "completed": RunCompleted,
    "cancelled": RunCancelled,
    "failed": RunFailed,
}

SERVER_FRAMES: tuple[type[Frame], ...] = (
    Welcome,
    Registered,
    Ack,
    Error,
    ThreadFrame,
    Threads,
    History,
    Checked,
    Ok,
    Who,
    RunReply,
    Pong,
    MessageFrame,
    RunQueued,
    RunStarted,
    RunDelta,
    RunReset,
    RunCompleted,
    RunFailed,
    RunCancelled,
    Presence,
    Typing,
    Reset,
    Bye,
)
