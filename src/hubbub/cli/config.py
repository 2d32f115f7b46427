"""`hubbub config`: every setting, its value, where it came from."""

from __future__ import annotations

import typer

from hubbub.cli import options


def config(home: options.Home = None) -> None:
    """Show every setting, its value and where it came from."""
    from hubbub import config as table

    settings = table.load({"home": home})
    width = max(len(setting.variable) for setting in table.SETTINGS)
    for setting in table.SETTINGS:
        value = settings.values[setting.name]
        shown = "(set)" if setting.secret and value else "" if value is None else str(value)
        typer.echo(f"{setting.variable:<{width}}  {shown:<28}  {settings.origin[setting.name]}")
    for note in settings.notes:
        typer.echo(f"note: {note}")
