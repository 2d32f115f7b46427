"""`hubbub chat`: the terminal client."""

from __future__ import annotations

import os
import sys

import typer

from hubbub.cli import options


def chat(user: options.User = None, address: options.Address = None) -> None:
    """Talk in a terminal: NAME: MESSAGE, #lobby: MESSAGE, !help."""
    from hubbub import config, process
    from hubbub.apps import chat as client

    settings = config.load()
    where = address or f"tcp://{settings.host}:{settings.tcp_port}"
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    raise typer.Exit(process.run(client.chat(where, user, colour=colour)))
