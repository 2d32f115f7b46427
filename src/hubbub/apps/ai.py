"""The AI client: a member like any other, for whom a model writes.

In `seconds` it opens a new topic every N seconds. In `lines` it answers after every N lines of others, with what was
said lately before it.

It keeps nothing. Its cursor in the thread stands at the last line whose turn has come, so that the lines counted since
are heard again after a restart, its own or the server's, and the count with them. An answer has the key `ai-` and the
id of its N-th line: one that is written again after a crash is posted once. Turns that come while it writes become
one answer.

A line of a model counts only when somebody else has spoken since its own: assistants that hear each other would not
end. What a server's assistant says carries its run, and what is said here carries its model.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

from hubbub import __version__
from hubbub.apps.mode import Mode
from hubbub.apps.report import Report
from hubbub.client import Client, State, Status, Timing, Trust
from hubbub.client.backoff import Backoff
from hubbub.core import frames, names
from hubbub.core.errors import KeyConflict, NameTaken, NotFound, Problem
from hubbub.core.nouns import LOBBY, Message, MessageType, Prompt, Turn, new_id
from hubbub.core.ports import Engine, EngineFailure, Usage

RECENT = 20
"""Messages of the thread a model is shown, at most."""

RECENT_BYTES = 32 << 10
"""Of their text; four bytes are taken for one of a model's tokens."""

WRITING_S = 620.0
"""How long a model may take; the engines give up before."""

MODEL = "model"
"""Stands in the metadata of what a model wrote."""

HOST = "(host)"  # who asks for a new topic; nobody can be called that

WHO = (
    "You are {name}, one of several who write to each other in a chat. Write only what {name} says next, in one to "
    "three sentences, without a name before it."
)
OPEN = "Put this aside and introduce another subject, briefly: {subject}."
SUBJECTS = (
    *(
        "music",
        "the weather",
        "a meal",
        "an animal",
        "a journey",
        "a book",
        "a film",
        "the sea",
        "an invention",
        "sleep",
    ),
    *("childhood", "gardens", "mountains", "the night sky", "a sport", "a painting", "winter", "mathematics", "trains"),
    *("a strange habit", "coffee", "birds", "a city", "time", "dreams", "money", "an old photograph", "luck", "bread"),
)


async def run(
    where: str,
    mode: Mode,
    n: int,
    engine: Engine,
    report: Report,
    *,
    user: str = "AI",
    thread: str = LOBBY,
    token: str | None = None,
    trust: Trust | None = None,
    timing: Timing | None = None,
    rand: random.Random | None = None,
) -> None:
    """Take part until cancelled, over as many connections as it takes, the first one included.

    Args:
        where: the server's address.
        n: seconds or lines, at least 1.
        engine: who writes.
        token: for a name that is registered; it says the name, too.
        trust: for an encrypted address.

    Raises Problem: the address, the name, the token or the thread will not do.
    """
    rand, timing = rand or random.Random(), timing or Timing()
    away = _Away(report)

    def client(threads: list[str]) -> Client:
        return Client(
            where,
            user=user,
            token=token,
            client=f"hubbub-ai/{__version__}",
            threads=threads,
            rand=rand,
            on_state=away.on_state,
            timing=timing,
            trust=trust,
        )

    backoff = Backoff(rand, timing.base_s, timing.cap_s)
    while True:
        try:
            await _join(client([]), thread)
            async with client([thread]) as connected:
                away.begun()
                await _Talk(connected, thread, mode, n, engine, report, rand).live(where)
            return
        except NameTaken:
            raise NameTaken(f"Somebody here is called {user}; give it another name with --user.") from None
        except Problem as problem:
            if away.connected or not problem.outside.retry:
                raise
            away.failed(problem.detail)
            await asyncio.sleep(backoff.next_s(problem.retry_after))


async def _join(client: Client, thread: str) -> None:
    """Become a member of the thread. Raises NotFound, in words: one has to be brought in."""
    if thread == LOBBY:
        return
    async with client:
        if thread in client.threads:
            return
        try:
            await client.request(frames.ThreadJoin(thread=thread))
        except NotFound:
            raise NotFound(
                f"There is no thread '{thread}' that {client.user} may join; somebody in it can add {client.user}."
            ) from None


