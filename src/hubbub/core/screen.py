"""What a person in line mode sees: frames in, text out, for the server's line door and the terminal client.

A line printed into the middle of an answer being written would tear both. So one answer at a time holds the
*pen*: its line is open and grows at its end. Whatever else comes meanwhile, other answers included, *waits*,
until the answer ends, or for HOLD_S, or until too much waits. Then the open line is broken, what waited is
written in order, and the answer goes on in a new line that begins with `… ` (`… [name] ` when another answer
was written in between).

    greeting   before the first `who` everything waits, so that `Connected!` is the first line
    pen free   a message is a line at once; a piece of an answer takes the pen
    pen held   a piece of the same answer is written at once, everything else waits
    asking     the person is asked for something and writes it behind the question; everything waits, but not too much

Nothing counts as printed before it is written: the member's `seen` cursor follows `take_printed`, and a
person who drops while a line waits finds it again when they return. For the same reason even messages that
are not shown, such as one's own, wait for their turn to be counted. History does not count: it may run ahead
of what is still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from msgspec import UNSET

from hubbub.core import frames, names
from hubbub.core.feed import Feed
from hubbub.core.lines import clean_output
from hubbub.core.nouns import Message
from hubbub.core.places import Places

HOLD_S = 2.0
HOLD_LINES = 200
HOLD_CHARS = 64 << 10
GREETING_S = 5.0  # for the reply to the door's own `who`, which may come after pages of stored messages
GREETING_CHARS = 4 << 20
KNOWN_RUNS = 256  # ended answers whose late pieces are still recognised

GOES_ON = "… "
AGAIN = "(starting again) "


@dataclass(slots=True)
class _Answer:
    """A run as far as this screen knows it."""

    run: str
    thread: str
    assistant: str
    attempt: int
    written: list[str] = field(default_factory=list)  # on the screen, of this attempt
    waiting: list[str] = field(default_factory=list)  # what follows
    begun: bool = False  # something of it is on the screen, of any attempt
    again: bool = False  # the next piece begins another attempt
    ended: bool = False  # its message is here: no piece can follow
    told: bool = False  # how it ended has been said


@dataclass(slots=True)
class _Line:
    """Something that waits: a whole line, or the rest of an answer, and the message it completes, if any."""

    text: str | None  # None: nothing to show, only to count
    message: Message | None = None
    answer: _Answer | None = None


class Screen:
    """One person's terminal.

    Write what `show` and `tick` return, in order. Call `tick` when `due` comes; earlier, it does nothing.

    Args:
        user: the person's own name, whose messages are not echoed.
        stamp: the wall clock as messages show it, for the head of an answer being written.
        now: in every method, monotonic seconds.
    """

    def __init__(self, user: str, stamp: Callable[[], str]) -> None:
        self.printed: dict[str, int] = {}
        self.places = Places(user)
        self._stamp = stamp
        self._feed = Feed()  # its runs: how much of each answer has arrived
        self._epoch: str | None = None
        self._greeted = False  # `Connected!` has been said
        self._ready = False  # lines may be written: greeted, or tired of waiting for it
        self._heard: dict[str, int] = {}  # the highest seq that has arrived
        self._answers: dict[str, _Answer] = {}
        self._pen: _Answer | None = None
        self._asking = False
        self._last: _Answer | None = None  # whose text was written last
        self._lines: list[_Line] = []
        self._held_chars = 0
        self._since: float | None = None  # when the oldest thing that waits arrived
        self._out: list[str] = []

    # For the door

    @property
    def due(self) -> float | None:
        """When `tick` has something to do; None when nothing waits."""
        if self._since is None or self._asking:
            return None
        return self._since + (HOLD_S if self._ready else GREETING_S)

    def show(self, frame: frames.Frame, now: float) -> str:
        """The text to write now because of this frame."""
        self._pass_time(now)
        self._take(frame, now)
        return self._take_out()

    def tick(self, now: float) -> str:
        """The text to write now because time has passed."""
        self._pass_time(now)
        return self._take_out()

    def ask(self, asking: bool = True) -> str:
        """The text to write before a question, or after its answer; in between, the open line is the person's."""
        self._asking = False
        self._release()
        if asking:
            self._drop_pen()
        self._asking = asking
        return self._take_out()

    def take_printed(self) -> dict[str, int]:
        """Per thread the highest seq printed since the last call: how far `seen` may move."""
        taken, self.printed = self.printed, {}
        return taken

    # Frames

    def _take(self, frame: frames.Frame, now: float) -> None:
        if isinstance(frame, frames.RunFrame):
            self.places.heard_of(frame)
        match frame:
            case frames.MessageFrame():
                self._message(frame, now)
            case frames.RunDelta():
                self._delta(frame, now)
            case frames.RunReset():
                self._reset_run(frame)
            case frames.RunQueued(position=position, assistant=assistant) if position > 1:
                before = "1 answer comes" if position == 2 else f"{position - 1} answers come"
                self._say(_Line(f"{assistant} will answer; {before} first."), now)
            case frames.RunCompleted() | frames.RunCancelled() | frames.RunFailed():
                self._end(frame, now)
            case frames.Welcome():
                self._welcome(frame)
            case frames.Who():
                self._who(frame, now)
            case frames.Ack():
                self._ack(frame, now)
            case frames.ThreadFrame():
                self._thread(frame.thread, now)
            case frames.Threads():
                self._threads(frame.threads, now)
            case frames.History():
                for message in frame.messages:
                    self._say(_Line(self._live(message) + _state(message)), now)
            case frames.Checked():
                self._say(_Line("No more messages."), now)
            case frames.Reset():
                self._heard.pop(frame.thread, None)
                self._say(_Line(f"{self.places.where(frame.thread)} has to be read again: {frame.reason}"), now)
            case frames.Error():
                self._error(frame, now)
            case frames.Registered():
                self._say(_Line(f"The name {frame.user} is yours now; from now on it takes the password."), now)
            case frames.Bye():
                self._release()
                self._drop_pen()
                self._write(_Line(frame.reason))
            case _:
                pass

    def _welcome(self, frame: frames.Welcome) -> None:
        self.places.me = names.key(frame.user)
        epoch = frame.server.get("epoch")
        if epoch != self._epoch:  # the numbers of another epoch say nothing about this one
            self._epoch = epoch
            self._heard.clear()
        for view in frame.threads:
            self.places.enter(view)

    def _who(self, frame: frames.Who, now: float) -> None:
        others = ", ".join(name for name in frame.online if names.key(name) != self.places.me) or "nobody else"
        if self._greeted:
            self._say(_Line(f"Users online: {others}"), now)
            return
        self._greeted = True
        self._lines.insert(0, _Line(f"Connected! Users online: {others}"))
        self._release()

    def _error(self, frame: frames.Error, now: float) -> None:
        if self._ready:
            self._say(_Line(frame.detail), now)
        else:  # someone whose name was refused is not greeted, but learns why
            self._write(_Line(frame.detail))

    def _ack(self, frame: frames.Ack, now: float) -> None:
        """Only the one person written to can be said to be away; a group always has somebody who is."""
        if frame.delivery == "stored" and frame.offline_count == 1 and frame.offline:
            if frame.thread in self.places.titles:
                return
            self.places.wrote_to(frame.offline[0], frame.thread)
            hint = f" {clean_output(frame.hint)}" if frame.hint is not UNSET else ""
            self._say(_Line(f"User '{frame.offline[0]}' is offline. Message saved.{hint}"), now)

    def _thread(self, view: frames.ThreadView, now: float) -> None:
        if self.places.enter(view):
            self._say(_Line(f"You are now in {self.places.where(view.id)}."), now)

    def _threads(self, views: Iterable[frames.ThreadView], now: float) -> None:
        shown = []
        for view in views:
            self.places.learn(view)
            shown.append(self.places.other(view) or self.places.where(view.id))
        self._say(_Line(f"Threads: {', '.join(shown) or 'none'}"), now)

    # Messages

    def _message(self, frame: frames.MessageFrame, now: float) -> None:
        message, stored = frame.message, frame.stored is True
        if frame.seq <= self._heard.get(frame.thread, 0):
            return
        self._heard[frame.thread] = frame.seq
        self.places.learn_from(message)
        answer = self._run_of(message)
        if answer:
            answer.ended, answer.told = True, answer.told or stored or not _state(message)
            self._held_chars -= sum(map(len, answer.waiting))
            answer.waiting.clear()
        if answer and answer.begun:
            self._complete(answer, message, stored, now)
        elif names.key(message.sender) == self.places.me:
            self._say(_Line(None, message), now)
        elif stored:
            self._say(_Line(self._stored(message), message), now)
        elif answer and not answer.told and not self._busy:
            # How it ended comes with the next frame and belongs into the same line.
            self._out.append(clean_output(self._live(message)))
            answer.begun, answer.written = True, [message.text] if message.text else []
            self._pen = self._last = answer
            self._count(message)
        else:
            self._say(_Line(self._live(message), message), now)

    def _complete(self, answer: _Answer, message: Message, stored: bool, now: float) -> None:
        """The message of an answer of which something has been written: only the rest is new."""
        written = "".join(answer.written)
        if not message.text.startswith(written) and not written.startswith(message.text):
            self._restart(answer, answer.attempt + 1)
            written = ""
        rest = message.text[len(written) :] + (_state(message) if stored else "")
        if answer is self._pen:
            self._put(answer, rest)
            self._count(message)
            if answer.told:
                self._release()
        else:
            self._say(_Line(rest or None, message, answer), now)

    def _live(self, message: Message) -> str:
        return f"{self._head(message)} {_text(message)}"

    def _stored(self, message: Message) -> str:
        kind = "" if message.type == "chat" else f"[{message.type.upper()}]"
        text = _text(message) if message.metadata.get("deleted") else f"'{message.text}'"
        return f"[Stored] {kind}{self._head(message)} {text}{_state(message)}"

    def _head(self, message: Message) -> str:
        place = "" if message.destination != message.thread else f"[{self.places.where(message.thread)}]"
        return f"[{message.timestamp}]{place}[{message.sender}]"

    # Answers

    def _run_of(self, message: Message) -> _Answer | None:
        if message.run is None:
            return None
        return self._answers.get(message.run) or self._begin(message.run, message.thread, message.sender, 0)

    def _begin(self, run: str, thread: str, assistant: str, attempt: int) -> _Answer:
        if len(self._answers) >= KNOWN_RUNS:
            for old in self._answers.values():
                if old is not self._pen and not old.waiting:
                    del self._answers[old.run]
                    self._feed.runs.pop(old.run, None)
                    break
        answer = self._answers[run] = _Answer(run, thread, assistant, attempt)
        return answer

    def _delta(self, frame: frames.RunDelta, now: float) -> None:
        answer = self._answers.get(frame.run)
        if answer and answer.ended:
            return
        piece = self._feed.piece(frame.run, frame.attempt, frame.offset, frame.text)
        if piece is None:
            return
        if answer is None:
            answer = self._begin(frame.run, frame.thread, frame.assistant, frame.attempt)
        elif frame.attempt > answer.attempt:
            self._restart(answer, frame.attempt)
        self._close_ended()
        if self._busy and (answer is not self._pen or self._asking):
            answer.waiting.append(piece[1])
            self._hold(len(piece[1]), now)
        else:
            self._put(answer, piece[1])

    def _reset_run(self, frame: frames.RunReset) -> None:
        answer = self._answers.get(frame.run)
        if answer and not answer.ended and frame.attempt > answer.attempt:
            self._feed.runs[frame.run] = (frame.attempt, 0)
            self._restart(answer, frame.attempt)

    def _restart(self, answer: _Answer, attempt: int) -> None:
        """What has come of the answer is void; what has been written of it stays, and is said to be."""
        self._held_chars -= sum(map(len, answer.waiting))
        answer.attempt, answer.waiting, answer.written = attempt, [], []
        if answer is self._pen:
            self._out.append(f"\n{AGAIN}")
        else:
            answer.again = answer.begun

    def _end(self, frame: frames.RunCompleted | frames.RunCancelled | frames.RunFailed, now: float) -> None:
        """The message came before; this says how the answer ended, in its line if that is still open."""
        answer = self._answers.get(frame.run)
        if answer is None or answer.told:
            return
        answer.told = True
        match frame:
            case frames.RunFailed():
                how = f"failed: {frame.error}"
            case frames.RunCancelled():
                how = "cancelled"
            case _:
                how = ""
        if answer is self._pen:
            if how:
                gap = "" if not answer.written or answer.written[-1][-1].isspace() else " "
                self._out.append(clean_output(f"{gap}({how})"))
            self._release()
        elif how and (answer.begun or answer.ended):
            self._say(_Line(f"({answer.assistant} {how})"), now)

    # The pen

    @property
    def _busy(self) -> bool:
        return self._pen is not None or not self._ready or self._asking

    def _say(self, line: _Line, now: float) -> None:
        """Write the line, now or when its turn comes."""
        self._close_ended()
        if self._busy:
            self._lines.append(line)
            self._hold(len(line.text or ""), now)
        else:
            self._write(line)

    def _hold(self, chars: int, now: float) -> None:
        self._held_chars += chars
        if self._since is None:
            self._since = now
        if self._ready:
            full = self._held_chars > HOLD_CHARS or len(self._lines) > HOLD_LINES
        else:
            full = self._held_chars > GREETING_CHARS
        if full:
            self._release()

    def _pass_time(self, now: float) -> None:
        if self.due is not None and now >= self.due:
            self._release()

    def _release(self) -> None:
        """End the open line, write what waits, and leave the pen with the last answer that was waiting."""
        self._ready = True
        self._drop_pen()
        if self._asking:
            self._out.append("\n")
        lines, self._lines = self._lines, []
        self._since, self._held_chars = None, 0
        for line in lines:
            self._write(line)
        for answer in self._answers.values():
            if answer.waiting:
                self._drop_pen()
                text, answer.waiting = "".join(answer.waiting), []
                self._put(answer, text)

    def _close_ended(self) -> None:
        """A line that only waits for how its answer ended waits for nobody else."""
        if self._pen and self._pen.ended:
            self._release()

    def _drop_pen(self) -> None:
        if self._pen:
            self._out.append("\n")
            self._pen = None

    def _write(self, line: _Line) -> None:
        """Write a whole line. The pen is free."""
        if line.text is not None:
            if line.answer:
                self._put(line.answer, line.text)
                self._drop_pen()
            else:
                self._out.append(f"{clean_output(line.text)}\n")
                if line.message and line.message.run:
                    self._last = self._answers.get(line.message.run)
        if line.message:
            self._count(line.message)

    def _put(self, answer: _Answer, text: str) -> None:
        """Write a piece of an answer, which has the pen or takes it."""
        if answer is not self._pen:
            self._out.append(clean_output(self._lead(answer)))
        self._pen = self._last = answer
        answer.begun, answer.again = True, False
        if text:
            answer.written.append(text)
            self._out.append(clean_output(text))

    def _lead(self, answer: _Answer) -> str:
        """How a line of an answer begins."""
        if not answer.begun:
            place = f"[{self.places.where(answer.thread)}]" if answer.thread in self.places.titles else ""
            return f"[{self._stamp()}]{place}[{answer.assistant}] "
        who = "" if answer is self._last else f"[{answer.assistant}] "
        return f"{AGAIN if answer.again else GOES_ON}{who}"

    def _count(self, message: Message) -> None:
        self.printed[message.thread] = max(message.seq, self.printed.get(message.thread, 0))

    def _take_out(self) -> str:
        text = "".join(self._out)
        self._out.clear()
        return text


def _text(message: Message) -> str:
    return "(deleted)" if message.metadata.get("deleted") else message.text


def _state(message: Message) -> str:
    """How an answer ended, where that was before its end."""
    state = message.metadata.get("state") if message.run else None
    return f" ({state})" if state in ("failed", "cancelled") else ""
