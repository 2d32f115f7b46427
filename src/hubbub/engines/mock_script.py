"""The slow program that ships: it sleeps at random between words and answers every context with the context's own text.

    python -m hubbub.engines.mock_script [--delay S] [--seed N] [--plain] FILE …

takes up to four files as `script` writes them, and prints the lines that `script_lines` describes: a JSON line for each
word, or with `--plain` the seed's `index/word` and a blank line at the end of an answer. A text can say how it is to be
answered, in double brackets at its beginning (behind the name of whom it is addressed to, if any):

    [[delay=0.1 first=0.5 words=20 say="one two" fail=3]] what is answered unless `say` says something else

    delay=S          seconds between two words, instead of a random pause
    first=S          seconds before the first word
    words=N          N words: the text's, over and over
    say="TEXT"       TEXT instead of the text; the quotes and what they contain are JSON's, one word needs none
    fail[=N]         after N words (0), the answer fails
    exit[=N]         after its words, the whole program ends with exit code N (1)
    stall            after its words, nothing more comes, for ever
    nothing          no line at all
    slow-bytes       `delay` between two bytes, too; the other answers wait meanwhile
    bad-utf8         a word before the others is not UTF-8
    long-line        a line of 2 MiB before the others
    flood            after its words, words without end and without a pause
    deaf             SIGTERM is not listened to
    hang-grandchild  a process is left behind that holds stdout for a minute

An instruction it does not know, or cannot do, is a failure of that answer alone, and so is a file it cannot read. With
`--plain`, which has no line for a failure, the sentence goes to stderr, and the exit code is 1 at the end.
"""

from __future__ import annotations

import argparse
import base64
import heapq
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_FILES = 4
DELAY_S = 0.5
LONG_BYTES = 2 << 20
HANG_S = 60

_MENTION = re.compile(r"\s*(?:@[\w.-]+[,:]?\s*)?(?=\[\[)")
_INSTRUCTION = re.compile(r'\s*([a-z][a-z0-9-]*)(?:=("(?:[^"\\]|\\.)*"|[^\s"\]]+))?(?=\s|\]\])', re.DOTALL)
_CLOSE = re.compile(r"\s*\]\]\s?")
_WORD = re.compile(r"\s*\S+\s*")

_SECONDS = {"delay": None, "first": None}
_NUMBERS = {"words": None, "fail": "0", "exit": "1"}
_FLAGS = {"stall", "nothing", "slow-bytes", "bad-utf8", "long-line", "flood", "deaf", "hang-grandchild"}


class NotUnderstood(Exception):
    """A sentence about an instruction or a file."""


def instructions(text: str) -> tuple[dict[str, Any], str]:
    """What the brackets at the beginning of a text say, and the text behind them. Values: seconds are floats, numbers
    ints, `say` a str, anything else True. Raises NotUnderstood."""
    start = _MENTION.match(text)
    if start is None:
        return {}, text
    at, found = start.end() + 2, {}
    while not (close := _CLOSE.match(text, at)):
        one = _INSTRUCTION.match(text, at)
        if one is None:
            raise NotUnderstood(f"This is not an instruction: {text[at : at + 20]!r}; end them with ]].")
        found[one[1]] = _value(one[1], one[2])
        at = one.end()
    return found, text[close.end() :]


def _value(name: str, value: str | None) -> Any:
    try:
        if name in _FLAGS and value is None:
            return True
        if name == "say" and value is not None:
            return json.loads(value, strict=False) if value.startswith('"') else value
        if name in _SECONDS and 0 <= (seconds := float(value or "")) <= 3600:
            return seconds
        if name in _NUMBERS and 0 <= (number := int(value or _NUMBERS[name] or "")) <= 1_000_000:
            return number
    except ValueError:
        pass
    raise NotUnderstood(f"{name if value is None else f'{name}={value}'} is not an instruction of this program.")


