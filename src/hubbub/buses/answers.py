"""An answer as far as a node knows it."""

from __future__ import annotations

from hubbub.core.frames import RunDelta
from hubbub.core.nouns import RunState
from hubbub.core.ports import Progress, Usage


class Answer:
    """Kept in pieces, so that a long one is not copied at every word. `length` counts code points."""

    __slots__ = ("_pieces", "attempt", "error", "forgotten", "length", "lost", "model", "state", "truncated", "usage")

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self._pieces: list[str] = []
        self.length = 0
        self.state = RunState.RUNNING
        self.error: str | None = None
        self.truncated = False
        self.usage: Usage | None = None
        self.model = ""
        self.lost = False
        self.forgotten = False

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def extend(self, delta: RunDelta) -> bool:
        """Take a piece that continues the answer exactly where it is; anything else changes nothing. Was it one?"""
        if self.attempt != delta.attempt or self.length != delta.offset or self.state.ended:
            return False
        self._pieces.append(delta.text)
        self.length += len(delta.text)
        return True

    def end(
        self,
        state: RunState,
        error: str | None,
        *,
        truncated: bool = False,
        usage: Usage | None = None,
        model: str = "",
    ) -> None:
        self.state, self.error, self.truncated, self.usage, self.model = state, error, truncated, usage, model
        self.lost = False

    def complete(self, text: str) -> None:
        """That is its text, where it is longer than what was heard of it."""
        if len(text) > self.length:
            self._pieces, self.length = [text], len(text)

    def cancel(self) -> None:
        """It stays as it is, unless it has ended."""
        if not self.state.ended:
            self.state = RunState.CANCELLED

    @property
    def progress(self) -> Progress:
        return Progress(
            attempt=self.attempt,
            text=self.text,
            state=self.state,
            error=self.error,
            truncated=self.truncated,
            usage=self.usage,
            model=self.model,
            lost=self.lost,
            forgotten=self.forgotten,
        )
