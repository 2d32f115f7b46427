"""Bytes to requests and frames to bytes: strict JSON, checked once at the door and trusted inside.

A frame is one JSON object in UTF-8: no byte-order mark, no key twice, no NaN or Infinity, no lone surrogate, at most
32 levels deep and 256 keys an object. msgspec parses it seven times faster than pydantic, but takes the last of two
equal keys. A key is a quotation mark before a colon; when those are as many as the keys that were parsed, and none has
white space between, no key can have been given twice. Only other frames (one with `\\":` in a text, say) are parsed
again by the slower standard library.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from hubbub.core import frames
from hubbub.core.errors import BadFrame, BadRequest, Problem, TooLarge, UnknownType
from hubbub.core.framing import MAX_FRAME_BYTES

MAX_DEPTH = 32
MAX_KEYS = 256
MAX_ID = 64

_SPACED = re.compile(rb'"[ \t\r\n]+:')

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_convert = msgspec.convert


class Undecodable(Exception):
    """A payload that is no valid request, with the `id` to answer to, when one could be read."""

    def __init__(self, problem: Problem, id: str | int | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.id = id


def encode(frame: frames.Frame) -> bytes:
    """The frame as it travels, before any framing."""
    return _encode(frame)


def encode_value(value: Any) -> bytes:
    """Any JSON value, as it is counted against a limit."""
    return _encode(value)


def decode(payload: bytes) -> frames.Request:
    """The request in one payload. Raises Undecodable with the problem to answer."""
    frame = decode_object(payload)
    id = frame.get("id")
    if id is not None and not _good_id(id):
        raise Undecodable(BadFrame(f"'id' must be a string of at most {MAX_ID} characters or an integer within ±2^53."))
    kind = frame.get("type")
    if not isinstance(kind, str):
        raise Undecodable(BadFrame('A frame needs a \'type\', a string such as "hello" or "message.send".'), id)
    cls = frames.REQUESTS.get(kind)
    if cls is None:
        known = ", ".join(frames.REQUESTS)
        raise Undecodable(UnknownType(f"There is no request of type {kind[:64]!r}. Known are: {known}."), id)
    try:
        return _convert(frame, cls)
    except msgspec.ValidationError as wrong:
        raise Undecodable(BadRequest(f"{kind}: {_plain(wrong)}"), id) from None


def decode_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in one payload, after every check that does not depend on its type. Raises Undecodable."""
    if len(payload) > MAX_FRAME_BYTES:
        raise Undecodable(TooLarge(f"The frame has {len(payload)} bytes; the limit is {MAX_FRAME_BYTES}."))
    try:
        frame = _decode(payload)
    except UnicodeDecodeError:
        raise Undecodable(BadFrame("The frame is not valid UTF-8.")) from None
    except (msgspec.DecodeError, RecursionError) as wrong:
        raise Undecodable(BadFrame(f"The frame is not valid JSON: {wrong}.")) from None
    if not isinstance(frame, dict):
        raise Undecodable(BadFrame('A frame is one JSON object: {"type": …}.'))
    keys = _count_keys(frame, 1)
    if payload.count(b'":') != keys or _SPACED.search(payload):
        _reject_duplicates(payload)
    if b"\\ud" in payload or b"\\uD" in payload:
        _reject_surrogates(frame)
    return frame


def _good_id(id: object) -> bool:
    if isinstance(id, str):
        return len(id) <= MAX_ID
    return isinstance(id, int) and not isinstance(id, bool) and -(2**53) <= id <= 2**53


def _count_keys(value: Any, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise Undecodable(BadFrame(f"The frame is nested deeper than {MAX_DEPTH} levels."))
    if isinstance(value, dict):
        if len(value) > MAX_KEYS:
            raise Undecodable(BadFrame(f"An object has {len(value)} keys; the limit is {MAX_KEYS}."))
        keys = len(value)
        for child in value.values():
            if child.__class__ is dict or child.__class__ is list:
                keys += _count_keys(child, depth + 1)
        return keys
    return sum(_count_keys(child, depth + 1) for child in value if child.__class__ is dict or child.__class__ is list)


def _reject_duplicates(payload: bytes) -> None:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(found)
        if len(made) != len(found):
            seen: set[str] = set()
            twice = next(key for key, _ in found if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise Undecodable(BadFrame(f"The key {twice[:64]!r} is given twice in one object."))
        return made

    try:
        json.loads(payload, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as wrong:
        raise Undecodable(BadFrame(f"The frame is not valid JSON: {wrong}.")) from None


def _reject_surrogates(value: Any) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Undecodable(BadFrame("A text contains half of a surrogate pair.")) from None
    elif isinstance(value, dict):
        for key, child in value.items():
            _reject_surrogates(key)
            _reject_surrogates(child)
    elif isinstance(value, list):
        for child in value:
            _reject_surrogates(child)


def _plain(wrong: msgspec.ValidationError) -> str:
    """msgspec's sentence with its JSON path in words a person knows."""
    text = str(wrong).replace("`", "'")
    said, at, path = text.partition(" - at '$")
    field = path.rstrip("'").lstrip(".")
    return f"{said} for '{field}'." if at and field else f"{said}."
