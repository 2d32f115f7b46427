"""Who else on this machine can read what is secret."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from hubbub.config import SECRETS, Settings
from hubbub.core.errors import BadRequest
from hubbub.doctor.findings import Finding, fine, note, unsafe, wrong
from hubbub.hub.auth import Auth, load_key
from hubbub.stores.sqlite import DATABASE

OTHERS = 0o077
"""What a mode allows to everybody but the owner."""


def home(settings: Settings) -> Iterator[Finding]:
    """Is the home directory its owner's alone?"""
    directory: Path = settings.home
    if not directory.exists():
        yield note("home", f"There are no data in {directory} yet; the first start makes them.")
        return
    if not directory.is_dir():
        yield wrong("home", f"{directory} is no directory; name another with HUBBUB_HOME or --home.")
        return
    good = True
    for path in (directory, directory / DATABASE):
        if path.exists() and path.stat().st_uid != os.geteuid():
            good = False
            owner, me = _who(path.stat().st_uid), _who(os.geteuid())
            yield wrong("home", f"{path} belongs to {owner} and you are {me}; run Hubbub, and this, as {owner}.")
    if mode := _open_to_others(directory):
        good = False
        yield unsafe("home", f"Others on this machine can look into {directory} (mode {mode}): chmod 700 {directory}")
    if good:
        yield fine("home", f"The data in {directory} are yours alone.")


def keys(settings: Settings) -> Iterator[Finding]:
    """Could anybody guess or read what tokens are signed with?"""
    for setting in ("jwt_secret_key", "jwt_previous_secret_key"):
        if key := getattr(settings, setting).encode():
            where = settings.origin[setting]
            if _guessable(key):
                yield unsafe("key", f"{where} is a sample that anybody could guess; unset it to have a key made.")
            else:
                yield fine("key", f"{where} is a good key.")
    for file in (settings.home / "secret.key", settings.home / "secret.key.old"):
        if not file.exists():
            continue
        try:
            guessable = _guessable(load_key(file))
        except BadRequest as readable:
            yield unsafe("key", readable.detail)
            continue
        if guessable:
            yield unsafe(
                "key",
                f"The key in {file} is too short, or a sample that anybody could guess; delete it, and everybody "
                "signs in again.",
            )
        else:
            yield fine("key", f"The key in {file} is a good one, and yours alone.")


def _guessable(key: bytes) -> bool:
    try:
        Auth(key, guests=False)
    except BadRequest:
        return True
    return False


def dotenv(path: Path) -> Iterator[Finding]:
    """Can others read the secrets in `.env`?"""
    if not path.is_file():
        return
    from dotenv import dotenv_values

    try:
        secrets = sorted(name for name, value in dotenv_values(path).items() if value and name in SECRETS)
    except OSError as failure:
        yield wrong("dotenv", f"{path.absolute()} cannot be read: {failure.strerror}.")
        return
    if secrets and (mode := _open_to_others(path)):
        names = " and ".join(secrets)
        yield unsafe(
            "dotenv",
            f"Others on this machine can read {names} in {path.absolute()} (mode {mode}): chmod 600 {path.absolute()}",
        )
    else:
        yield fine("dotenv", f"{path.absolute()} shows nobody a secret.")


def logs(settings: Settings) -> Iterator[Finding]:
    """Can others read who came and went?"""
    directory = settings.logs
    if not directory.is_dir():
        return
    kept_inside = settings.home in directory.parents and not _open_to_others(settings.home)
    if (mode := _open_to_others(directory)) and not kept_inside:
        yield unsafe("logs", f"Others on this machine can read the logs (mode {mode}): chmod 700 {directory}")
    else:
        yield fine("logs", f"The logs in {directory} are yours alone.")


def audit_log(settings: Settings) -> Iterator[Finding]:
    """Can it be noted who signs in and who changes whose rights?"""
    file = settings.logs / "audit.log"
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
    except FileNotFoundError:
        place = next(parent for parent in file.parents if parent.exists())
        if os.access(place, os.W_OK | os.X_OK):
            return
        why = f"{place} is not writable"
    except OSError as failure:
        why = str(failure.strerror)
    else:
        yield fine("audit", f"{file} can be written.")
        return
    yield wrong("audit", f"Nobody can sign in, as it cannot be noted in {file}: {why}.")


def _open_to_others(path: Path) -> str:
    """Its mode when others may do anything with it, else empty."""
    mode = path.stat().st_mode
    return f"{mode & 0o7777:o}" if mode & OTHERS else ""


def _who(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"the user {uid}"
