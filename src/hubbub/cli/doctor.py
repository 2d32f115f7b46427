"""hubbub doctor: look for what is unsafe or wrong in this installation, and say what to do about it."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hubbub.cli import options as common

if TYPE_CHECKING:
    from hubbub.doctor import Finding

NAME = "doctor"
NARROWEST = 40


def options(parser: argparse.ArgumentParser) -> None:
    common.server(parser)
    parser.add_argument("--verbose", action="store_true", help="say what is fine, too")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def run(asked: argparse.Namespace) -> int:
    from hubbub import config
    from hubbub.doctor import examine

    findings = examine(lambda: config.load(vars(asked)), Path(".env"))
    bad = sum(finding.level.counts for finding in findings)
    if asked.json:
        found = [{"level": one.level, "about": one.about, "sentence": one.sentence} for one in findings]
        print(json.dumps({"ok": not bad, "findings": found}, indent=2))
    else:
        shown = [one for one in findings if asked.verbose or one.level != "fine"]
        print(_listed(shown, _summary(bad, len(findings)), _width()))
    return 1 if bad else 0


def _summary(bad: int, looked_at: int) -> str:
    if not bad:
        return f"All is well; {looked_at} things were looked at."
    return "One thing is to be done." if bad == 1 else f"{bad} things are to be done."


def _width() -> int:
    """Of the terminal; into a file or a pipe each finding goes on one line."""
    return max(NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 0


def _listed(findings: Sequence[Finding], summary: str, width: int) -> str:
    lines = []
    for finding in findings:
        line = f"{finding.level:<8}{finding.sentence}"
        if width:
            line = textwrap.fill(line, width, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)
        lines.append(line)
    return "\n".join([*lines, "", summary] if lines else [summary])
