"""Options that several commands share. A flag that is not given is None, so that the environment can speak."""

from __future__ import annotations

import argparse
from pathlib import Path


def server(parser: argparse.ArgumentParser) -> None:
    """Where a server listens and what it serves."""
    parser.add_argument("--host", help="address to listen on [HUBBUB_HOST, 127.0.0.1]")
    parser.add_argument("--port", type=port, help="HTTP and WebSocket port, 0 for a free one [HUBBUB_PORT, 8000]")
    parser.add_argument("--tcp-port", type=port, help="TCP port, 0 for a free one [HUBBUB_TCP_PORT, 5000]")
    home(parser)
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate (PEM) [HUBBUB_TLS_CERT]")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key [HUBBUB_TLS_KEY]")
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        default=None,
        help="a proxy that encrypts stands before it [HUBBUB_BEHIND_PROXY]",
    )
    off(parser, "web", "do not serve the web page")
    off(parser, "openai", "start without the assistant")


def home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, metavar="DIRECTORY", help="directory of the data [HUBBUB_HOME]")


def off(parser: argparse.ArgumentParser, setting: str, about: str) -> None:
    """A `--no-…` flag: its setting is False when it is given, else unsaid."""
    parser.add_argument(f"--no-{setting}", dest=setting, action="store_false", default=None, help=about)


def address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address", help="where the server is: tcp://HOST:PORT or ws://HOST:PORT/ws [tcp://127.0.0.1:5000]"
    )


def lifeline(parser: argparse.ArgumentParser) -> None:
    """For the launcher: leave when the other end of this pipe is closed."""
    parser.add_argument("--lifeline-fd", type=int, help=argparse.SUPPRESS)


def port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; ports go from 0 to 65535")
    return number
