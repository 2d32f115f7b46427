"""`hubbub up`: everything, in order, watched."""

from __future__ import annotations

from hubbub.cli import options


def up(
    host: options.Host = None,
    port: options.Port = None,
    tcp_port: options.TcpPort = None,
    home: options.Home = None,
    no_web: options.NoWeb = False,
    no_thermometer: options.NoThermometer = False,
    no_openai: options.NoOpenai = False,
) -> None:
    """Start everything in order, keep it running, say where it is. Ctrl-C stops it."""
    from hubbub import config

    settings = config.load(
        {
            "host": host,
            "port": port,
            "tcp_port": tcp_port,
            "home": home,
            "web": options.off(no_web),
            "thermometer": options.off(no_thermometer),
            "openai": options.off(no_openai),
        }
    )
    from hubbub.launcher import launch

    launch(settings)
