"""How events look on each transport. A *form* turns a turn's events into the bytes for everyone who reads that form.

An event is encoded once; a form only puts its own header before the same bytes, and what is due in one turn of the
loop is joined, so that a reader costs one write however many events there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hubbub.core import frames, wire
from hubbub.core.websocket import binary_frame, text_frame


class Shout:
    """One frame on its way out. `head` is the seq of its thread's newest message when it was shouted."""

    __slots__ = ("_payload", "frame", "head")

    def __init__(self, frame: frames.Frame, head: int = 0) -> None:
        self.frame = frame
        self.head = head
        self._payload: bytes | None = None

    @property
    def payload(self) -> bytes:
        """The frame's JSON, encoded at most once."""
        if self._payload is None:
            self._payload = wire.encode(self.frame)
        return self._payload


class Form(Protocol):
    def encode(self, shouts: Sequence[Shout]) -> bytes:
        """The bytes to write for these frames, in order; none when a reader of this form is not told of them."""


class TextForm:
    """WebSocket text messages, one a frame."""

    def encode(self, shouts: Sequence[Shout]) -> bytes:
        return b"".join([text_frame(shout.payload) for shout in shouts])


class BinaryForm:
    """WebSocket binary messages, each holding one length-prefixed frame."""

    def encode(self, shouts: Sequence[Shout]) -> bytes:
        return b"".join([binary_frame(len(shout.payload).to_bytes(4, "big") + shout.payload) for shout in shouts])


class FramedForm:
    """Length-prefixed frames, as they travel over TCP."""

    def encode(self, shouts: Sequence[Shout]) -> bytes:
        return b"".join([len(shout.payload).to_bytes(4, "big") + shout.payload for shout in shouts])


class SseForm:
    """Server-sent events of one thread. Ids name the exact character, so `Last-Event-ID` resumes there."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch

    def encode(self, shouts: Sequence[Shout]) -> bytes:
        parts = []
        for shout in shouts:
            kind = str(shout.frame.__struct_config__.tag)
            parts.append(b"%sevent: %s\ndata: %s\n\n" % (self.id_line(shout), kind.encode(), shout.payload))
        return b"".join(parts)

    def id_line(self, shout: Shout) -> bytes:
        frame = shout.frame
        if isinstance(frame, frames.MessageFrame):
            return f"id: {self.epoch}.{frame.seq}\n".encode()
        if isinstance(frame, frames.RunDelta):
            after = frame.offset + len(frame.text)
            return f"id: {self.epoch}.{shout.head}.{frame.run}.{frame.attempt}.{after}\n".encode()
        return b""


class SseAllForm(SseForm):
    """Server-sent events of all one's threads: an id names the thread that continues after its seq."""

    def id_line(self, shout: Shout) -> bytes:
        frame = shout.frame
        if isinstance(frame, frames.MessageFrame):
            return f"id: {self.epoch}.{frame.thread}:{frame.seq}\n".encode()
        return b""


TEXT = TextForm()
BINARY = BinaryForm()
FRAMED = FramedForm()
