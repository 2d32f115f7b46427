"""A look at an installation from outside the server, which may be running or not: what is unsafe or wrong, and what to
do about it. Nothing is changed or made.

A check is a function that takes the settings and yields findings. Checks know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hubbub.config import Settings
from hubbub.core.errors import BadRequest
from hubbub.doctor import data, files, machine, network
from hubbub.doctor.findings import Finding, Level, note, wrong

__all__ = ["Finding", "Level", "examine"]

Check = Callable[[Settings], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    files.home,
    files.keys,
    files.logs,
    files.audit_log,
    network.encryption,
    network.strangers,
    network.certificate,
    network.ports,
    network.redis,
    data.database,
    data.accounts,
    machine.disk,
    machine.page,
)


def examine(load: Callable[[], Settings], dotenv: Path) -> list[Finding]:
    """Everything that was found, the worst first.

    Args:
        load: reads the settings; raises BadRequest when they cannot be read, and then little else can be looked at.
        dotenv: the `.env` file, which need not exist.
    """
    found = [*files.dotenv(dotenv), *machine.versions(), *machine.open_files()]
    try:
        settings = load()
    except BadRequest as refused:
        found.append(wrong("settings", f"{refused.detail} The rest is looked at once that is right."))
    else:
        found += (note("settings", said) for said in settings.notes)
        for check in CHECKS:
            found += _careful(check, settings)
    return sorted(found, key=lambda finding: list(Level).index(finding.level))


def _careful(check: Check, settings: Settings) -> Iterator[Finding]:
    """What one may not look at is a finding, too."""
    try:
        yield from check(settings)
    except OSError as failure:
        where = failure.filename or settings.home
        yield wrong(check.__name__, f"{where} cannot be looked at ({failure.strerror}); ask whoever it belongs to.")
