"""How the protocol page writes a field's type: made from the declaration, so that page and code cannot drift apart."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, UNSET, UnsetType

from hubbub.core import frames
from hubbub.core.nouns import Message

OBJECTS: dict[str, type[msgspec.Struct]] = {
    "Thread": frames.ThreadView,
    "Message": Message,
    "Run": frames.RunView,
    "Resume": frames.Resume,
}
_NAMED = {struct: name for name, struct in OBJECTS.items()}
_ALIASES = {frames.Id: "id", frames.Name: "name", frames.Seq: "seq"}


def _spoken(hint: Any) -> str:
    """A type in the page's words."""
    for alias, word in _ALIASES.items():
        if hint == alias:
            return word
    if hint in _NAMED:
        return _NAMED[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if hasattr(hint, "__metadata__"):
        return _spoken(arguments[0]) + _limits(hint.__metadata__[0])
    if origin is list:
        return f"list of {_plural(_spoken(arguments[0]))}"
    if origin is tuple:
        return f"[{', '.join(_spoken(argument) for argument in arguments)}]"
    if origin is dict:
        key, value = (_spoken(argument) for argument in arguments)
        return "object" if value == "anything" else f"object of {key}: {value}"
    if origin is not None:  # a union
        return " or ".join(_spoken(one) for one in arguments if one not in (type(None), UnsetType))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        *some, last = hint
        return f"{', '.join(some)} or {last}"
    return {str: "string", int: "integer", float: "number", bool: "boolean", Any: "anything"}[hint]


def _plural(word: str) -> str:
    return f"{word}s"


def _limits(meta: msgspec.Meta) -> str:
    low = meta.ge if meta.ge is not None else meta.min_length
    high = meta.le if meta.le is not None else meta.max_length
    if high is None:
        return f" ≥ {low}"
    return f" ≤ {high}" if low is None else f" {low}–{high}"


def fields(struct: type[msgspec.Struct], leave_out: Iterable[str] = ("id",)) -> list[tuple[str, str, str]]:
    """(name, type, default) of each field. The default is `required`, empty when it may be left out, or its JSON."""
    hints = get_type_hints(struct, include_extras=True)
    found = []
    for field in msgspec.structs.fields(struct):
        if field.name in leave_out:
            continue
        if field.default_factory is not NODEFAULT:
            default = json.dumps(field.default_factory())
        elif field.default is NODEFAULT:
            default = "required"
        elif field.default is None or field.default is UNSET:
            default = ""
        else:
            default = json.dumps(field.default)
        found.append((field.name, _spoken(hints[field.name]), default))
    return found


def request_rows() -> list[list[str]]:
    """request, field, type, default"""
    rows = []
    for kind, cls in frames.REQUESTS.items():
        for name, spoken, default in fields(cls):
            shown = f"`{default}`" if default not in ("", "required") else default
            rows.append([f"`{kind}`", f"`{name}`", spoken, shown])
    return rows


def frame_rows() -> list[list[str]]:
    """frame, field, type; what all frames of a run have comes once, before the first of them"""
    rows = []
    common: list[str] = []
    for cls in frames.SERVER_FRAMES:
        if issubclass(cls, frames.RunFrame) and not common:
            common = [name for name, _, _ in fields(frames.RunFrame, ())]
            rows += [["`run.…`", f"`{name}`", spoken] for name, spoken, _ in fields(frames.RunFrame, ())]
        known = common if issubclass(cls, frames.RunFrame) else ("id",)
        for name, spoken, default in fields(cls, known):
            rows.append([f"`{cls.__struct_config__.tag}`", f"`{name}`", spoken if default else f"{spoken}, optional"])
    return rows


def object_rows() -> list[list[str]]:
    """object, field, type; the server leaves no field of a Message out, though some are null"""
    rows = []
    for called, struct in OBJECTS.items():
        for name, spoken, default in fields(struct, ()):
            if struct is Message and default == "":
                spoken += " or null"
            elif not default or called == "Resume":
                spoken += ", optional"
            rows.append([f"`{called}`", f"`{name}`", spoken])
    return rows
