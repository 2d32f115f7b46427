"""The innermost loop of fan-out: the same bytes to everyone who is in step and reads the same form."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubbub.hub.session import Session


class Crowd:
    """Sessions in step. Nothing waits in front of what they are written: a door that has to keep bytes back says so
    (`Session.stop`), and its session leaves.

    So bytes may go straight to their sockets. The loop walks over plain numbers and touches no object of a reader: a
    thousand readers' objects are not in the processor's cache by the time they are needed, and fetching them was a
    tenth of the server's work beside the kernel's.
    """

    __slots__ = ("_files", "_on_sockets", "_others")

    def __init__(self) -> None:
        self._on_sockets: dict[int, Session] = {}
        self._others: dict[Session, None] = {}  # whose bytes are wrapped or looked at on their way
        self._files: array[int] | None = None  # the keys of `_on_sockets`, side by side

    def __len__(self) -> int:
        return len(self._on_sockets) + len(self._others)

    def __iter__(self) -> Iterator[Session]:
        yield from self._on_sockets.values()
        yield from self._others

    def add(self, session: Session) -> None:
        file = session.door.fileno()
        if file < 0:
            self._others[session] = None
        else:
            self._on_sockets[file] = session
            self._files = None

    def discard(self, session: Session) -> bool:
        """Was it here?"""
        if session in self._others:
            del self._others[session]
            return True
        file = session.door.fileno()
        if self._on_sockets.get(file) is not session:
            return False
        del self._on_sockets[file]
        self._files = None
        return True

    def write(self, data: bytes) -> None:
        """Give bytes to every session. Whoever cannot take them all leaves, there and then."""
        if self._files is None:
            self._files = array("i", self._on_sockets)
        size, write = len(data), os.write
        for file in self._files:
            try:
                sent = write(file, data)
            except OSError:  # full, or gone: the transport finds out
                sent = 0
            if sent != size:
                self._on_sockets[file].write(data[sent:])
        for session in list(self._others):
            session.write(data)
