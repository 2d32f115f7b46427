"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Host = Annotated[str | None, typer.Option(help="Address to listen on [HUBBUB_HOST, 127.0.0.1].", show_default=False)]
Port = Annotated[
    int | None,
    typer.Option(
        help="HTTP and WebSocket port, 0 for a free one [HUBBUB_PORT, 8000].", min=0, max=65535, show_default=False
    ),
]
TcpPort = Annotated[
    int | None,
    typer.Option(help="TCP port, 0 for a free one [HUBBUB_TCP_PORT, 5000].", min=0, max=65535, show_default=False),
]
Home = Annotated[
    Path | None, typer.Option(help="Directory of the data [HUBBUB_HOME].", show_default=False, file_okay=False)
]
NoWeb = Annotated[bool, typer.Option("--no-web", help="Do not serve the web page.")]
NoOpenai = Annotated[bool, typer.Option("--no-openai", help="Start without the assistant.")]
NoThermometer = Annotated[bool, typer.Option("--no-thermometer", help="Start without the thermometer.")]
User = Annotated[str | None, typer.Option(help="Name to speak as.", show_default=False)]
Address = Annotated[
    str | None,
    typer.Option(
        help="Where the server is: tcp://HOST:PORT or ws://HOST:PORT/ws [tcp://127.0.0.1:5000].", show_default=False
    ),
]


def off(flag: bool) -> bool | None:
    """A `--no-…` flag as the value of its setting: False when given, else unsaid."""
    return False if flag else None
