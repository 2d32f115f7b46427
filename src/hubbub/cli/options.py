"""Options that several commands share. A flag that is not given is None, so that the environment can speak."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hubbub.core.errors import BadRequest

if TYPE_CHECKING:
    from hubbub.client import Trust
    from hubbub.config import Settings

OWN = {"tcp": "tcp://127.0.0.1:5000", "ws": "ws://127.0.0.1:8000/ws"}
"""Where a client finds the server that nobody gave other ports, over what it prefers."""


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


def client(parser: argparse.ArgumentParser, over: str = "tcp", *names: str) -> None:
    """Where the server is, also by other names of the option, and what proves who one is."""
    parser.add_argument(
        "--address",
        *names,
        dest="address",
        metavar="ADDRESS",
        help=f"where the server is: tcp://HOST:PORT, ws://HOST:PORT/ws, or encrypted tls:// and wss:// [{OWN[over]}]",
    )
    parser.add_argument("--ca", type=Path, metavar="FILE", help="who may have signed the server's certificate (PEM)")
    parser.add_argument("--only-cert", type=Path, help=argparse.SUPPRESS)  # for the launcher: that of the server itself
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with a token to sign in with [HUBBUB_TOKEN]"
    )


def where(asked: argparse.Namespace, settings: Settings, over: str = "tcp") -> tuple[str, Trust]:
    """The address of the server, by default our own over `tcp` or `ws`, and whose certificate it may show: that of our
    own is known from its file."""
    from hubbub.client import Trust

    if asked.address:
        return asked.address, Trust(ca=asked.ca, only=asked.only_cert)
    encrypted = settings.tls_cert is not None
    host = f"[{settings.own_address}]" if ":" in settings.own_address else settings.own_address
    only = None if asked.ca else settings.tls_cert
    trust = Trust(ca=asked.ca, only=only)
    if over == "ws":
        return f"{'wss' if encrypted else 'ws'}://{host}:{settings.port}/ws", trust
    return f"{'tls' if encrypted else 'tcp'}://{host}:{settings.tcp_port}", trust


def token(asked: argparse.Namespace, settings: Settings) -> str | None:
    """The token to sign in with, if there is one. Raises BadRequest: the file cannot be read or is empty."""
    if asked.token_file is None:
        return settings.token or None
    try:
        text: str = asked.token_file.read_text().strip()
    except (OSError, ValueError) as failure:
        raise BadRequest(f"The token file {asked.token_file} cannot be read ({failure}).") from None
    if not text or any(not char.isprintable() or char.isspace() for char in text):
        raise BadRequest(f"The file {asked.token_file} holds no token; it should be one line with nothing else.")
    return text


def read_all(fd: int) -> str:
    """What was put into a pipe for us, which is closed then."""
    with os.fdopen(fd) as pipe:
        return pipe.read().strip()


def lifeline(parser: argparse.ArgumentParser) -> None:
    """For the launcher: leave when the other end of this pipe is closed."""
    parser.add_argument("--lifeline-fd", type=int, help=argparse.SUPPRESS)


def port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; ports go from 0 to 65535")
    return number
