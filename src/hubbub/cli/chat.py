"""hubbub chat: talk in a terminal; NAME: MESSAGE, #lobby: MESSAGE, !help."""

from __future__ import annotations

import argparse
import os
import sys

from hubbub.cli import options as common

NAME = "chat"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", help="name to speak as; asked for when not given")
    common.address(parser)


def run(asked: argparse.Namespace) -> int:
    from hubbub import config, process
    from hubbub.apps import chat

    settings = config.load()
    where = asked.address or f"tcp://{settings.host}:{settings.tcp_port}"
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return process.run(chat.chat(where, asked.user, colour=colour))
