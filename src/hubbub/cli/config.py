"""hubbub config: show every setting, its value and where it came from."""

from __future__ import annotations

import argparse

from hubbub.cli import options as common

NAME = "config"


def options(parser: argparse.ArgumentParser) -> None:
    common.home(parser)


def _shown(value: object) -> str:
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    return "" if value is None else str(value)


def run(asked: argparse.Namespace) -> None:
    from hubbub import config

    settings = config.load(vars(asked))
    width = max(len(setting.variable) for setting in config.SETTINGS)
    for setting in config.SETTINGS:
        value = settings.values[setting.name]
        shown = "(set)" if setting.secret and value else _shown(value)
        print(f"{setting.variable:<{width}}  {shown:<28}  {settings.origin[setting.name]}")
    for note in settings.notes:
        print(f"note: {note}")
