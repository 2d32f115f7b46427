"""The engine that lets a slow program write: `ScriptEngine([program, argument …])` runs it once for up to four prompts.

The program is given one file for each prompt behind its own arguments, slot 0 first, and nothing else: no shell, no
input, none of our environment. A file is the base64 of UTF-8 JSON:

    {"run": id, "assistant": name, "turns": [{"role": "system|user|assistant", "name": …, "text": …} …], "text": …}

with the newest turn last, and as `text` what was last said by a user. It prints pieces as they are written, in the
lines that `script_lines` describes, and must not keep them in a buffer. With exit code 0 every slot that has written
something and was not ended is complete. `mock_script` is such a program.

When it exits with another code, is killed, writes nothing, falls silent, takes too long or writes too much, the answers
that have not ended fail, each with a sentence; those that have are not touched. Whatever happens, its process group is
ended and its files are removed. What a crash of ours left of them is removed by the next engine an hour later.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from hubbub.core.nouns import Prompt
from hubbub.core.ports import EngineFailure, Piece
from hubbub.engines.process_group import ProcessGroup
from hubbub.engines.script_lines import MAX_LINE_BYTES, Lines, sentence

log = structlog.get_logger("hubbub.script")

MAX_BATCH = 4
FIRST_S = 120.0
IDLE_S = 60.0
TOTAL_S = 600.0
MAX_BYTES = 16 << 20  # four answers of the greatest length, with a line for every character
LEAVE_S = 0.5  # for a program whose answers have all ended to exit by itself
PREFIX = "hubbub-script-"
LEFT_S = 3600.0

TELL = "whoever runs this server should look at it"


class ScriptEngine:
    """Runs `argv` and one file for each prompt.

    Args:
        argv: the program and its arguments, constant; looked for in /usr/local/bin, /usr/bin and /bin.
        at_once: how many of it may run at the same time.
        batch: how many prompts one of it is given, 1 to 4.
        first_s: seconds until it has printed its first byte.
        idle_s: seconds between two bytes.
        total_s: seconds from its start to its end.
        max_bytes: how much it may print for one batch.
        directory: where the directories with its files are made; None: where the system keeps temporary files.

    Raises ValueError: no program, or a batch of another size.
    """

    name = "script"

    def __init__(
        self,
        argv: Sequence[str],
        *,
        at_once: int = 1,
        batch: int = MAX_BATCH,
        first_s: float = FIRST_S,
        idle_s: float = IDLE_S,
        total_s: float = TOTAL_S,
        max_bytes: int = MAX_BYTES,
        directory: Path | None = None,
    ) -> None:
        if not argv:
            raise ValueError("There is no program to run; give its path and arguments.")
        if not 1 <= batch <= MAX_BATCH:
            raise ValueError(f"A script is given 1 to {MAX_BATCH} prompts at once, not {batch}.")
        self.batch = batch
        self.at_once = at_once
        self._argv = tuple(argv)
        self._first_s = first_s
        self._idle_s = idle_s
        self._total_s = total_s
        self._max_bytes = max_bytes
        self._directory = directory or Path(tempfile.gettempdir())
        remove_left_behind(self._directory, max(LEFT_S, 2 * total_s))

    async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, Piece]]:
        """See `core.ports.Engine`. Closing it, also by cancelling, waits for the program to be gone: at once when it
        obeys SIGTERM, after 2 s when it has to be killed."""
        if not prompts:
            return
        lines = Lines(len(prompts))
        with self._files(prompts) as files:
            program = self._start(files)
            try:
                async with contextlib.aclosing(self._relay(program, lines)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                try:
                    await program.stop(0.0 if lines.open else LEAVE_S)
                finally:
                    program.let_go()
                    if lines.unreadable or lines.misplaced:
                        log.warning("script_lines_ignored", unreadable=lines.unreadable, misplaced=lines.misplaced)

    async def _relay(self, program: ProcessGroup, lines: Lines) -> AsyncGenerator[tuple[int, Piece], None]:
        """Pieces as they come, then how each slot ended that the program did not end itself."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._total_s
        wait_s, left = self._first_s, self._max_bytes
        wrong: str | None = None
        while lines.open and wrong is None:
            total = ends - loop.time() <= wait_s
            try:
                data = await program.read(min(wait_s, ends - loop.time()))
            except TimeoutError:
                wrong = self._took_too_long(total=total, first=left == self._max_bytes)
                break
            for piece in lines.feed(data[:left]) if data else lines.finish():
                yield piece
            if not data:
                break
            wait_s, left = self._idle_s, left - len(data)
            if lines.too_long:
                wrong = f"The script wrote a line longer than {_size(MAX_LINE_BYTES)} and was stopped; {TELL}."
            elif left < 0:
                wrong = f"The script wrote more than {_size(self._max_bytes)} and was stopped; ask for less."
            elif loop.time() >= ends:  # there was always something to read
                wrong = self._took_too_long(total=True)
        if not lines.open:
            return
        if wrong is None and program.code:
            # What it complains of may quote a question, which is for the people who asked it alone.
            wrong = _ended(program.code, program.complaint if lines.slots == 1 else None)
        if wrong is not None:
            log.warning("script_failed", code=program.code, open=len(lines.open))
        for slot in sorted(lines.open):
            yield slot, _end_of(slot, lines, wrong)

    def _start(self, files: Sequence[Path]) -> ProcessGroup:
        try:
            return ProcessGroup([*self._argv, *map(str, files)])
        except (OSError, ValueError) as error:
            log.error("script_not_started", program=self._argv[0], error=str(error))
            raise EngineFailure(f"The script could not be started; {TELL}: its log says why.") from error

    def _took_too_long(self, *, total: bool, first: bool = False) -> str:
        if total:
            return f"The script took longer than {self._total_s:g} seconds and was stopped; ask for something shorter."
        if first:
            return f"The script wrote nothing for {self._first_s:g} seconds and was stopped; ask again, or {TELL}."
        return f"The script fell silent for {self._idle_s:g} seconds and was stopped; ask again."

    @contextmanager
    def _files(self, prompts: Sequence[Prompt]) -> Iterator[list[Path]]:
        """A private file for each prompt, for as long as the program runs."""
        directory: Path | None = None
        try:
            try:
                directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._directory))  # mode 0700
                files = [directory / str(slot) for slot in range(len(prompts))]
                for file, prompt in zip(files, prompts, strict=True):
                    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                        out.write(context(prompt))
            except OSError as error:
                log.error("script_files_not_written", error=str(error))
                raise EngineFailure(
                    f"The question could not be handed to the script; {TELL}: its log says why."
                ) from error
            yield files
        finally:
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)


