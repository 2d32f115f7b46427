"""hubbub up: start everything in order, keep it running, say where it is; Ctrl-C stops it."""

from __future__ import annotations

import argparse

from hubbub.cli import options as common

NAME = "up"


def options(parser: argparse.ArgumentParser) -> None:
    common.server(parser)
    common.off(parser, "thermometer", "start without the thermometer")


def run(asked: argparse.Namespace) -> None:
    from hubbub import config
    from hubbub.launcher import launch

    launch(config.load(vars(asked)))
