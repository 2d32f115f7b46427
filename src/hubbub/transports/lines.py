"""Line mode: a person with `nc` or `telnet` on the TCP port.

What is typed is read by `core.lines`, what is heard is shown by `core.screen`; this door turns one into requests and
writes the other. The member's cursor follows what was printed, once the socket has taken it.

Whose name has to be proved is asked for the password, and again when it was wrong: were they asked for a name, the
next password would become one, for everybody to see. Telnet is told not to show what is typed then; nc cannot be told,
so the question says that it will show. A program that ends its lines with CR LF, or has sent an IAC, is telnet.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import socket
import struct
import time
from collections.abc import Callable, Sequence
from enum import Enum

from msgspec import UNSET

from hubbub.core import frames, lines
from hubbub.core.errors import NotFound, Problem
from hubbub.core.forms import Shout
from hubbub.core.screen import HOLD_S, Screen
from hubbub.hub.hub import Hub
from hubbub.hub.session import Session
from hubbub.transports.door import SocketDoor

PROMPT = "Enter your username: "
MAX_LINE_BYTES = frames.MAX_TEXT_BYTES + 1024
MAX_HELD = 64
"""Lines that may wait while the name is being judged."""

MARK_AFTER_S = 0.5
"""Printed lines count as seen this long after they were written, unless the connection broke meanwhile."""

SHOWS = " (it will show as you type)"
IAC = b"\xff"
ECHO_OFF = b"\xff\xfb\x01"
"""IAC WILL ECHO: we would show what is typed, and then do not (RFC 857)."""
ECHO_ON = b"\xff\xfc\x01"

_HTTP = re.compile(rb" HTTP/1\.\d\s*$")


class LineForm:
    """One person's screen, as a form."""

    def __init__(self, door: LineDoor) -> None:
        self._door = door

    def encode(self, shouts: Sequence[Shout]) -> bytes:
        now = time.monotonic()
        return "".join([self._door.show(shout.frame, now) for shout in shouts]).encode()


class _At(Enum):
    NAME = "asked for a name"
    PASSWORD = "asked for its password"
    HELLO = "both are being judged; lines wait"
    TALK = "somebody is talking"
    NEW = "asked for a new password"
    AGAIN = "asked for it once more"


