"""Links between the documents lead somewhere, and the commands they mention exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .pages import ROOT, spans, tables, unfenced
from .test_settings_page import commands, options

NAMED = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
PAGES = sorted(path for path in [*NAMED, *ROOT.glob("docs/*.md")] if path.is_file())

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_SHELL = re.compile(r"^```(?:bash|sh|shell|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def title(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """The names GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", unfenced(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def typed(path: Path) -> Iterator[str]:
    """What a reader is told to type: between backticks, and in blocks for a shell. Of the page that compares us with
    other projects, only what is ours and is said to work."""
    text = path.read_text(encoding="utf-8")
    if path.name == "coming-from.md":
        for table in tables(text):
            for _, here, status in table.rows:
                if status == "works now":
                    yield from spans(here)
        return
    yield from spans(text)
    for block in _SHELL.findall(text):
        lines = block.splitlines()
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        yield from prompted or lines


def words_after(program: str, path: Path) -> set[str]:
    """The first word after the program in everything a reader is told to type."""
    pattern = re.compile(rf"(?:^|uv run |uvx |&& |; ){program} ([a-z][a-z-]*)")
    return {word for line in typed(path) for word in pattern.findall(line)}


@pytest.mark.parametrize("path", PAGES, ids=title)
def test_every_link_to_a_file_of_ours_leads_to_one(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in _LINK.findall(unfenced(text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_relative_to(ROOT), f"{title(path)} links to {link}, which is not in the project"
        assert target.exists(), f"{title(path)} links to {link}, which does not exist"
        if anchor and target.suffix == ".md":
            known = anchors(target.read_text(encoding="utf-8"))
            assert anchor in known, f"{title(path)} links to {link}; the headings are {sorted(known)}"


@pytest.mark.parametrize("path", PAGES, ids=title)
def test_every_target_of_make_that_is_mentioned_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert words_after("make", path) <= targets


@pytest.mark.parametrize("path", PAGES, ids=title)
def test_every_command_of_ours_that_is_mentioned_exists(path: Path) -> None:
    known = set(commands())

    assert words_after("hubbub", path) <= known


@pytest.mark.parametrize("path", PAGES, ids=title)
def test_every_flag_that_is_mentioned_with_a_command_of_ours_exists(path: Path) -> None:
    for line in typed(path):
        found = re.match(r"(?:uv run |uvx )?hubbub ([a-z]+)(.*)", line)
        if found is None:
            continue
        known = {flag for option in options(commands()[found[1]]) for flag in option.option_strings}
        flags = set(re.findall(r"(?<!\S)(--[a-z][a-z-]*)", found[2]))
        assert flags <= known, f"{title(path)} says {line!r}"
