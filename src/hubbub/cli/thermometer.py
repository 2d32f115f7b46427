"""hubbub thermometer: run a simulated device that people and assistants can ask and subscribe to."""

from __future__ import annotations

import argparse

from hubbub.cli import options as common

NAME = "thermometer"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="thermometer1", help="name of the device [thermometer1]")
    common.client(parser)
    parser.add_argument(
        "--interval-s",
        dest="thermometer_interval_s",
        type=float,
        metavar="SECONDS",
        help="seconds between two readings [HUBBUB_THERMOMETER_INTERVAL_S, 100]",
    )
    common.lifeline(parser)
    parser.add_argument("--token-fd", type=int, help=argparse.SUPPRESS)  # for the launcher; nothing in it: a guest


def run(asked: argparse.Namespace) -> None:
    from hubbub import config, process
    from hubbub.apps import thermometer

    settings = config.load(vars(asked))
    process.set_up_logging(settings)
    where, trust = common.where(asked, settings)
    token = common.token(asked, settings) if asked.token_fd is None else common.read_all(asked.token_fd) or None
    work = thermometer.run(where, asked.name, settings.thermometer_interval_s, token=token, trust=trust)
    process.run(process.until_told_to_stop(asked.lifeline_fd, work))
