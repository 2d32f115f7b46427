"""hubbub user: add people and devices, make tokens, give and take rights; also while the server runs."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hubbub.cli import options as common
from hubbub.core.errors import BadRequest
from hubbub.core.nouns import Kind, Scope, stamp

if TYPE_CHECKING:
    from hubbub.accounts import Accounts

NAME = "user"
MAX_LINE = 4096
"""Bytes of a password that are read at most."""

Verb = Callable[["Accounts", argparse.Namespace], Awaitable[str]]


def options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(makes=False, asks=False)
    verbs = parser.add_subparsers(title="what to do", metavar="WHAT", required=True)

    def verb(name: str, work: Verb, about: str, *, of: str | None = "NAME") -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
        if of is not None:
            sub.add_argument("of", metavar=of)
        common.home(sub)
        sub.set_defaults(work=work)
        return sub

    add = verb("add", _add, "add an account; asks for its password, or reads it from a pipe")
    add.add_argument("--admin", action="store_true", help="make it an admin of the server")
    add.add_argument("--device", action="store_true", help="a device: it has no password, only tokens")
    _asks(add)
    add.set_defaults(makes=True)
    verb("list", _list, "show every account", of=None)
    _asks(verb("password", _password, "change a password; whoever used the old one is signed out"))
    admin = verb("admin", _admin, "make an account an admin of the server")
    admin.add_argument("--off", action="store_true", help="take that away again")
    verb("disable", _disable, "let nobody in under an account any more, nor stay")
    verb("enable", _enable, "let a disabled account in again")
    verb("sign-out", _sign_out, "sign an account out everywhere; its tokens stay good")
    token = verb("token", _token, "make a token and print its secret, this once")
    token.add_argument("--label", default="", help="what it is for")
    token.add_argument(
        "--scope",
        action="append",
        choices=[str(scope) for scope in Scope],
        help="what it allows; may be given several times [read and write]",
    )
    token.add_argument("--expires-days", type=float, metavar="N", help="days it is good for [for good]")
    token.set_defaults(makes=True)
    verb("tokens", _tokens, "show the tokens of an account, without their secrets")
    verb("revoke", _revoke, "make a token worthless, on open connections too", of="ID")


def _asks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="read the password from its first line")
    parser.set_defaults(asks=True)


def run(asked: argparse.Namespace) -> None:
    from hubbub import accounts, config, process

    settings = config.load({"home": asked.home})
    if asked.asks:  # before anything is opened: a person takes their time
        asked.password = None if getattr(asked, "device", False) else _password_for(asked.of, asked.password_file)

    async def work() -> str:
        async with accounts.opened(settings, make=asked.makes) as opened:
            said: str = await asked.work(opened, asked)
            return said

    print(process.run(work()))


# What to do; each says how it went


async def _add(accounts: Accounts, asked: argparse.Namespace) -> str:
    if asked.device and asked.password_file is not None:
        raise BadRequest("A device has no password; make it a token with 'hubbub user token'.")
    kind = Kind.DEVICE if asked.device else Kind.PERSON
    account = await accounts.add(asked.of, asked.password, admin=asked.admin, kind=kind)
    if asked.device:
        return f"Added the device {account.name}; 'hubbub user token {account.name}' makes it a token to sign in with."
    return f"Added {account.name}{', an admin of the server' if account.admin else ''}."


async def _list(accounts: Accounts, asked: argparse.Namespace) -> str:
    rows = [
        (
            row.account.name,
            str(row.kind),
            _yes(row.account.admin),
            _yes(row.account.disabled),
            _yes(bool(row.account.password)),
            str(row.tokens),
        )
        for row in accounts.rows()
    ]
    if not rows:
        return "Nobody has an account yet; 'hubbub user add NAME' makes one."
    return _table([("NAME", "KIND", "ADMIN", "DISABLED", "PASSWORD", "TOKENS"), *rows])


async def _password(accounts: Accounts, asked: argparse.Namespace) -> str:
    account = await accounts.set_password(asked.of, asked.password)
    return f"{account.name} has a new password; whoever was signed in with the old one is signed out."


async def _admin(accounts: Accounts, asked: argparse.Namespace) -> str:
    account = await accounts.change(asked.of, admin=not asked.off)
    return f"{account.name} is {'now' if account.admin else 'no longer'} an admin of the server."


async def _disable(accounts: Accounts, asked: argparse.Namespace) -> str:
    account = await accounts.change(asked.of, disabled=True)
    return f"{account.name} is disabled and signed out everywhere, tokens included."


async def _enable(accounts: Accounts, asked: argparse.Namespace) -> str:
    account = await accounts.change(asked.of, disabled=False)
    return f"{account.name} may sign in again, and use the tokens from before."


async def _sign_out(accounts: Accounts, asked: argparse.Namespace) -> str:
    account = await accounts.sign_out(asked.of)
    left = len(accounts.tokens(account.name))
    return f"{account.name} is signed out everywhere" + (f"; {_tokens_stay(left)}." if left else ".")


def _tokens_stay(count: int) -> str:
    return "one token stays good" if count == 1 else f"{count} tokens stay good"


async def _token(accounts: Accounts, asked: argparse.Namespace) -> str:
    """The secret alone goes to standard output, so that it can be sent into a file."""
    scopes = [Scope(text) for text in asked.scope or ("read", "write")]
    token, secret, made = await accounts.make_token(asked.of, asked.label, scopes, asked.expires_days)
    account = accounts.account(token.member)
    if made:
        _tell(f"There was no account {account.name}, so it was added, as a device.")
    _tell(f"The token {token.id} of {account.name} allows to {_allows(token.scopes)}, {_until(token.expires)}.")
    if Scope.ADMIN in token.scopes and not account.admin:
        _tell(f"{account.name} is no admin, so the scope admin does nothing until 'hubbub user admin {account.name}'.")
    if account.disabled:
        _tell(f"{account.name} is disabled, so the token does nothing until 'hubbub user enable {account.name}'.")
    _tell("Keep the secret safe: it is shown this once.")
    return secret


async def _tokens(accounts: Accounts, asked: argparse.Namespace) -> str:
    tokens = accounts.tokens(asked.of)
    name = accounts.account(asked.of).name
    if not tokens:
        return f"{name} has no tokens; 'hubbub user token {name}' makes one."
    rows = [
        (token.id, " ".join(token.scopes), _day(token.created), _day(token.expires), token.label) for token in tokens
    ]
    return _table([("ID", "SCOPES", "MADE", "EXPIRES", "LABEL"), *rows])


async def _revoke(accounts: Accounts, asked: argparse.Namespace) -> str:
    token = await accounts.revoke(asked.of)
    return f"The token {token.id} of {token.member} is worth nothing any more."


# Words


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _allows(scopes: Sequence[Scope]) -> str:
    words = {Scope.READ: "read", Scope.WRITE: "write", Scope.ADMIN: "administer the server"}
    said = [words[scope] for scope in Scope if scope in scopes]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def _day(at: float | None) -> str:
    return "never" if at is None else stamp(at)[:10]


def _until(expires: float | None) -> str:
    return "for good" if expires is None else f"until {stamp(expires)[:16].replace('T', ' ')} UTC"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


# Passwords: from a terminal, a pipe or a file; never from the command line, which everybody on the machine can read


def _password_for(name: str, file: Path | None) -> str:
    """Raises BadRequest: none came, or two different ones."""
    if file is not None:
        try:
            with file.open("rb") as opened:
                return _first_line(opened.readline(MAX_LINE), str(file))
        except OSError as failure:
            raise BadRequest(f"The file {file} cannot be read: {failure.strerror}.") from None
    if not sys.stdin.isatty():
        return _first_line(sys.stdin.buffer.readline(MAX_LINE), "standard input")
    try:
        password = getpass.getpass(f"Password for {name}: ")
        if getpass.getpass("The same again: ") != password:
            raise BadRequest("The two passwords differ; nothing was changed.")
    except EOFError:
        raise BadRequest("No password was given; nothing was changed.") from None
    return password


def _first_line(line: bytes, source: str) -> str:
    try:
        password = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise BadRequest(f"The password in {source} is not UTF-8 text.") from None
    if not password:
        raise BadRequest(f"There is no password in {source}.")
    return password
