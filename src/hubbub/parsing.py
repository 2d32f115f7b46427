"""What the text of a setting may be, and what it then means. Each raises ValueError with what was expected."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from hubbub.core.framing import MAX_TEXT_BYTES

OUR_PATHS = frozenset(
    {"api", "assets", "chat", "conversations", "docs", "generate", "health", "healthz", "messages", "metrics"}
    | {"openapi.json", "readyz", "stats", "test", "v1", "ws"}
)
"""First parts of paths that mean something already."""

ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9_-]+)+")


def yes_no(text: str) -> bool:
    value = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in value:
        raise ValueError("expected 1 or 0, yes or no, on or off")
    return value[text.lower()]


def port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError("expected a port from 0 to 65535; 0 picks a free one")
    return port


def positive(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise ValueError("expected a number, zero or more")
    return number


def burst(text: str) -> float:
    number = positive(text)
    if 0 < number < 1:
        raise ValueError("expected a number from 1 on, or 0 for no limit")
    return number


def count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise ValueError("expected a whole number from 1 to 10000")
    return number


def cap(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 10_000_000:
        raise ValueError("expected a whole number, or 0 for no limit")
    return number


def seconds(text: str) -> float:
    number = float(text)
    if not 0 < number <= 86_400:
        raise ValueError("expected seconds, more than 0 and at most a day")
    return number


def lease(text: str) -> float:
    number = float(text)
    if not 0.2 <= number <= 600:
        raise ValueError("expected seconds, from 0.2 to 600")
    return number


def hours(text: str) -> float:
    number = float(text)
    if not 0.01 <= number <= 876_000:
        raise ValueError("expected hours, from 0.01 (36 seconds) to 876000 (a hundred years)")
    return number


def text_bytes(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_TEXT_BYTES:
        raise ValueError(f"expected bytes, from 1 to {MAX_TEXT_BYTES}")
    return number


def tokens(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000_000:
        raise ValueError("expected a whole number from 1 to 10000000")
    return number


def head_bytes(text: str) -> int:
    number = int(text)
    if not 1024 <= number <= 1 << 20:
        raise ValueError("expected bytes, from 1024 to 1048576")
    return number


def origins(text: str) -> frozenset[str]:
    origins = set()
    if "*" in text:
        raise ValueError("expected the origins themselves; with * any page could act here")
    for one in text.split(","):
        scheme, _, host = one.strip().lower().partition("://")
        if scheme not in ("http", "https") or not host or set(host) & set("/?#@ *"):
            raise ValueError("expected origins such as https://chat.example.com, separated by commas")
        origins.add(f"{scheme}://{host}")
    return frozenset(origins)


def root_path(text: str) -> str:
    path = text.rstrip("/")
    if path and (ROOT_PATH.fullmatch(path) is None or path.split("/")[1] in OUR_PATHS):
        raise ValueError("expected a path such as /hubbub, of letters, digits, - and _, that is none of Hubbub's own")
    return path


def path(text: str) -> Path:
    return Path(text).expanduser()


def one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return text.lower()

    return parse


def words(text: str) -> str:
    try:
        if not shlex.split(text):
            raise ValueError
    except ValueError:
        raise ValueError("expected a program and its arguments, as one would type them") from None
    return text


def key_name(text: str) -> str:
    if not 1 <= len(text) <= 100 or not text.isprintable() or set(text) & set(" {}"):
        raise ValueError("expected a name of up to 100 characters without spaces and braces")
    return text


def key(text: str) -> str:
    if len(text.encode()) < 32:
        raise ValueError("expected at least 32 bytes; leave it unset to have a key made")
    return text