class Slot:
    """One answer: `steps` does a step of it and yields the seconds until the next."""

    def __init__(self, index: int, path: Path, *, delay_s: float, chance: random.Random, plain: bool) -> None:
        self._index = index
        self._path = path
        self._delay_s = delay_s
        self._chance = chance
        self._plain = plain
        self._byte_s = 0.0
        self.failed = False

    def steps(self) -> Iterator[float]:
        try:
            told, rest = instructions(_text_of(self._path))
        except NotUnderstood as error:
            self._fail(str(error))
            return
        if "deaf" in told:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if "hang-grandchild" in told:
            subprocess.Popen(["sleep", str(HANG_S)])
        if "nothing" in told:
            return
        words = _WORD.findall(told.get("say", rest))
        if "words" in told:
            again = [f"{word.strip()} " for word in words] or ["word "]
            words = list(itertools.islice(itertools.cycle(again), told["words"]))
        yield told.get("first", self._pause(told))
        if "slow-bytes" in told:
            self._byte_s = self._pause(told)
        if "long-line" in told:
            self._say("x" * LONG_BYTES)
        if "bad-utf8" in told:
            self._write(f"{self._index}/caf\udcff" if self._plain else f'{{"i": {self._index}, "d": "caf\udcff "}}')
        for count, word in enumerate(words[: told.get("fail")]):
            if count:
                yield self._pause(told)
            self._say(word)
        if "fail" in told:
            self._fail("It was told to fail.")
            return
        if "exit" in told:
            sys.exit(_complain(f"It was told to end with exit code {told['exit']}.", told["exit"]))
        while "flood" in told:
            self._say("flood ")
            yield 0.0
        while "stall" in told:
            yield 3600.0
        if not self._plain:
            self._write(json.dumps({"i": self._index, "end": True}))
        elif words:  # a blank line ends whoever spoke last
            self._write("")

    def _pause(self, told: dict[str, Any]) -> float:
        return float(told["delay"]) if "delay" in told else self._chance.uniform(0, self._delay_s)

    def _say(self, word: str) -> None:
        self._write(f"{self._index}/{word.strip()}" if self._plain else json.dumps({"i": self._index, "d": word}))

    def _fail(self, error: str) -> None:
        self.failed = True
        if self._plain:
            _complain(error, 1)
        else:
            self._write(json.dumps({"i": self._index, "error": error}))

    def _write(self, line: str) -> None:
        """The line, at once. A lone \\udcff in it is a byte that is not UTF-8."""
        out, data = sys.stdout.buffer, line.encode(errors="surrogateescape") + b"\n"
        if self._byte_s:
            for byte in data:
                out.write(bytes([byte]))
                out.flush()
                time.sleep(self._byte_s)
        out.write(b"" if self._byte_s else data)
        out.flush()


def _text_of(path: Path) -> str:
    try:
        text = json.loads(base64.b64decode(path.read_bytes(), validate=True))["text"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotUnderstood(
            f"A file could not be read: {type(error).__name__}; expected base64 of JSON with a text."
        ) from error
    return str(text)


def _complain(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr, flush=True)
    return code


def main(arguments: list[str] | None = None) -> int:
    """Answer the files that the command line names; the exit code."""
    parser = argparse.ArgumentParser(prog="mock_script", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=f"a context, up to {MAX_FILES}")
    parser.add_argument(
        "--delay", type=float, default=DELAY_S, metavar="S", help="longest pause between words (%(default)s)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the same pauses every time")
    parser.add_argument("--plain", action="store_true", help="index/word lines instead of JSON")
    asked = parser.parse_args(arguments)
    if len(asked.files) > MAX_FILES:
        parser.error(f"{len(asked.files)} files; it takes at most {MAX_FILES}")  # exits with 2
    if asked.delay < 0:
        parser.error(f"--delay {asked.delay:g}: a pause cannot be shorter than none")
    slots = [
        Slot(
            index,
            path,
            delay_s=asked.delay,
            chance=random.Random(None if asked.seed is None else f"{asked.seed} {index}"),
            plain=asked.plain,
        )
        for index, path in enumerate(asked.files)
    ]
    waiting = [(0.0, index, slot.steps()) for index, slot in enumerate(slots)]
    while waiting:
        due, index, steps = heapq.heappop(waiting)
        time.sleep(max(0.0, due - time.monotonic()))
        for pause_s in steps:
            heapq.heappush(waiting, (time.monotonic() + pause_s, index, steps))
            break
    return 1 if asked.plain and any(slot.failed for slot in slots) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # nobody listens any more
        sys.stderr.close()
        sys.exit(1)