class LineDoor(SocketDoor):
    """A person's connection."""

    kind = "lines"
    __slots__ = (
        "_at",
        "_ended",
        "_held",
        "_hub",
        "_line",
        "_mark_timer",
        "_name",
        "_new",
        "_screen",
        "_skipping",
        "_telnet",
        "_tick_timer",
        "_tried",
        "_wrong",
        "session",
    )

    def __init__(self, hub: Hub, counted: str, *, greeted: bool, hello_s: float) -> None:
        super().__init__(counted=counted)
        self._hub = hub
        self._line = b""
        self._skipping = False
        self._at: _At | None = _At.NAME if greeted else None  # None: not even asked
        self._telnet = False
        self._name = ""
        self._tried = False  # with a password
        self._wrong = 0  # passwords
        self._new = ""  # password
        self._held: list[bytes] = []
        self._ended = False
        self._screen = Screen("", hub.stamp)
        self._tick_timer: asyncio.TimerHandle | None = None
        self._mark_timer: asyncio.TimerHandle | None = None
        self.session = Session(hub, self, LineForm(self), hello_s=hello_s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        write = self.transport.write

        def write_and_look(data: bytes) -> None:
            write(data)
            self._look()

        self.write = write_and_look

    def fileno(self) -> int:
        return -1  # every write is looked at

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        if self._at is None:
            self._at = _At.NAME
            if not _HTTP.search(data.partition(b"\n")[0]):
                self.transport.write(PROMPT.encode())
        self._telnet = self._telnet or IAC in data
        typed = self._line + data
        if self._telnet:  # asked not to show what is typed, it may send a bare carriage return (RFC 854)
            typed = typed.replace(b"\r\0", b"\n")
        *complete, self._line = typed.split(b"\n")
        for raw in complete:
            if self._skipping:  # the rest of a line that was too long
                self._skipping = False
            elif len(raw) > MAX_LINE_BYTES:
                self._too_long()
            else:
                self._take_or_hold(raw)
            if self.closing:
                return
        if len(self._line) > MAX_LINE_BYTES:
            if not self._skipping:
                self._too_long()
            self._skipping = True
            self._line = b""

    def _too_long(self) -> None:
        self._print(f"The line is too long; the limit is {frames.MAX_TEXT_BYTES} bytes.\n")

    def _take_or_hold(self, raw: bytes) -> None:
        if self._at is not _At.HELLO and not self._held:
            self._take(raw)
            return
        self._held.append(raw)
        if len(self._held) == MAX_HELD:
            self.pause_reading()

    def _take(self, raw: bytes) -> None:
        match self._at:
            case _At.NAME:
                self._take_name(raw)
            case _At.PASSWORD:
                self._take_password(lines.clean_input(raw))
            case _At.NEW | _At.AGAIN:
                self._take_new_password(lines.clean_input(raw))
            case _:
                self._take_line(raw)

    def _take_name(self, raw: bytes) -> None:
        if _HTTP.search(raw):
            self.closing = True
            self.session.lost()
            self.hang_up()
        elif name := lines.clean_input(raw).strip():
            self._telnet = self._telnet or raw.endswith(b"\r")
            self._name = name[:256]
            self._say_hello(None)
        else:
            self._print(PROMPT)

    def _say_hello(self, password: str | None) -> None:
        self._at = _At.HELLO
        self._tried = password is not None
        self._screen = Screen(self._name, self._hub.stamp)
        self.session.handle(frames.Hello(user=self._name, password=password))

    def _take_line(self, raw: bytes) -> None:
        match lines.parse(lines.clean_input(raw)):
            case lines.Nothing():
                pass
            case lines.Say(to, text):
                self.session.handle(frames.MessageSend(to=to, text=text))
            case lines.SayIn(thread, text):
                self._in_thread(thread, lambda id: frames.MessageSend(thread=id, text=text))
            case lines.CheckNow():
                self.session.handle(frames.Check())
            case lines.AskWho():
                self.session.handle(frames.WhoGet())
            case lines.ListThreads():
                self.session.handle(frames.ThreadList(public=True))
            case lines.JoinThread(thread):
                self._in_thread(thread, lambda id: frames.ThreadJoin(thread=id))
            case lines.ReadHistory(of) if of.startswith("#"):
                self._in_thread(of[1:].strip(), lambda id: frames.HistoryGet(thread=id, limit=20))
            case lines.ReadHistory(of):
                private = self._screen.places.private_with(of)
                if private is None:
                    self._print(f"There is no conversation with '{of}' yet.\n")
                else:
                    self.session.handle(frames.HistoryGet(thread=private, limit=20))
            case lines.StopWriting(name):
                runs = self._screen.places.writing(name)
                for run in runs:
                    self.session.handle(frames.RunCancel(run=run))
                if not runs:
                    self._print(lines.clean_output(lines.SILENT.format(name=name)) + "\n")
            case lines.MakeMine():
                self._ask_new_password()
            case lines.AskHelp():
                self._print(lines.HELP + "\n")
            case lines.Leave():
                self.session.finish()
            case lines.Unclear(detail):
                self._print(detail + "\n")

    def _in_thread(self, name: str, request: Callable[[str], frames.Request]) -> None:
        id = self._screen.places.thread_named(name)
        if id is None:
            self._print(f"There is no thread '#{name}' here. Try !threads.\n")
        else:
            self.session.handle(request(id))

    def show(self, frame: frames.Frame, now: float) -> str:
        """What the person sees of a frame. The answer to their name also decides what their next line is."""
        if self._at is _At.PASSWORD and isinstance(frame, frames.Bye):
            return f"\n{self._screen.show(frame, now)}"
        if self._at is not _At.HELLO:
            return self._screen.show(frame, now)
        if isinstance(frame, frames.Error):
            shown = self._refused(frame)
        elif isinstance(frame, frames.Welcome):
            self._at = _At.TALK
            shown = self._screen.show(frame, now)
            self.session.handle(frames.WhoGet())
        else:
            return self._screen.show(frame, now)
        asyncio.get_running_loop().call_soon(self._take_held)
        return shown

    def _refused(self, frame: frames.Error) -> str:
        """What to say to somebody who was not let in, and what to ask for next."""
        wait = "" if frame.retry_after is UNSET else f" Try again in {math.ceil(frame.retry_after)} s."
        if frame.code == "unauthorized":
            self._wrong += self._tried
            if self._wrong < lines.WRONG_PASSWORDS:
                self._at = _At.PASSWORD
                return f"{frame.detail}\n" if self._tried else ""
            wait = " Connect again to go on trying."
        elif not self._tried and frame.code != "rate_limited":
            self._at = _At.NAME
            return f"{frame.detail}\n{PROMPT}"
        # What comes next may be a password, and nobody's name: lines go on waiting, and are never read.
        asyncio.get_running_loop().call_soon(self.session.end, frame.code, frame.detail + wait)
        return ""

    def _take_held(self) -> None:
        if self._at is _At.PASSWORD:
            self._ask(lines.PASSWORD)
        held, self._held = self._held, []
        if len(held) >= MAX_HELD and not self.session.stopped:
            self.resume_reading()  # first, as the session may pause it again
        for raw in held:
            if not self.closing:
                self._take_or_hold(raw)
        if self._ended and self._at is not _At.HELLO:
            self.session.finish()

    # What nobody should see

    def _ask(self, question: str) -> None:
        question = question.format(name=lines.clean_output(self.session.name or self._name))
        if self._telnet:
            self.transport.write(ECHO_OFF + f"{question}: ".encode())
        else:
            self._print(f"{question}{SHOWS}: ")

    def _answered(self) -> None:
        if self._telnet:
            self.transport.write(ECHO_ON + b"\n")

    def _take_password(self, password: str) -> None:
        self._answered()
        if password:
            self._say_hello(password)
        else:  # not theirs, after all
            self._at = _At.NAME
            self._print(PROMPT)

    def _ask_new_password(self) -> None:
        try:
            self._hub.gate.require_free_to_register(self.session.name, self.session.caller)
        except Problem as refused:
            self._print(refused.detail + "\n")
            return
        self._at = _At.NEW
        self.write(self._screen.ask().encode())
        self._ask(lines.NEW_PASSWORD)

    def _take_new_password(self, password: str) -> None:
        self._answered()
        if self._at is _At.NEW and password:
            self._at, self._new = _At.AGAIN, password
            self._ask(lines.SAME_AGAIN)
            return
        first, self._new = self._new, ""
        self._at = _At.TALK
        self.write(self._screen.ask(False).encode())
        if password and password == first:
            self.session.handle(frames.Register(password=password))
        else:
            self._print((lines.DIFFERENT if password else lines.UNCHANGED) + "\n")

    def finish(self) -> None:
        if self._line and not self._skipping:  # a last line without its end
            last, self._line = self._line, b""
            self._take_or_hold(last)
        self._ended = True
        if self._at is not _At.HELLO:
            self.session.finish()

    def _print(self, text: str) -> None:
        self.transport.write(text.encode())

    def farewell(self, code: str, reason: str) -> bytes:
        """What still waits for an answer to end."""
        return self._screen.tick(time.monotonic() + HOLD_S).encode()

    async def settle(self) -> None:
        if self.closing:
            return
        self.write(self._screen.tick(time.monotonic() + HOLD_S).encode())
        for thread, seq in self._screen.take_printed().items():
            with contextlib.suppress(NotFound):  # they were removed from it meanwhile
                await self._hub.store.see(thread, self.session.name, seq)

    def cut(self) -> None:
        """Some kinds of `nc` stay after the end until something is typed, but not after a reset."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError, ValueError):  # it is gone already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        super().cut()

    def end(self, code: str, reason: str) -> None:
        unread = self.unsent() > 0
        super().end(code, reason)
        if unread:
            self._screen.take_printed()  # it may never arrive, so it is told again the next time
        else:
            self._see()

    # After something was shown: lines that wait have a deadline, printed ones become seen

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        due = self._screen.due
        if due is not None and self._tick_timer is None:
            self._tick_timer = loop.call_later(max(0.0, due - time.monotonic()), self._tick)
        if self._screen.printed and self._mark_timer is None:
            self._mark_timer = loop.call_later(MARK_AFTER_S, self._mark)

    def _tick(self) -> None:
        self._tick_timer = None
        if not self.closing:
            self.write(self._screen.tick(time.monotonic()).encode())

    def _mark(self) -> None:
        self._mark_timer = None
        if self.unsent():
            self._look()
            return
        self._see()

    def _see(self) -> None:
        if self.session.name and not self._hub.stopped:
            for thread, seq in self._screen.take_printed().items():
                self._hub.spawn(self._hub.store.see(thread, self.session.name, seq))

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._tick_timer, self._mark_timer):
            if timer is not None:
                timer.cancel()
        if exc is None:
            self._see()
        super().connection_lost(exc)
