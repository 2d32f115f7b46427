"""hubbub chat: talk in a terminal; NAME: MESSAGE, #lobby: MESSAGE, !help."""

from __future__ import annotations

import argparse
import os
import sys

from hubbub.cli import options as common
from hubbub.core.errors import BadRequest

NAME = "chat"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", help="name to speak as; asked for when not given")
    parser.add_argument("--register", action="store_true", help="make the name your own, with a new password")
    common.client(parser)


def run(asked: argparse.Namespace) -> int:
    from hubbub import config, process
    from hubbub.apps import chat

    if asked.token_file is not None and (asked.user or asked.register):
        raise BadRequest("The token says who you are; leave --user and --register out, or --token-file.")
    settings = config.load()
    where, trust = common.where(asked, settings)
    token = None if asked.user or asked.register else common.token(asked, settings)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return process.run(chat.chat(where, asked.user, token=token, register=asked.register, trust=trust, colour=colour))
