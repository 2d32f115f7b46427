"""hubbub serve: run the server alone, in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from hubbub.cli import options as common
from hubbub.core.errors import Problem

if TYPE_CHECKING:
    from hubbub.app import App
    from hubbub.config import Settings

NAME = "serve"
SHORTEST_S = 5.0
"""Between two introductions, however short tokens live."""


def options(parser: argparse.ArgumentParser) -> None:
    common.server(parser)
    common.lifeline(parser)
    # For the launcher: where to write the ports, and after them, as often as it takes, a token for this device.
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--introduce", metavar="NAME", help=argparse.SUPPRESS)


def run(asked: argparse.Namespace) -> None:
    from hubbub import config, process

    settings = config.load(vars(asked))
    settings.require_a_writer()
    process.set_up_logging(settings)
    from hubbub import upkeep
    from hubbub.app import App

    async def serve() -> None:
        ports: dict[str, int] = {}  # once they are known, also those of the server that begins anew
        told = False
        while not told:
            settings = config.load({**vars(asked), **ports})
            async with App(settings) as app:
                if asked.introduce is not None and asked.ready_fd is not None:
                    app.hub.spawn(introduce(asked, app), standing=True)
                elif not ports:
                    announce(asked, settings, app)
                ports = {"port": app.http_port, "tcp_port": app.tcp_port}
                told = await process.until_told_to_stop(
                    asked.lifeline_fd, upkeep.replaced(settings), ready="READY=1\nSTATUS="
                )
                process.notify("STOPPING=1" if told else "STATUS=Taking in a backup")

    process.run(serve())


def announce(asked: argparse.Namespace, settings: Settings, app: App) -> None:
    """Say where the server is: to whoever started it, or to a person."""
    if asked.ready_fd is not None:
        with os.fdopen(asked.ready_fd, "w") as ready:
            json.dump({"http": app.http_port, "tcp": app.tcp_port}, ready)
        return
    if settings.tls_cert is None:
        print(f"web   http://{settings.host}:{app.http_port}/")
        print(f"nc    nc {settings.host} {app.tcp_port}")
    else:
        print(f"web   https://{settings.host}:{app.http_port}/")
        print(f"chat  hubbub chat --address tls://{settings.host}:{app.tcp_port}")
    for note in settings.notes:
        print(f"note  {note}")


async def introduce(asked: argparse.Namespace, app: App) -> None:
    """Tell the launcher the ports and a token for its device, and a newer token before that has run out: a line of
    JSON each. Whoever starts the server may make such tokens, so that none has to lie in a file."""
    import asyncio

    import structlog

    log = structlog.get_logger("hubbub.serve")
    while True:
        token = ""
        try:
            token = await app.hub.gate.introduce(asked.introduce)
        except Problem as refused:
            log.warning("not_introduced", device=asked.introduce, reason=refused.detail)
        said = json.dumps({"http": app.http_port, "tcp": app.tcp_port, "token": token}) + "\n"
        try:
            os.write(asked.ready_fd, said.encode())
        except OSError:  # nobody listens any more
            return
        await asyncio.sleep(max(SHORTEST_S, app.hub.gate.auth.expires_s / 4))