def context(prompt: Prompt) -> bytes:
    """What the program finds in the file: base64, one line of it."""
    turns = [{"role": turn.role, "name": turn.name, "text": turn.text} for turn in prompt.turns]
    newest = next((turn.text for turn in reversed(prompt.turns) if turn.role == "user"), "")
    said = {"run": prompt.run, "assistant": prompt.assistant, "turns": turns, "text": newest}
    return base64.b64encode(json.dumps(said).encode())


def remove_left_behind(directory: Path, older_s: float) -> None:
    """Remove what a process that was killed has left of its prompts: our own directories of that name and age."""
    with contextlib.suppress(OSError):
        for path in directory.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                found = path.lstat()
                ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
                if ours and found.st_mtime < time.time() - older_s:
                    shutil.rmtree(path, ignore_errors=True)


def _end_of(slot: int, lines: Lines, wrong: str | None) -> Piece:
    if wrong is not None:
        return EngineFailure(wrong)
    if slot in lines.wrote:
        return ""
    return EngineFailure("The script wrote nothing; ask again, or in other words.")


def _ended(code: int, complaint: str | None) -> str:
    if code > 0:
        how = f"ended with exit code {code}"
    else:
        with contextlib.suppress(ValueError):
            return _because(f"The script was killed by {signal.Signals(-code).name}", complaint)
        how = f"was killed by signal {-code}"
    return _because(f"The script {how}", complaint)


def _because(what: str, complaint: str | None) -> str:
    if complaint is None:
        return f"{what}; {TELL}."
    said = sentence(complaint)
    return f"{what}: {said}" if said else f"{what} and did not say why; {TELL}."


def _size(count: int) -> str:
    return f"{count / (1 << 20):g} MiB" if count >= 1 << 20 else f"{count} bytes"
