"""`hubbub serve`: the server alone, in the foreground."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from hubbub.cli import options


def serve(
    host: options.Host = None,
    port: options.Port = None,
    tcp_port: options.TcpPort = None,
    home: options.Home = None,
    no_web: options.NoWeb = False,
    no_openai: options.NoOpenai = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    lifeline_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the server alone, in the foreground, until Ctrl-C."""
    from hubbub import config

    settings = config.load(
        {
            "host": host,
            "port": port,
            "tcp_port": tcp_port,
            "home": home,
            "web": options.off(no_web),
            "openai": options.off(no_openai),
        }
    )
    from hubbub import process
    from hubbub.app import App

    process.set_up_logging(settings)

    async def run() -> None:
        async with App(settings) as app:
            if ready_fd is not None:
                with os.fdopen(ready_fd, "w") as ready:
                    json.dump({"http": app.http_port, "tcp": app.tcp_port}, ready)
            else:
                typer.echo(f"web   http://{settings.host}:{app.http_port}/")
                typer.echo(f"nc    nc {settings.host} {app.tcp_port}")
                for note in settings.notes:
                    typer.echo(f"note  {note}")
            await process.until_told_to_stop(lifeline_fd)

    process.run(run())
