"""One connection of a device: what it asked and in which order, and what becomes of what it hears."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import TYPE_CHECKING, Any

from simulation.network import Connection
from simulation.speech import Frame, Prompted, speech_of

if TYPE_CHECKING:
    from simulation.people import Device


class Line:
    """One connection, from its hello on."""

    def __init__(self, device: Device, kind: str) -> None:
        self.device = device
        self.kind = kind
        self.speech = speech_of(kind)
        self.connection: Connection | None = None
        self.owed: deque[tuple[str, Frame]] = deque()  # requests without a reply, in their order
        self.ready = False
        self.bye: Frame | None = None
        self.left: set[str] = set()  # threads nothing may be heard of
        self.smooth_since = math.inf  # when it began to read without pause
        self.began = device.world.loop.time()
        self.firsts: dict[str, list[str]] = {}  # thread -> keys first sent here

    def ask(self, type: str, id: str, **fields: Any) -> None:
        frame = {"type": type, "id": id, **fields}
        self.owed.append((id, frame))
        assert self.connection is not None
        self.connection.write(self.speech.say(json.dumps(frame).encode()))

    def hear(self, data: bytes) -> None:
        device = self.device
        if device.line is not self:
            return
        if not data:
            device.lost("it was closed")
            return
        try:
            for frame in self.speech.hear(data):
                if self.bye is not None:
                    device.wrong(f"heard {frame['type']} after the bye")
                device.hear(self, frame)
                if device.line is not self:
                    return
        except Prompted:
            device.drop("taken for a person")
        except AssertionError as wrong:
            device.wrong(f"broken framing: {wrong}")
