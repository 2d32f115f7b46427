"""What a slow program prints, read as pieces of answers. Two dialects, line by line, which may be mixed:

    {"i": 0, "d": "text"}             a piece of the answer in slot 0
    {"i": 0, "end": true}             the end of that answer
    {"i": 0, "error": "It rained."}   it failed; the sentence is for the people in the thread

    0/word                            a word of the answer in slot 0, a space before it but for the first
    (a blank line)                    the end of the slot whose word came last

Whatever else a line says is ignored and counted: what cannot be read, and slots that do not exist or have ended.
Bytes that are not UTF-8 and halves of surrogate pairs become U+FFFD. What came together is handed on as one piece, so
that a program that floods costs little.
"""

from __future__ import annotations

import json
import re

from hubbub.core.ports import EngineFailure, Piece

MAX_LINE_BYTES = 1 << 20
MAX_SENTENCE = 300  # characters

_WORD = re.compile(r"\s*(\d{1,9})/(.*)", re.DOTALL)


class Lines:
    """The output of one batch of so many slots. `feed` it until `too_long`, then `finish`."""

    def __init__(self, slots: int) -> None:
        self.open = set(range(slots))
        """Slots that have neither ended nor failed."""
        self.wrote: set[int] = set()
        """Slots that have said anything."""
        self.too_long = False
        """A line beyond MAX_LINE_BYTES came; nothing after it is read."""
        self.unreadable = 0
        self.misplaced = 0
        self.slots = slots
        self._rest = bytearray()  # a line that has not ended
        self._pieces: dict[int, list[str]] = {}
        self._ready: list[tuple[int, Piece]] = []
        self._spoke: int | None = None  # whose plain word came last

    def feed(self, data: bytes) -> list[tuple[int, Piece]]:
        """(slot, piece) of every line that ends in `data`, as an Engine yields them; "" ends a slot."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._rest += end
            self._line()
        self._rest += rest
        self.too_long = self.too_long or len(self._rest) > MAX_LINE_BYTES
        return self._take()

    def finish(self) -> list[tuple[int, Piece]]:
        """What the last line says if nothing ended it."""
        if self._rest:
            self._line()
        return self._take()

    def _take(self) -> list[tuple[int, Piece]]:
        for slot in list(self._pieces):
            self._flush(slot)
        ready, self._ready = self._ready, []
        return ready

    def _line(self) -> None:
        self.too_long = self.too_long or len(self._rest) > MAX_LINE_BYTES
        line = b"" if self.too_long else bytes(self._rest)
        self._rest.clear()
        if self.too_long:
            return
        text = line.decode(errors="replace").removesuffix("\r")
        if not text.strip():
            if self._spoke in self.open:
                self._end(self._spoke, "")
            self._spoke = None
        elif word := _WORD.match(text):
            self._plain(int(word[1]), word[2])
        else:
            self._json(text)

    def _plain(self, slot: int, word: str) -> None:
        if slot not in self.open:
            self.misplaced += 1
            return
        self._spoke = slot
        if word:
            self._say(slot, f" {word}" if slot in self.wrote else word)

    def _json(self, text: str) -> None:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        slot = said.get("i") if isinstance(said, dict) else None
        if type(slot) is not int or not (said.keys() & {"end", "error"} or isinstance(said.get("d"), str)):
            self.unreadable += 1
        elif slot not in self.open:
            self.misplaced += 1
        else:
            if isinstance(piece := said.get("d"), str) and piece:
                self._say(slot, piece)
            if "error" in said:
                self._end(slot, EngineFailure(sentence(said["error"]) or "The script could not answer."))
            elif said.get("end") is True:
                self._end(slot, "")

    def _say(self, slot: int, text: str) -> None:
        self.wrote.add(slot)
        self._pieces.setdefault(slot, []).append(text)

    def _end(self, slot: int, how: Piece) -> None:
        self._flush(slot)
        self._ready.append((slot, how))
        self.open.discard(slot)

    def _flush(self, slot: int) -> None:
        if pieces := self._pieces.pop(slot, None):
            self._ready.append((slot, _whole("".join(pieces))))


def sentence(said: object) -> str:
    """What a program said, fit for people: one line, nothing that does not print, 300 characters; "" for no text."""
    text = "".join(c if c.isprintable() else " " for c in said[: 4 * MAX_SENTENCE]) if isinstance(said, str) else ""
    text = " ".join(text.split())
    return text if len(text) <= MAX_SENTENCE else f"{text[: MAX_SENTENCE - 1]}…"


def _whole(text: str) -> str:
    """Pairs of surrogates as the characters they mean, halves as U+FFFD: a text that can be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
