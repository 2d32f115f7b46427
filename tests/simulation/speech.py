"""The client's half of the three transports, written from the protocol page and not from the server's code."""

from __future__ import annotations

import json
from typing import Any, Protocol

KINDS = ("framed", "text", "binary")

Frame = dict[str, Any]


class Prompted(Exception):
    """The server took us for a person: come again, and speak sooner."""


class Speech(Protocol):
    def say(self, payload: bytes) -> bytes:
        """One frame as it travels to the server."""

    def hear(self, data: bytes) -> list[Frame]:
        """The frames that are complete with these bytes. Raises AssertionError: this is not the protocol."""


def speech_of(kind: str) -> Speech:
    return Framed() if kind == "framed" else WebSocket(binary=kind == "binary")


class Framed:
    def __init__(self) -> None:
        self._held = bytearray()

    def say(self, payload: bytes) -> bytes:
        return len(payload).to_bytes(4, "big") + payload

    def hear(self, data: bytes) -> list[Frame]:
        held = self._held
        held += data
        if held[0] != 0:
            raise Prompted
        frames = []
        while len(held) >= 4 and len(held) >= 4 + (length := int.from_bytes(held[:4], "big")):
            frames.append(decoded(bytes(held[4 : 4 + length])))
            del held[: 4 + length]
        assert len(held) < 4 or int.from_bytes(held[:4], "big") <= 1 << 20, "a frame of more than 1 MiB"
        return frames


class WebSocket:
    def __init__(self, binary: bool) -> None:
        self._binary = binary
        self._answered = False  # before it has read the hello the server cannot know the kind
        self._held = bytearray()
        self.closed: int | None = None

    def say(self, payload: bytes) -> bytes:
        if self._binary:
            payload = len(payload).to_bytes(4, "big") + payload
        size = len(payload)
        head = bytes((0x82 if self._binary else 0x81,))
        if size < 126:
            head += bytes((0x80 | size,))
        elif size < 1 << 16:
            head += b"\xfe" + size.to_bytes(2, "big")
        else:
            head += b"\xff" + size.to_bytes(8, "big")
        return head + b"\0\0\0\0" + payload  # a mask of zeroes

    def hear(self, data: bytes) -> list[Frame]:
        held = self._held
        held += data
        frames: list[Frame] = []
        while (split := self._next()) is not None:
            first, payload = split
            assert self.closed is None, "something after the close"
            if first == 0x88:
                self.closed = int.from_bytes(payload[:2], "big")
            elif first == 0x82 and self._binary:
                self._answered = True
                at = 0
                while at < len(payload):
                    length = int.from_bytes(payload[at : at + 4], "big")
                    frames.append(decoded(payload[at + 4 : at + 4 + length]))
                    at += 4 + length
            elif first == 0x81 and not (self._binary and self._answered):
                frames.append(decoded(payload))
            else:
                raise AssertionError(f"a WebSocket frame that begins with {first:#x}")
        return frames

    def _next(self) -> tuple[int, bytes] | None:
        held = self._held
        if len(held) < 2:
            return None
        length, at = held[1], 2
        assert length < 128, "the server masked its frame"
        if length > 125:
            at = 4 if length == 126 else 10
            if len(held) < at:
                return None
            length = int.from_bytes(held[2:at], "big")
        if len(held) < at + length:
            return None
        first, payload = held[0], bytes(held[at : at + length])
        del held[: at + length]
        return first, payload


def decoded(payload: bytes) -> Frame:
    assert len(payload) <= 1 << 20
    frame = json.loads(payload)
    assert isinstance(frame, dict)
    assert isinstance(frame.get("type"), str)
    return frame
