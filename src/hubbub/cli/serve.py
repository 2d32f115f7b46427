"""hubbub serve: run the server alone, in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os

from hubbub.cli import options as common

NAME = "serve"


def options(parser: argparse.ArgumentParser) -> None:
    common.server(parser)
    common.lifeline(parser)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)  # where to write the ports, for the launcher


def run(asked: argparse.Namespace) -> None:
    from hubbub import config, process

    settings = config.load(vars(asked))
    process.set_up_logging(settings)
    from hubbub.app import App

    async def serve() -> None:
        async with App(settings) as app:
            if asked.ready_fd is not None:
                with os.fdopen(asked.ready_fd, "w") as ready:
                    json.dump({"http": app.http_port, "tcp": app.tcp_port}, ready)
            else:
                print(f"web   http://{settings.host}:{app.http_port}/")
                print(f"nc    nc {settings.host} {app.tcp_port}")
                for note in settings.notes:
                    print(f"note  {note}")
            await process.until_told_to_stop(asked.lifeline_fd)

    process.run(serve())
