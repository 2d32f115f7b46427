"""hubbub restore: put a backup in the place of the data; a running server begins anew with it."""

from __future__ import annotations

import argparse
from pathlib import Path

from hubbub.cli import options as common

NAME = "restore"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a file that 'hubbub backup' wrote")
    common.home(parser)


def run(asked: argparse.Namespace) -> None:
    from hubbub import config, upkeep

    contents, kept = upkeep.restore(config.load({"home": asked.home}), asked.file)
    print(f"Restored {contents}.")
    if kept is not None:
        print(f"The data that were here before are kept in {kept}")
