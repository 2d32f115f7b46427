"""What a server says, as the frames of core, and its refusals as the problems of core.

The other half of core's wire: there bytes of clients become requests, here bytes of a server become replies
and events. Frames of a type this version does not know are passed over, so an older client can talk to a
newer server.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import msgspec
from msgspec import UNSET

from hubbub.core import errors, frames
from hubbub.core.errors import Problem

_any_frame: Any = functools.reduce(operator.or_, frames.SERVER_FRAMES)
_decode = msgspec.json.Decoder(_any_frame).decode


class _Kind(msgspec.Struct):
    type: str


_kind = msgspec.json.Decoder(_Kind).decode


class Unreadable(Exception):
    """A payload that no server of this project says."""


def decode(payload: bytes) -> frames.Frame | None:
    """The frame in one payload; None when its type is not known here. Raises Unreadable."""
    try:
        frame: frames.Frame = _decode(payload)
        return frame
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        if isinstance(wrong, msgspec.ValidationError) and _kind_of(payload) not in _KNOWN:
            return None
        raise Unreadable(f"The server sent a frame that cannot be read: {wrong}.") from None


def _kind_of(payload: bytes) -> str | None:
    try:
        return _kind(payload).type
    except msgspec.DecodeError:
        return None


_KNOWN = frozenset({None} | {str(cls.__struct_config__.tag) for cls in frames.SERVER_FRAMES})


class Slow(Problem):
    """The server closed the connection because nobody read it."""

    code = "slow"


_CLASSES: dict[str, type[Problem]] = {"slow": Slow}
_CLASSES |= {
    cls.code: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, Problem) and cls is not Problem
}


def problem_of(error: frames.Error) -> Problem:
    """The refusal as it is raised here. A code that is not in the table counts as internal."""
    retry_after = None if error.retry_after is UNSET else error.retry_after
    cls = _CLASSES.get(error.code, errors.Internal)
    return cls(error.detail or error.title, retry_after=retry_after)


def problem_named(code: str, detail: str) -> Problem:
    """The problem with this code of the table."""
    return _CLASSES.get(code, errors.Internal)(detail)
