"""Asking the person at a terminal for what nobody should see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hubbub.apps.keyboard import Keyboard
from hubbub.core import lines
from hubbub.core.errors import Problem


class Asking:
    """One question at a time.

    Args:
        write: prints text as it is.
        say: prints a sentence of the program.
    """

    def __init__(self, keyboard: Keyboard, write: Callable[[str], None], say: Callable[[str], None]) -> None:
        self._keyboard = keyboard
        self.write = write
        self.say = say
        # What a visit's screen has to be told around a question.
        self.before: Callable[[], str] = str
        self.after: Callable[[], str] = str
        self.wrong = 0  # passwords in a row
        self._given = False
        self._one = asyncio.Lock()

    def let_in(self) -> None:
        """The password was right, or none was needed."""
        self._given, self.wrong = False, 0

    async def password(self, user: str, why: Problem) -> str | None:
        """The password of `user`; None when the person gives none, or has given too many wrong ones."""
        if self._given:
            self.wrong += 1
            if self.wrong >= lines.WRONG_PASSWORDS:
                return None
        if self._given or self.before is not str:
            self.say(why.detail)
        password = await self.secret(lines.PASSWORD.format(name=user))
        self._given = bool(password)
        return password

    async def new_password(self, user: str) -> str | None:
        """A new password, asked for twice; None, and the reason is said, when there is none."""
        first = await self.secret(lines.NEW_PASSWORD.format(name=user))
        again = await self.secret(lines.SAME_AGAIN) if first else None
        if first and first == again:
            return first
        self.say(lines.DIFFERENT if first and again else lines.UNCHANGED)
        return None

    async def secret(self, question: str) -> str | None:
        """What is typed, if anything is."""
        async with self._one:
            shows = "" if self._keyboard.hides else " (it will show as you type)"
            self.write(f"{self.before()}{lines.clean_output(question)}{shows}: ")
            try:
                return await self._keyboard.secret() or None
            finally:
                self.write(("\n" if self._keyboard.hides else "") + self.after())
