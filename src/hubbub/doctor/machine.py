"""What the machine and the installation have to give."""

from __future__ import annotations

import platform
import resource
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import apsw

from hubbub import __version__
from hubbub.config import Settings
from hubbub.doctor.findings import Finding, fine, wrong

CONNECTIONS = 1000
OWN_FILES = 100
"""Open files beside connections, generously."""

MIN_FREE_BYTES = 100 << 20
MIN_FREE_SHARE = 0.05
MIN_SQLITE = (3, 51, 3)
"""Before, two connections that copied the log at the same moment could damage it (sqlite.org/wal.html, "The WAL-Reset
Bug")."""


def versions(sqlite: str | None = None) -> Iterator[Finding]:
    """Args: sqlite: the version of its library; the one that is loaded by default."""
    sqlite = sqlite or apsw.sqlite_lib_version()
    if tuple(map(int, sqlite.split("."))) < MIN_SQLITE:
        good = ".".join(map(str, MIN_SQLITE))
        yield wrong(
            "sqlite", f"SQLite {sqlite} can damage a database in rare cases; install apsw with {good} or newer."
        )
    else:
        yield fine("versions", f"Hubbub {__version__}, Python {platform.python_version()}, SQLite {sqlite}.")


def open_files() -> Iterator[Finding]:
    """Every connection is one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < CONNECTIONS + OWN_FILES:
        yield wrong(
            "files",
            f"A server started from here may have {soft:,} files open, too few for {CONNECTIONS:,} connections; raise "
            "it with `ulimit -n 8192`, or LimitNOFILE=8192 for systemd.",
        )
    else:
        limit = "any number of" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        yield fine("files", f"A server started from here may have {limit} files open.")


def disk(settings: Settings) -> Iterator[Finding]:
    """Is there room for what will be said?"""
    home: Path = settings.home.absolute()
    place = next(path for path in (home, *home.parents) if path.exists())
    usage = shutil.disk_usage(place)
    free = f"{usage.free / (1 << 20):,.0f} MB ({usage.free / usage.total:.0%})"
    if usage.free < MIN_FREE_BYTES or usage.free < MIN_FREE_SHARE * usage.total:
        yield wrong(
            "disk", f"There are only {free} left on the disk of {home}; when it is full, nobody can write any more."
        )
    else:
        yield fine("disk", f"{free} of the disk are free.")


def page(settings: Settings) -> Iterator[Finding]:
    """Was the web page built?"""
    if not settings.web:
        return
    index = Path(str(resources.files("hubbub"))) / "web" / "index.html"
    if index.is_file():
        yield fine("page", "The web page is built.")
    else:
        yield wrong("page", "The web page is not built: `make web` builds it, and --no-web does without.")
