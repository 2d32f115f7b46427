"""hubbub load: ask POST /chat of a running server many times at once, check and time every answer."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hubbub.cli import options as common
from hubbub.core.errors import BadRequest

if TYPE_CHECKING:
    from hubbub.config import Settings

NAME = "load"
SEVERAL_TURNS = 5


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="the server's address [http://127.0.0.1:8000]")
    parser.add_argument("--start", action="store_true", help="start a server for it, on a free port, and stop it again")
    parser.add_argument("--requests", type=int, metavar="N", help="how many altogether [10, or as the duration lets]")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="begin requests for so long")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="how many at once [1]")
    parser.add_argument(
        "--rate", type=float, metavar="N", help="begin N a second, however long earlier ones take (open loop)"
    )
    parser.add_argument("--ramp-up", type=float, default=0.0, metavar="SECONDS", help="begin with one at once")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="in which the ramp goes up [10]")
    parser.add_argument(
        "--multi-turn", action="store_true", help=f"several turns in each conversation [{SEVERAL_TURNS}]"
    )
    parser.add_argument("--turns", type=int, metavar="N", help="so many turns in each conversation")
    parser.add_argument("--message", metavar="TEXT", help="what is asked")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for one answer [30]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report there, as JSON")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="who may have signed the server's certificate (PEM)")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with a token to sign in with [HUBBUB_TOKEN]"
    )


def run(asked: argparse.Namespace) -> int:
    import msgspec

    from hubbub import config, process
    from hubbub.apps.load import Load, Plan, words
    from hubbub.apps.load.post_chat import PostChat, find_door
    from hubbub.cli.own_server import own_server
    from hubbub.client import Trust

    said = {} if asked.message is None else {"message": asked.message}
    plan = Plan(
        requests=asked.requests,
        duration_s=asked.duration,
        concurrency=asked.concurrency,
        rate=asked.rate,
        turns=asked.turns if asked.turns is not None else SEVERAL_TURNS if asked.multi_turn else 1,
        ramp_up_s=asked.ramp_up,
        steps=asked.steps,
        timeout_s=asked.timeout,
        **said,
    )
    if asked.start and (asked.url or asked.token_file or asked.ca):
        raise BadRequest("--start starts a server that nobody knows yet; leave --url, --token-file and --ca out.")
    settings = config.load()
    url, token = asked.url or own_url(settings), None if asked.start else common.token(asked, settings)
    own = settings.tls_cert if asked.url is None and asked.ca is None else None
    tls = Trust(ca=asked.ca, only=own).context() if url.startswith("https:") and not asked.start else None
    if asked.output is not None:
        write(asked.output, b"")  # rather now than after an hour
    progress = words.Progress(sys.stderr)
    load: Load | None = None

    async def work() -> None:
        nonlocal load
        async with own_server() if asked.start else contextlib.nullcontext(url) as at:
            door = await find_door(at, token, tls)
            load = Load(plan, lambda: PostChat(door), url=door.url, talker="POST /chat", shows=progress)
            await load.run()

    process.run(process.until_told_to_stop(work=work()))
    progress.clear()
    if load is None:  # stopped before it began
        return 1
    report = load.report()
    if asked.output is not None:
        write(asked.output, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    print(words.page(report))
    return 0 if report.all_well else 1


def own_url(settings: Settings) -> str:
    """Of the server these settings start."""
    host = f"[{settings.own_address}]" if ":" in settings.own_address else settings.own_address
    return f"{'http' if settings.tls_cert is None else 'https'}://{host}:{settings.port}"


def write(file: Path, data: bytes) -> None:
    """Raises BadRequest: it cannot be written."""
    try:
        file.write_bytes(data)
    except OSError as failure:
        raise BadRequest(f"--output {file} cannot be written ({failure.strerror}).") from None
