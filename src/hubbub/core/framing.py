"""Length-prefixed frames: four bytes, unsigned, big-endian, then that many bytes.

`Splitter` takes bytes as they come and gives whole payloads. A length above the limit is refused before a single
byte of it is kept, so a claimed 4 GiB costs nothing.
"""

from __future__ import annotations

from hubbub.core.errors import TooLarge

MAX_TEXT_BYTES = 64 << 10
MAX_FRAME_BYTES = 1 << 20
"""Longest payload in either direction."""

PREFIX_BYTES = 4


def prefixed(payload: bytes) -> bytes:
    """One payload as it travels."""
    return len(payload).to_bytes(4, "big") + payload


class Splitter:
    """Bytes in, payloads out. Holds at most one unfinished frame and is empty-handed when idle."""

    __slots__ = ("_held", "_max")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._held: bytearray | None = None

    @property
    def unfinished(self) -> bool:
        """Has a frame begun that is not yet complete?"""
        return self._held is not None

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads completed by `data`, in order.

        Raises TooLarge: a frame claims more than `max_frame_bytes`; payloads completed before it are in the
        exception's `before`, and the stream cannot be continued.
        """
        held = self._held
        if held is not None:
            held += data
            data = bytes(held) if len(held) >= self._wanted(held) else b""
            if not data:
                return []
            self._held = None
        payloads: list[bytes] = []
        at, end = 0, len(data)
        while end - at >= PREFIX_BYTES:
            length = int.from_bytes(data[at : at + PREFIX_BYTES], "big")
            if length > self._max:
                raise Overlong(length, self._max, payloads)
            start = at + PREFIX_BYTES
            if end - start < length:
                break
            payloads.append(data[start : start + length])
            at = start + length
        if at < end:
            self._held = bytearray(data[at:])
        return payloads

    def _wanted(self, held: bytearray) -> int:
        """How many bytes the frame being held will take, once that is known."""
        if len(held) < PREFIX_BYTES:
            return PREFIX_BYTES
        length = int.from_bytes(held[:PREFIX_BYTES], "big")
        if length > self._max:
            raise Overlong(length, self._max, [])
        return PREFIX_BYTES + length


class Overlong(TooLarge):
    """A frame that claims more than the limit. `before` are the whole payloads that preceded it."""

    def __init__(self, length: int, limit: int, before: list[bytes]) -> None:
        super().__init__(f"A frame of {length} bytes was announced; the limit is {limit} bytes.")
        self.before = before
