"""What this client has heard: each message once and in order, each answer to the character. No I/O.

Whatever a server or a reconnect repeats, `take` lets through only what is new. `resume` says where to go
on. A hole in a thread is not an error here: who leaves a thread and joins it again has one.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from hubbub.core import frames
from hubbub.core.feed import Feed, Verdict
from hubbub.core.wire import MAX_KEYS

REMEMBERED_ENDS = 1024


class Hearing:
    """Positions of this client. `only`, where given, are the threads it hears."""

    __slots__ = ("_ended", "_feed", "_only", "epoch")

    def __init__(self, only: list[str] | None = None) -> None:
        self._only = None if only is None else frozenset(only)
        self._feed = Feed()
        self._ended: dict[str, None] = {}
        self.epoch: str | None = None

    def welcomed(self, welcome: frames.Welcome) -> None:
        """Take the positions of threads not heard before. In another epoch the old positions mean nothing."""
        epoch = welcome.server.get("epoch")
        if self.epoch is not None and epoch != self.epoch:
            self._feed = Feed()
            self._ended.clear()
        self.epoch = epoch
        for thread in welcome.threads:
            if thread.seen is not UNSET and (self._only is None or thread.id in self._only):
                self._feed.threads.setdefault(thread.id, thread.seen)

    def resume(self) -> frames.Resume | None:
        """Where the next connection goes on; None before the first welcome.

        An object has at most 256 keys: with more threads than that, the ones heard last are named, and for
        the others the server goes on after the `seen` cursor; what is doubled by that is dropped here.
        """
        if self.epoch is None:
            return None
        return frames.Resume(
            epoch=self.epoch,
            threads=dict(list(self._feed.threads.items())[-MAX_KEYS:]),
            runs=dict(list(self._feed.runs.items())[-MAX_KEYS:]),
        )

    def take(self, frame: frames.Frame) -> frames.Frame | None:
        """The event, what is new of it, or None when nothing is."""
        match frame:
            case frames.MessageFrame():
                return self._message(frame)
            case frames.RunDelta():
                return self._delta(frame)
            case frames.RunReset():
                known, _ = self._feed.runs.get(frame.run, (0, 0))
                if frame.run in self._ended or frame.attempt <= known:
                    return None
                self._feed.runs[frame.run] = (frame.attempt, 0)
            case frames.RunCompleted() | frames.RunFailed() | frames.RunCancelled():
                return self._end(frame)
            case frames.RunQueued() | frames.RunStarted():
                if frame.run in self._ended:
                    return None
                # Named in the next resume from now on, so its end is repeated if it is missed.
                self._feed.runs.setdefault(frame.run, (frame.attempt, 0))
                self._forget_runs()
            case frames.Reset():
                self._feed.threads.pop(frame.thread, None)
        return frame

    def _message(self, frame: frames.MessageFrame) -> frames.MessageFrame | None:
        heard = self._feed.threads
        # Taken out and put back, so that the thread heard last stands last.
        heard[frame.thread] = heard.pop(frame.thread, frame.seq - 1)
        match self._feed.ask(frame.thread, frame.seq):
            case Verdict.OLD:
                return None
            case Verdict.GAP:
                heard[frame.thread] = frame.seq
        return frame

    def _delta(self, frame: frames.RunDelta) -> frames.RunDelta | None:
        if frame.run in self._ended:
            return None
        new = self._feed.piece(frame.run, frame.attempt, frame.offset, frame.text)
        if new is None:
            return None
        self._forget_runs()
        offset, text = new
        return frame if offset == frame.offset else msgspec.structs.replace(frame, offset=offset, text=text)

    def _end(self, frame: frames.RunCompleted | frames.RunFailed | frames.RunCancelled) -> frames.Frame | None:
        if frame.run in self._ended:
            return None
        self._feed.runs.pop(frame.run, None)
        self._ended[frame.run] = None
        if len(self._ended) > REMEMBERED_ENDS:
            del self._ended[next(iter(self._ended))]
        return frame

    def _forget_runs(self) -> None:
        """Runs whose end never came here (the thread was left) must not pile up."""
        while len(self._feed.runs) > MAX_KEYS:
            del self._feed.runs[next(iter(self._feed.runs))]
