"""hubbub worker: write answers for a server elsewhere, which queues them in Redis, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os

from hubbub.cli import options as common

NAME = "worker"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engines", metavar="NAME,…", default="", help="who writes here, such as demo,openai; everybody when unset"
    )
    parser.add_argument("--host", help="address to listen on for its health [HUBBUB_HOST, 127.0.0.1]")
    parser.add_argument(
        "--worker-port",
        type=common.port,
        metavar="PORT",
        help="port for its health, 0 for a free one [HUBBUB_WORKER_PORT, 8001]",
    )
    common.lifeline(parser)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)  # where to write the port


def run(asked: argparse.Namespace) -> None:
    from hubbub import config, process

    settings = config.load(vars(asked))
    process.set_up_logging(settings)
    from hubbub.workers import Workers

    async def work() -> None:
        names = [name.strip() for name in asked.engines.split(",") if name.strip()]
        async with Workers(settings, names) as workers:
            if asked.ready_fd is not None:
                with os.fdopen(asked.ready_fd, "w") as ready:
                    json.dump({"http": workers.port}, ready)
            else:
                print(
                    f"worker  {', '.join(workers.workers)}; Redis at {workers.bus.address}; "
                    f"health http://{settings.own_address}:{workers.port}/health",
                    flush=True,
                )
            await process.until_told_to_stop(asked.lifeline_fd, ready="READY=1")
            process.notify("STOPPING=1")

    process.run(work())
