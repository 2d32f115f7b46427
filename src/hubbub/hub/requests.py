"""What each request of a connection does: the table, and the verbs that are about the connection itself."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import UNSET
from msgspec.structs import replace

from hubbub.core import frames
from hubbub.core.errors import NameTaken, Problem, Shutdown
from hubbub.core.forms import Shout
from hubbub.core.framing import MAX_FRAME_BYTES
from hubbub.hub import posting, threads

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub
    from hubbub.hub.session import Session

MAX_WHO = 3000
"""Names in one `who`, so that the reply is one frame however long they are."""

FINISH_S = 5.0
"""How long a client that has said all it will is still told what it missed."""


class Finish(frames.Request, frozen=True, kw_only=True):
    """The client has said all it will, but still listens."""


class Leave(frames.Request, frozen=True, kw_only=True):
    """The server goes away; what was asked before is answered first."""

    reason: str
    retry_after: float


class Answered(frames.Request, frozen=True, kw_only=True):
    """A place in the queue of requests for one that is answered already."""

    frame: frames.Frame


def error(problem: Problem, id: str | int | None) -> frames.Error:
    return frames.Error(
        code=problem.code,
        title=problem.outside.title,
        detail=problem.detail,
        retry_after=UNSET if problem.retry_after is None else problem.retry_after,
        id=UNSET if id is None else id,
    )


def with_id(frame: Any, id: str | int | None) -> Any:
    return frame if id is None else replace(frame, id=id)


# The verbs of a connection. Those that wait return an awaitable of their reply.


async def _hello(session: Session, request: frames.Hello) -> frames.Welcome | None:
    hub = session.hub
    if hub.stopping:
        raise Shutdown("The server is restarting.", retry_after=hub.back_in_s)
    if session.name:
        raise NameTaken(f"This connection speaks as '{session.name}' already; open another one.")
    token, cookie = request.token, session.cookie
    if request.password is not None:
        caller = await hub.gate.login(request.user or "", request.password, session.door.address)
    else:
        if token is None and request.user is None:
            token = session.offered
        caller = hub.gate.identify(token, request.user, session.door.address, cookie)
    views = await session.begin(caller, request.threads, request.resume)
    # A token with scopes of its own is not exchanged for a signed one, which has them all; and no script of a page is
    # to get hold of what a browser keeps.
    kept = (token or "") if caller.token or caller.by_cookie else hub.gate.issue(caller)
    welcome = frames.Welcome(
        user=session.name,
        token=kept,
        session=secrets.token_urlsafe(9),
        server={"name": "hubbub", "version": hub.version, "time": hub.stamp(), "epoch": hub.store.epoch},
        threads=views,
        limits=limits(hub),
    )
    session.tell([Shout(with_id(welcome, request.id))])
    session.listen()
    return None


async def _register(session: Session, request: frames.Register) -> frames.Registered:
    """A guest makes their name their own. What proved it until now is worth nothing from then on, but this connection
    goes on."""
    gate = session.hub.gate
    with gate.holding(session):
        session.caller = await gate.register(session.name, request.password, session.door.address, session.caller)
    return frames.Registered(user=session.name, token=gate.issue(session.caller))


def limits(hub: Hub) -> dict[str, int | float]:
    return {
        "frame_bytes": MAX_FRAME_BYTES,
        "text_bytes": hub.limits.text_bytes,
        "metadata_bytes": frames.MAX_METADATA_BYTES,
        "key_characters": frames.MAX_KEY,
        "title_characters": frames.MAX_TITLE,
        "history_messages": frames.MAX_HISTORY,
        "send_rate": hub.limits.send_rate,
        "send_burst": hub.limits.send_burst,
    }


async def _check(session: Session, request: frames.Check) -> frames.Checked:
    count = 0
    async for messages in posting.unseen(session.hub, session.caller):
        shouts = [
            Shout(
                with_id(frames.MessageFrame(thread=m.thread, seq=m.seq, message=m, stored=True), request.id),
                m.seq,
            )
            for m in messages
        ]
        session.tell(shouts)
        count += len(messages)
        await session.drained()
        if not session.ready:  # what nobody was told is not seen
            break
    return frames.Checked(count=count)


def _not_yet(session: Session, request: frames.MessageSend) -> None:
    """Sends have a path of their own, once somebody has said hello."""


def _who(session: Session, request: frames.WhoGet) -> frames.Who:
    return frames.Who(online=session.hub.people.everyone_online()[:MAX_WHO])


def _ping(session: Session, request: frames.Ping) -> frames.Pong:
    return frames.Pong()


def _bye(session: Session, request: frames.ByeSend) -> None:
    session.lost()
    session.door.end("", "bye")


async def _finish(session: Session, request: Finish) -> None:
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                await session.in_step()
                await session.door.settle()
    finally:
        _bye(session, frames.ByeSend())


def _leave(session: Session, request: Leave) -> None:
    session.end("shutdown", request.reason, retry_after=request.retry_after)


def _answered(session: Session, request: Answered) -> None:
    session.tell([Shout(request.frame)])


def _hub_verb(verb: Callable[..., Any]) -> Callable[[Session, Any], Any]:
    return lambda session, request: verb(session.hub, session.caller, request)


VERBS: dict[type[frames.Request], Callable[[Session, Any], Any]] = {
    Answered: _answered,
    Finish: _finish,
    Leave: _leave,
    frames.Hello: _hello,
    frames.Register: _register,
    frames.MessageSend: _not_yet,
    frames.ThreadCreate: _hub_verb(threads.create),
    frames.ThreadJoin: _hub_verb(threads.join),
    frames.ThreadLeave: _hub_verb(threads.leave),
    frames.ThreadAdd: _hub_verb(threads.add),
    frames.ThreadRemove: _hub_verb(threads.remove),
    frames.ThreadRole: _hub_verb(threads.set_role),
    frames.ThreadList: _hub_verb(threads.listing),
    frames.HistoryGet: _hub_verb(posting.history),
    frames.Check: _check,
    frames.Seen: _hub_verb(posting.seen),
    frames.TypingSend: _hub_verb(posting.typing),
    frames.WhoGet: _who,
    frames.RunStart: lambda session, request: session.hub.runs.start_by(session.caller, request),
    frames.RunCancel: lambda session, request: session.hub.runs.cancel_by(session.caller, request),
    frames.Ping: _ping,
    frames.ByeSend: _bye,
}
"""What every request does."""

OURS = frozenset({Answered, Finish, Leave})
"""What comes from the session itself, and takes nobody's permission."""

BEFORE_HELLO = frozenset({_hello, _bye, _finish, _leave, _answered})
"""What state NEW allows; anything else is refused by the session."""
