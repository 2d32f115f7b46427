"""hubbub serve: run the server alone, in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from hubbub.cli import options as common

if TYPE_CHECKING:
    from hubbub.app import App
    from hubbub.config import Settings

NAME = "serve"


def options(parser: argparse.ArgumentParser) -> None:
    common.server(parser)
    common.lifeline(parser)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)  # where to write the ports, for the launcher


def run(asked: argparse.Namespace) -> None:
    from hubbub import config, process

    process.set_up_logging(config.load(vars(asked)))
    from hubbub import upkeep
    from hubbub.app import App

    async def serve() -> None:
        ports: dict[str, int] = {}  # once they are known, also those of the server that begins anew
        told = False
        while not told:
            settings = config.load({**vars(asked), **ports})
            async with App(settings) as app:
                if not ports:
                    announce(asked, settings, app)
                ports = {"port": app.http_port, "tcp_port": app.tcp_port}
                told = await process.until_told_to_stop(asked.lifeline_fd, upkeep.replaced(settings))

    process.run(serve())


def announce(asked: argparse.Namespace, settings: Settings, app: App) -> None:
    """Say where the server is: to whoever started it, or to a person."""
    if asked.ready_fd is not None:
        with os.fdopen(asked.ready_fd, "w") as ready:
            json.dump({"http": app.http_port, "tcp": app.tcp_port}, ready)
        return
    print(f"web   http://{settings.host}:{app.http_port}/")
    print(f"nc    nc {settings.host} {app.tcp_port}")
    for note in settings.notes:
        print(f"note  {note}")