class _Away:
    """Says when the connection goes, once, and when it is back."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._why = ""
        self.connected = False  # once is enough: from then on the client comes back by itself

    def begun(self) -> None:
        self.connected, self._why = True, ""

    def failed(self, why: str) -> None:
        if why != self._why:
            self._why = why
            self._report("lost", f"{why} Trying again.")

    def on_state(self, status: Status) -> None:
        if not self.connected:
            return
        if status.state is State.RECONNECTING:
            self.failed(f"{status.reason[:1].upper()}{status.reason[1:].rstrip('.')}.")
        elif status.state is State.CONNECTED and self._why:
            self._why = ""
            self._report("connected", "again")


class _Talk:
    def __init__(
        self, client: Client, thread: str, mode: Mode, n: int, engine: Engine, report: Report, rand: random.Random
    ) -> None:
        self._client = client
        self._me = names.key(client.user)
        self._thread = thread
        self._mode = mode
        self._n = n
        self._engine = engine
        self._report = report
        self._rand = rand
        self._count = 0  # lines since the last N-th
        self._due: Message | None = None  # the newest N-th line that nobody has begun to answer
        self._answering: Message | None = None
        self._come = asyncio.Event()  # a line is due
        self._heard = 0  # seq
        self._spoken = False  # somebody who is no model, since one's own last line
        self._shown = self._seen()  # seq up to which the model knew the thread when it last spoke

    async def live(self, where: str) -> None:
        every = f"every {self._n}" if self._n > 1 else "every"
        plan = {
            Mode.SECONDS: f"a new topic {every} second{'s' * (self._n > 1)}",
            Mode.LINES: f"an answer after {every} line{'s' * (self._n > 1)}",
        }[self._mode]
        title = self._client.threads[self._thread].title or self._thread
        self._report("connected", f"as {self._client.user} in #{title} at {where}: {self._engine.name} writes {plan}")
        await self._recall()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen())
                tasks.create_task(self._answer() if self._mode is Mode.LINES else self._open())
        except ExceptionGroup as several:
            why = several.exceptions[0]
            if isinstance(why, Problem):  # the client has given up, and says why
                raise why from None
            raise

    # Hearing ------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for frame in self._client:
            match frame:
                case frames.MessageFrame():
                    self._hear(frame.message)
                case frames.Reset():
                    self._report("lost", f"{frame.reason} It counts from the beginning.")
                    self._count, self._due, self._answering = 0, None, None
                    self._shown = self._seen()
                    await self._recall()
                case frames.ThreadFrame() if self._client.user not in frame.thread.members:
                    await self._recall()  # raises NotFound: they have removed it

    def _hear(self, message: Message) -> None:
        self._heard = message.seq
        if self._is_own(message):
            self._spoken = False
        elif self._mode is Mode.LINES and self._counts(message):
            self._count += 1
            self._report("heard", f"{self._count}/{self._n}  {message.sender}: {message.text}")
            if self._count == self._n:
                self._count, self._due = 0, message
                self._come.set()
        self._mark()

    def _counts(self, message: Message) -> bool:
        if message.type != MessageType.CHAT or not message.text.strip():
            return False
        if _by_a_model(message):
            return self._spoken
        self._spoken = True
        return True

    def _mark(self, answered: Message | None = None) -> None:
        """Move the cursor to the last line whose turn has come, or past all of it when nothing is counted."""
        if not (self._count or self._due or self._answering):
            self._client.mark(self._thread, self._heard)
        elif answered is not None:
            self._client.mark(self._thread, answered.seq)

    def _is_own(self, message: Message) -> bool:
        return names.key(message.sender) == self._me

    def _seen(self) -> int:
        seen = self._client.threads[self._thread].seen
        return seen if isinstance(seen, int) else 0

    async def _recall(self) -> None:
        """Read back to who spoke before the line that is heard next. Raises NotFound: it is not in the thread."""
        before = max(self._heard, self._seen()) + 1
        asked = frames.HistoryGet(thread=self._thread, before=before)
        page = await self._client.request(asked, timeout_s=None)
        last = (m for m in reversed(page.messages) if self._is_own(m) or not (_by_a_model(m) or _is_notice(m)))
        newest = next(last, None)
        self._spoken = newest is not None and not self._is_own(newest)

    # Speaking -----------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        while True:
            await self._come.wait()
            self._come.clear()
            while self._due is not None:
                asked = self._answering = self._due
                self._due = None
                await self._speak(key=f"ai-{asked.id}")
                if self._answering is asked:  # not another log meanwhile
                    self._answering = None
                    self._mark(asked)

    async def _open(self) -> None:
        now = asyncio.get_running_loop().time
        due = now()
        subjects: list[str] = []
        while True:
            subjects = subjects or self._rand.sample(SUBJECTS, len(SUBJECTS))
            wish = OPEN.format(subject=subjects.pop())
            await self._speak(Turn(role="user", name=HOST, text=wish))
            due += self._n * (1 + max(0, now() - due) // self._n)  # what it was too slow for is left out
            await asyncio.sleep(due - now())

    async def _speak(self, wish: Turn | None = None, key: str | None = None) -> None:
        """Have something written and post it. What fails is said here, not there."""
        asked = frames.HistoryGet(thread=self._thread, limit=RECENT)
        page = await self._client.request(asked, timeout_s=None)
        who = Turn(role="system", name=self._client.user, text=WHO.format(name=self._client.user))
        turns = (who, *self._turns(page.messages), *([wish] if wish else []))
        try:
            text = await self._write(Prompt(run=new_id(), assistant=self._client.user, turns=turns))
        except EngineFailure as failure:
            self._report("failed", str(failure))
            return
        try:
            metadata = {MODEL: self._engine.name}
            await self._client.send(text, thread=self._thread, metadata=metadata, key=key)
        except KeyConflict:
            return  # said before a crash, in other words
        except Problem as problem:
            if self._client.closed or isinstance(problem, NotFound):
                raise
            self._report("failed", problem.detail)
            return
        self._report("said", text)

    def _turns(self, messages: Sequence[Message]) -> list[Turn]:
        """The newest of them, in order; but what was said while it wrote its last line stands after that line, or a
        model would take it for answered."""
        left = RECENT_BYTES
        kept: list[Message] = []
        for message in reversed(messages):
            left -= len(message.text.encode())
            if left < 0 and kept:
                break
            if message.text and not _is_notice(message):
                kept.insert(0, message)
        kept.sort(key=lambda message: message.seq > self._shown and not self._is_own(message))
        self._shown = messages[-1].seq if messages else 0
        role = {True: "assistant", False: "user"}
        return [Turn(role=role[self._is_own(m)], name=m.sender, text=m.text[:RECENT_BYTES]) for m in kept]

    async def _write(self, prompt: Prompt) -> str:
        """What the engine makes of it, as long as a message may be. Raises EngineFailure."""
        welcome = self._client.welcome
        most = int(welcome.limits.get("text_bytes", frames.MAX_TEXT_BYTES)) if welcome else frames.MAX_TEXT_BYTES
        pieces, written = self._engine.answer([prompt]), b""
        try:
            async with asyncio.timeout(WRITING_S):
                async for _, piece in pieces:
                    if isinstance(piece, EngineFailure):
                        raise piece
                    if isinstance(piece, Usage):
                        continue
                    written += piece.encode(errors="replace")
                    if not piece or len(written) >= most:
                        break
        except EngineFailure:
            raise
        except TimeoutError:
            raise EngineFailure(f"The model did not end within {WRITING_S:g} s.") from None
        except Exception as bug:
            raise EngineFailure(f"The model failed unexpectedly ({bug!r}).") from bug
        finally:
            with suppress(Exception):  # whatever it does at its end
                if close := getattr(pieces, "aclose", None):
                    await close()
        text = written[:most].decode(errors="ignore").strip()
        if not text:
            raise EngineFailure("The model said nothing.")
        return text


def _by_a_model(message: Message) -> bool:
    return message.run is not None or MODEL in message.metadata


def _is_notice(message: Message) -> bool:
    return message.type == MessageType.NOTIFICATION
