"""The command line: one short module for each command, with its words, its options and what it does.

argparse, because every start pays for what is imported here: typer and what it needs take 0.1 s, three times what
`hubbub --help` now takes altogether, and `hubbub up` pays it twice. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hubbub import __version__
from hubbub.cli import ai, backup, chat, config, doctor, load, migrate, restore, serve, thermometer, up, user, worker

COMMANDS = (up, serve, worker, chat, ai, thermometer, load, user, config, doctor, backup, restore, migrate)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="hubbub",
        description="People, AI assistants and devices in one live conversation. Start with: hubbub up",
    )
    root.add_argument("--version", action="version", version=f"hubbub {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        about = str(command.__doc__).partition(": ")[2]
        sub = commands.add_parser(command.NAME, help=about, description=about, allow_abbrev=False)
        command.options(sub)
        sub.set_defaults(run=command.run)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    root = parser()
    asked = root.parse_args(arguments)
    if "run" not in asked:
        root.print_help()
        return 2
    code: int | None = asked.run(asked)
    return code or 0
