"""Reads the documentation as a test needs it: tables as rows, fenced blocks, and what stands between backticks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_CELL = re.compile(r"(?<!\\)\|")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Table:
    """One table. `under` is the nearest heading above it."""

    under: str
    head: list[str]
    rows: list[list[str]]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def tables(text: str) -> list[Table]:
    """Every table outside fenced blocks, in order."""
    found: list[Table] = []
    heading, table = "", None
    for line in _FENCE.sub("", text).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").strip()
        if not line.startswith("|"):
            table = None
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in _CELL.split(line.strip().strip("|"))]
        if table is None:
            table = Table(heading, cells, [])
            found.append(table)
        elif not set("".join(cells)) <= set("-: "):
            table.rows.append(cells)
    return found


def table(text: str, under: str) -> Table:
    """The first table under a heading."""
    return next(table for table in tables(text) if table.under == under)


def fences(text: str, *languages: str) -> list[str]:
    """The fenced blocks written in one of these languages."""
    return [body for language, body in _FENCE.findall(text) if language in languages]


def unfenced(text: str) -> str:
    return _FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """What stands between single backticks."""
    return _SPAN.findall(unfenced(text))


def plain(cell: str) -> str:
    """A cell without its backticks."""
    return cell.replace("`", "")


def render(head: list[str], rows: list[list[str]]) -> str:
    """A table as it is written, for a test to show what is right."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
