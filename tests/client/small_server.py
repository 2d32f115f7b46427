"""A server of one file that keeps the contract's delivery rules, and breaks its connections when told to.

Everything is in memory and survives `stop` and `start`, as a disk would.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from hubbub.core import frames, names, wire
from hubbub.core.errors import OUTSIDE
from hubbub.core.framing import Splitter, prefixed
from hubbub.core.nouns import LOBBY, Message

TIME = "2026-11-20T20:37:00.123Z"


class Session:
    def __init__(self, server: SmallServer, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.writer = writer
        self.user = ""
        self.hello: frames.Hello | None = None
        self.cut_after: int | None = None  # bytes until the connection breaks

    def say(self, frame: frames.Frame, times: int = 1) -> None:
        data = prefixed(wire.encode(frame)) * times
        if self.cut_after is not None and self.cut_after < len(data):
            self.writer.write(data[: self.cut_after])
            self.close()
            return
        if self.cut_after is not None:
            self.cut_after -= len(data)
        self.writer.write(data)

    def close(self) -> None:
        self.server.sessions.discard(self)
        self.writer.close()

    def refuse(self, request: frames.Request, code: str, detail: str = "", **more: Any) -> None:
        id = {} if request.id is None else {"id": request.id}
        title = OUTSIDE[code].title
        self.say(frames.Error(code=code, title=title, detail=detail or title, **id, **more))


class SmallServer:
    def __init__(self) -> None:
        self.epoch = "one"
        self.logs: dict[str, list[Message]] = {LOBBY: []}
        self.members: dict[str, list[str]] = {LOBBY: []}
        self.seen: dict[tuple[str, str], int] = {}
        self.acked: dict[tuple[str, str], Message] = {}
        self.sessions: set[Session] = set()
        self.hellos: list[frames.Hello] = []
        self.requests: list[frames.Request] = []
        self.before: Callable[[Session, frames.Request], bool] | None = None  # True: it was dealt with
        self.after: Callable[[Session, frames.Request], None] | None = None
        self.times = 1  # how often each event is said
        self.port = 0
        self._listening: asyncio.Server | None = None

    async def __aenter__(self) -> SmallServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._listening is not None
        self._listening.close()
        self.cut()
        await self._listening.wait_closed()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def cut(self) -> None:
        for session in list(self.sessions):
            session.close()

    def shout(self, frame: frames.Frame, thread: str = LOBBY) -> None:
        for session in list(self.sessions):
            if session.user in self.members[thread]:
                session.say(frame, self.times)

    def private(self, one: str, other: str) -> str:
        thread = "-".join(sorted((names.key(one), names.key(other)))).replace(".", "_")
        self.logs.setdefault(thread, [])
        self.members.setdefault(thread, [one, other])
        return thread

    def post(self, sender: str, text: str, *, to: str = "", thread: str = "", **more: Any) -> Message:
        thread = thread or self.private(sender, to)
        seq = len(self.logs[thread]) + 1
        others = [name for name in self.members[thread] if name != sender]
        message = Message(
            id=f"{seq}-{thread}",
            thread=thread,
            seq=seq,
            sender=sender,
            destination=others[0] if thread != LOBBY and len(others) == 1 else thread,
            type=more.pop("type", "chat"),
            text=text,
            timestamp=TIME,
            metadata=more.pop("metadata", {}),
            **more,
        )
        self.logs[thread].append(message)
        if self.seen.get((thread, sender), 0) == seq - 1:
            self.seen[thread, sender] = seq
        self.shout(frames.MessageFrame(thread=thread, seq=seq, message=message), thread)
        return message

    def texts(self, thread: str) -> list[str]:
        return [message.text for message in self.logs[thread]]

    def view(self, thread: str, user: str | None = None) -> frames.ThreadView:
        mine = {} if user is None else {"seen": self.seen.get((thread, user), 0)}
        members = self.members[thread]
        return frames.ThreadView(
            id=thread,
            title="",
            members=members,
            member_count=len(members),
            head=len(self.logs[thread]),
            public=thread == LOBBY,
            **mine,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, writer)
        splitter = Splitter()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for payload in splitter.feed(data):
                    if writer.transport.is_closing():
                        break  # what arrived behind a cut is lost with it
                    request = wire.decode(payload)
                    self.requests.append(request)
                    if self.before is None or not self.before(session, request):
                        self.do(session, request)
                    if self.after is not None:
                        self.after(session, request)
        session.close()

    def do(self, session: Session, request: frames.Request) -> None:
        id = request.id
        match request:
            case frames.Hello():
                self._welcome(session, request)
            case frames.MessageSend():
                self._send(session, request)
            case frames.Seen():
                place = request.thread, session.user
                self.seen[place] = max(request.seq, self.seen.get(place, 0))
                session.say(frames.Ok(id=id))
            case frames.WhoGet():
                session.say(frames.Who(id=id, online=sorted({s.user for s in self.sessions})))
            case frames.ThreadList():
                session.say(frames.Threads(id=id, threads=[self.view(t, session.user) for t in self.logs]))
            case frames.HistoryGet():
                log = [m for m in self.logs[request.thread] if request.before is None or m.seq < request.before]
                session.say(
                    frames.History(
                        id=id,
                        thread=request.thread,
                        messages=log[-request.limit :],
                        more=len(log) > request.limit,
                    )
                )
            case frames.Check():
                self._check(session, request)
            case frames.ThreadJoin():
                if session.user not in self.members[request.thread]:
                    self.members[request.thread].append(session.user)
                session.say(frames.ThreadFrame(id=id, thread=self.view(request.thread, session.user)))
            case frames.Ping():
                session.say(frames.Pong(id=id))
            case frames.ByeSend():
                session.close()

    def _welcome(self, session: Session, hello: frames.Hello) -> None:
        self.hellos.append(hello)
        user = hello.user or (hello.token or "").removeprefix("token-")
        session.user, session.hello = user, hello
        if user not in self.members[LOBBY]:
            self.members[LOBBY].append(user)
            self.seen[LOBBY, user] = len(self.logs[LOBBY])
        mine = [thread for thread, members in self.members.items() if user in members]
        session.say(
            frames.Welcome(
                user=user,
                token=f"token-{user}",
                session="s",
                server={"name": "small", "version": "0", "time": TIME, "epoch": self.epoch},
                threads=[self.view(thread, user) for thread in mine],
                limits={},
            )
        )
        heard = hello.resume.threads if hello.resume else {}
        for thread in mine:
            after = heard.get(thread, self.seen.get((thread, user), 0))
            for message in self.logs[thread][after:]:
                session.say(
                    frames.MessageFrame(thread=thread, seq=message.seq, message=message, stored=True), self.times
                )
        self.sessions.add(session)

    def _send(self, session: Session, request: frames.MessageSend) -> None:
        thread = request.thread or self.private(session.user, request.to or "")
        message = self.acked.get((session.user, request.key or ""))
        if message is None:
            message = self.post(
                session.user,
                request.text,
                thread=thread,
                type=request.message_type,
                metadata=request.metadata,
                reply_to=request.reply_to,
            )
            if request.key:
                self.acked[session.user, request.key] = message
        elif (message.text, message.metadata) != (request.text, request.metadata):
            session.refuse(request, "key_conflict")
            return
        away = [n for n in self.members[thread] if n not in {s.user for s in self.sessions}]
        session.say(
            frames.Ack(
                id=request.id,
                thread=thread,
                seq=message.seq,
                message=message.id,
                timestamp=TIME,
                delivery="stored" if away else "live",
                offline=away,
                offline_count=len(away),
            )
        )

    def _check(self, session: Session, request: frames.Check) -> None:
        count = 0
        for thread, members in self.members.items():
            if session.user not in members:
                continue
            for message in self.logs[thread][self.seen.get((thread, session.user), 0) :]:
                if message.sender != session.user:
                    count += 1
                    session.say(
                        frames.MessageFrame(id=request.id, thread=thread, seq=message.seq, message=message, stored=True)
                    )
            self.seen[thread, session.user] = len(self.logs[thread])
        session.say(frames.Checked(id=request.id, count=count))
