"""The command line: one short module for each command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from hubbub import __version__
from hubbub.cli import chat, config, serve, thermometer, up

app = typer.Typer(
    name="hubbub",
    help="People, AI assistants and devices in one live conversation.\n\nStart with: hubbub up",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hubbub {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """People, AI assistants and devices in one live conversation."""


app.command("up")(up.up)
app.command("serve")(serve.serve)
app.command("chat")(chat.chat)
app.command("thermometer")(thermometer.thermometer)
app.command("config")(config.config)
