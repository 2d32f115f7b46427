"""The terminal client: the line grammar over a connection that comes back by itself.

Works in any terminal and in a pipe. What is typed while the connection is away waits and is sent later, in
order. What is printed counts as seen, nothing else does. In a pipe it sends its lines, waits until each is
acknowledged, and leaves at the end of the input; the exit code says whether everything was taken.

A name that has to be proved is asked for its password in a terminal, and refused in a pipe, which may show a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TextIO

from hubbub import __version__
from hubbub.apps.asking import Asking
from hubbub.apps.keyboard import Keyboard
from hubbub.apps.typed import carry_out, remark
from hubbub.client import Client, State, Status, Timing, Trust
from hubbub.core import frames, lines, names, nouns
from hubbub.core.errors import OUTSIDE, BadRequest, NameTaken, Problem, Unauthorized, Unavailable
from hubbub.core.screen import Screen

PROMPT = "Enter your username: "
MAX_TYPED = 100
"""Lines that wait for the connection; then the terminal itself holds them."""

PATIENCE_S = 30.0  # for acknowledgements, after the end of a pipe
GOODBYE_S = 3.0  # the same, for a person who leaves

NO_PASSWORD_HERE = (
    "A password is only asked for in a terminal; a pipe shows a token, with --token-file or HUBBUB_TOKEN."
)

_GREY, _PLAIN = "\x1b[90m", "\x1b[0m"


async def chat(
    address: str,
    user: str | None = None,
    *,
    token: str | None = None,
    register: bool = False,
    trust: Trust | None = None,
    stdin: int | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
    colour: bool = False,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
    patience_s: float | None = None,
    timing: Timing | None = None,
) -> int:
    """Chat until `exit`, the end of the input or Ctrl-C. Returns the exit code; problems are said, not
    raised.

    Args:
        user: asked for when neither it nor `token` is given.
        register: make the name one's own, with a password that is asked for.
        trust: for encrypted addresses.
        stdin: a file descriptor.
        colour: allow escape codes. Whoever reads the environment decides (a terminal, and no NO_COLOR).
        patience_s: how long unacknowledged lines may hold up leaving.
    """
    out, err = out or sys.stdout, err or sys.stderr
    fd = sys.stdin.fileno() if stdin is None else stdin
    keyboard, typed_by_hand = Keyboard(fd), os.isatty(fd)
    if patience_s is None:
        patience_s = GOODBYE_S if typed_by_hand else PATIENCE_S
    asked = not user and not token
    asking = Asking(keyboard, lambda text: _write(out, text), lambda text: _say(err, text))
    if register and not typed_by_hand:
        _say(err, NO_PASSWORD_HERE)
        return OUTSIDE["bad_request"].exit
    while True:
        try:
            if asked:
                user = await _ask_name(keyboard, out)
                if user is None:
                    return 0 if typed_by_hand else OUTSIDE["bad_request"].exit
            elif user:
                user = names.normalise(user)
            new = await asking.new_password(user) if register and user else None
            if register and new is None:
                return OUTSIDE["bad_request"].exit
            talk = _Talk(keyboard, asking, typed_by_hand, out, err, colour, clock, now, patience_s)
            async with Client(
                address,
                user=user,
                token=token,
                client=f"hubbub-chat/{__version__}",
                on_state=talk.on_state,
                clock=clock,
                in_flight=1,
                timing=timing,
                trust=trust,
                ask=asking.password if typed_by_hand and not register else None,
            ) as client:
                first = await client.request(frames.Register(password=new)) if new else None
                return await talk.hold(client, first)
        except Problem as problem:
            unproved = isinstance(problem, Unauthorized)
            _say(err, "Username already taken." if type(problem) is NameTaken and not register else problem.detail)
            if unproved and not typed_by_hand:
                _say(err, NO_PASSWORD_HERE)
            again = isinstance(problem, NameTaken | BadRequest) or (unproved and asking.wrong < lines.WRONG_PASSWORDS)
            if not (asked and typed_by_hand and again):
                return problem.outside.exit


async def _ask_name(keyboard: Keyboard, out: TextIO) -> str | None:
    _write(out, PROMPT)
    name = await keyboard.line()
    return None if name is None else names.normalise(name)


class _Talk:
    """One visit: what is typed goes to the client, what the client hears goes through the screen."""

    def __init__(
        self,
        keyboard: Keyboard,
        asking: Asking,
        typed_by_hand: bool,
        out: TextIO,
        err: TextIO,
        colour: bool,
        clock: Callable[[], float],
        now: Callable[[], float],
        patience_s: float,
    ) -> None:
        self._keyboard = keyboard
        self._asking = asking
        self._typed_by_hand = typed_by_hand
        self._out = out
        self._err = err
        self._colour = colour
        self._clock = clock
        self._now = now
        self._patience_s = patience_s
        self._typed: asyncio.Queue[lines.Line | frames.Register | None] = asyncio.Queue(MAX_TYPED)
        self._unsent = 0
        self._leaving = asyncio.Event()
        self._checked = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._away = False
        self._exit = 0
        self._client: Client
        self._screen: Screen | None = None

    async def hold(self, client: Client, first: frames.Frame | None = None) -> int:
        """Run the visit. Returns the exit code. Raises Problem: the client gave up."""
        self._client = client
        self._screen = Screen(client.user, lambda: nouns.stamp(self._now()))
        if client.welcome is not None:
            self._show(client.welcome)
        if first is not None:
            self._show(first)
        asking = self._asking
        asking.let_in()
        outside = asking.write, asking.say, asking.before, asking.after
        asking.write, asking.say = self._print, lambda text: self._show(remark(text))
        asking.before, asking.after = self._screen.ask, partial(self._screen.ask, False)
        tasks = [asyncio.create_task(step()) for step in (self._hear, self._speak, self._leaving.wait)]
        hearing, speaking, left = tasks
        reading = asyncio.create_task(self._read())
        try:
            with _signals(self._leaving):
                await asyncio.wait([*tasks, reading], return_when=asyncio.FIRST_COMPLETED)
                if reading.done() and not left.done():
                    await asyncio.wait(tasks, timeout=self._patience_s, return_when=asyncio.FIRST_COMPLETED)
            for task in (hearing, speaking, reading):
                if task.done():
                    task.result()
            if not speaking.done() and not left.done():
                many = self._unsent != 1
                raise Unavailable(
                    f"{self._unsent} {'lines were' if many else 'line was'} not sent: "
                    f"the server did not acknowledge {'them' if many else 'it'} in time."
                )
            return self._exit
        finally:
            for task in (*tasks, reading):
                task.cancel()
            await asyncio.wait([*tasks, reading])
            asking.write, asking.say, asking.before, asking.after = outside
            self._print(self._screen.tick(math.inf))
            if self._timer is not None:
                self._timer.cancel()

    # Hearing ------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        async for frame in self._client:
            self._show(frame)
            if isinstance(frame, frames.Checked):
                self._checked.set()

    def _show(self, frame: frames.Frame) -> None:
        assert self._screen is not None
        self._print(self._screen.show(frame, self._clock()))
        self._wait_for_due()

    def _tick(self) -> None:
        assert self._screen is not None
        self._print(self._screen.tick(self._clock()))
        self._wait_for_due()

    def _wait_for_due(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._screen is not None and self._screen.due is not None:
            wait = max(0.0, self._screen.due - self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait, self._tick)

    def _print(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except OSError:  # whoever read the output is gone
            self._leaving.set()
            return
        if self._screen is not None:
            for thread, seq in self._screen.take_printed().items():
                self._client.mark(thread, seq)

    def on_state(self, status: Status) -> None:
        """One grey line when the connection goes and one when it is back."""
        if self._screen is None:
            return
        if status.state is State.RECONNECTING and not self._away:
            self._away = True
            self._note(f"connection lost, trying again in {max(1, math.ceil(status.in_s))} s…")
        elif status.state is State.CONNECTED and self._away:
            self._away = False
            self._asking.let_in()
            if self._client.welcome is not None:
                self._show(self._client.welcome)
            self._note("connected again")

    def _note(self, text: str) -> None:
        # As a bye, because that ends the line of an answer being written before it stands in its own.
        assert self._screen is not None
        said = self._screen.show(frames.Bye(code="", reason=text, resume=True, retry_after=0), self._clock())
        if self._colour:
            line = f"{text}\n"
            said = f"{said.removesuffix(line)}{_GREY}{text}{_PLAIN}\n"
        self._print(said)

    # Speaking -----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while (text := await self._keyboard.line()) is not None:
            line = lines.parse(text)
            if isinstance(line, lines.Leave):
                break
            request: lines.Line | frames.Register | None = line
            if isinstance(line, lines.MakeMine):
                request = await self._make_mine()
            if request is not None:
                self._unsent += 1
                await self._typed.put(request)
        await self._typed.put(None)

    async def _make_mine(self) -> frames.Register | None:
        if not self._typed_by_hand:
            self._refuse(BadRequest(NO_PASSWORD_HERE))
            return None
        password = await self._asking.new_password(self._client.user)
        return frames.Register(password=password) if password else None

    async def _speak(self) -> None:
        self._show(await self._client.request(frames.WhoGet(), timeout_s=None))
        while (line := await self._typed.get()) is not None:
            try:
                await self._carry_out(line)
            except Problem as problem:
                if self._client.closed:
                    raise
                self._refuse(problem)
            self._unsent -= 1

    def _refuse(self, problem: Problem) -> None:
        if self._typed_by_hand:
            self._show(remark(problem.detail))
        else:
            _say(self._err, problem.detail)
            self._exit = self._exit or problem.outside.exit

    async def _carry_out(self, line: lines.Line | frames.Register) -> None:
        assert self._screen is not None
        if isinstance(line, frames.Register):
            self._show(await self._client.request(line))
            return
        self._checked.clear()
        await carry_out(line, self._client, self._screen, self._show)
        if isinstance(line, lines.CheckNow):
            await self._checked.wait()  # printed as it is heard


def _say(err: TextIO, text: str) -> None:
    _write(err, f"{lines.clean_output(text)}\n")


def _write(file: TextIO, text: str) -> None:
    with contextlib.suppress(OSError):
        file.write(text)
        file.flush()


@contextlib.contextmanager
def _signals(leaving: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    caught: list[signal.Signals] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        # Only the main thread of a POSIX system has these; elsewhere the caller's cancelling does.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, leaving.set)
            caught.append(number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
