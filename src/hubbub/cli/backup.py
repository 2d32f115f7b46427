"""hubbub backup: copy the data into one file, also while the server is writing them."""

from __future__ import annotations

import argparse
from pathlib import Path

from hubbub.cli import options as common

NAME = "backup"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write the copy")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    common.home(parser)


def run(asked: argparse.Namespace) -> None:
    from hubbub import config, upkeep

    contents = upkeep.back_up(config.load({"home": asked.home}), asked.file, overwrite=asked.overwrite)
    print(f"{asked.file} holds {contents}.")
