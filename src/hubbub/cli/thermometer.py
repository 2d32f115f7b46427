"""`hubbub thermometer`: a simulated device."""

from __future__ import annotations

from typing import Annotated

import typer

from hubbub.cli import options


def thermometer(
    name: Annotated[str, typer.Option(help="Name of the device.")] = "thermometer1",
    address: options.Address = None,
    interval_s: Annotated[
        float | None,
        typer.Option(help="Seconds between readings [HUBBUB_THERMOMETER_INTERVAL_S, 100].", show_default=False),
    ] = None,
    lifeline_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a simulated thermometer that people and assistants can ask and subscribe to."""
    from hubbub import config, process
    from hubbub.apps.thermometer import run

    settings = config.load({"thermometer_interval_s": interval_s})
    process.set_up_logging(settings)
    where = address or f"tcp://{settings.host}:{settings.tcp_port}"

    async def work() -> None:
        await process.until_told_to_stop(lifeline_fd, run(where, name, settings.thermometer_interval_s))

    process.run(work())
