"""hubbub ai: let a model take part: it opens a topic every N seconds, or answers after every N lines."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from hubbub.cli import options as common
from hubbub.core.errors import BadRequest
from hubbub.core.nouns import LOBBY

if TYPE_CHECKING:
    from hubbub.apps.mode import Mode
    from hubbub.apps.report import Report
    from hubbub.client import Trust
    from hubbub.core.ports import Engine

NAME = "ai"
USER = "AI"

_NAMED = re.compile(r"(wss?://[^/]+/ws)/([^/?#]+)/?")

T = TypeVar("T")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", type=_mode, help="seconds or lines (1 or 2); asked for when not given")
    parser.add_argument("--n", type=_n, metavar="N", help="so many seconds or lines; asked for when not given")
    parser.add_argument("--thread", default=LOBBY, metavar="ID", help="where it takes part [lobby]")
    parser.add_argument("--user", help=f"name to speak as [{USER}]")
    common.client(parser, "ws", "--uri", "--url")
    parser.add_argument(
        "--engine",
        choices=("auto", "demo", "openai", "script"),
        help="who writes [HUBBUB_ENGINE, auto: as the settings have it]",
    )


def run(asked: argparse.Namespace) -> None:
    from hubbub import config, models, process
    from hubbub.apps.report import Report

    if asked.token_file is not None and asked.user:
        raise BadRequest("The token says who you are; leave --user out, or --token-file.")
    settings = config.load({"engine": asked.engine})
    process.set_up_logging(settings)
    engine = models.engines(settings)[models.default_engine(settings)]
    report = Report(colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    token = None if asked.user else common.token(asked, settings)
    if named := _NAMED.fullmatch(asked.address or ""):  # ws://localhost:8000/ws/AI: a name stands in the address
        asked.address, name = named.groups()
        asked.user = asked.user or name
    where, trust = common.where(asked, settings, "ws")
    process.run(process.until_told_to_stop(work=_take_part(asked, where, trust, token, engine, report)))
    report("left", "")


async def _take_part(
    asked: argparse.Namespace, where: str, trust: Trust, token: str | None, engine: Engine, report: Report
) -> None:
    from hubbub.apps import ai
    from hubbub.apps.keyboard import Keyboard
    from hubbub.apps.mode import choose

    mode, n = asked.mode, asked.n
    if mode is None or n is None:
        mode, n = await choose(mode, n, Keyboard(sys.stdin.fileno()), sys.stdin.isatty())
    user = asked.user or USER
    await ai.run(where, mode, n, engine, report, user=user, thread=asked.thread, token=token, trust=trust)


def _mode(text: str) -> Mode:
    from hubbub.apps.mode import mode

    return _read(mode, text)


def _n(text: str) -> int:
    from hubbub.apps.mode import frequency

    return _read(frequency, text)


def _read(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except BadRequest as wrong:
        raise argparse.ArgumentTypeError(wrong.detail) from None
