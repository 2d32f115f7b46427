"""What a process of ours needs from the outside: a fast event loop, logs, and to be told when to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import logging.handlers
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, MutableMapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TypeVar

import structlog

from hubbub.config import Settings
from hubbub.core.errors import BadRequest, Unavailable
from hubbub.core.nouns import stamp

T = TypeVar("T")

log = structlog.get_logger("hubbub.process")

logged: dict[str, int] = {"warning": 0, "error": 0}
"""How many entries this process has logged, by level; counted once its log is set up."""

_UUID = re.compile(r"\b([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

BACKLOG = 4096
"""Connections that may wait to be let in."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on the fastest loop there is."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # Windows, PyPy
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def until_told_to_stop(
    lifeline_fd: int | None = None, work: Coroutine[Any, Any, Any] | None = None, *, ready: str = ""
) -> bool:
    """Wait for SIGINT or SIGTERM, or until whoever holds the other end of the lifeline is gone. `work` runs
    meanwhile; its failure, or its end, ends the waiting too. `ready` is what systemd hears once the signals are
    listened to: whoever stops us as soon as we are ready does not kill us. Was it told?"""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    if ready:
        notify(ready)
    if lifeline_fd is not None:
        loop.add_reader(lifeline_fd, _cut, loop, lifeline_fd, told)
    waiting = [asyncio.create_task(told.wait())]
    if work is not None:
        waiting.append(asyncio.create_task(work))
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
    return told.is_set()


def _cut(loop: asyncio.AbstractEventLoop, lifeline_fd: int, told: asyncio.Event) -> None:
    if not os.read(lifeline_fd, 64):
        loop.remove_reader(lifeline_fd)
        told.set()


def notify(state: str) -> None:
    """Tell systemd, if it started us, such as `READY=1` (sd_notify(3)). Nothing depends on it having heard."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def listening(host: str, port: int, setting: str, *, shared: bool = False) -> socket.socket:
    """A bound socket; `shared` with whoever else binds it as shared, the kernel then deals the connections out. Raises
    BadRequest with the sentence to show: which port is in use, how to choose another."""
    flag = "--" + setting.replace("_", "-")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as failure:
        raise BadRequest(f"The host {host!r} is not an address of this machine: {failure.strerror}.") from None
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as failure:
        sock.close()
        why = "in use by another program" if failure.errno == errno.EADDRINUSE else (failure.strerror or "refused")
        raise BadRequest(
            f"Port {port} on {host} is {why}. Choose another with {flag} (0 picks a free one) or "
            f"HUBBUB_{setting.upper()}."
        ) from None
    sock.setblocking(False)
    return sock


def prepare_home(home: Path) -> None:
    """Make the home directory, for its owner only. Raises Unavailable with what to do."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable")
    except OSError as failure:
        raise Unavailable(
            f"The directory {home} cannot be used for the data ({failure.strerror}). "
            "Choose another with --home or HUBBUB_HOME."
        ) from None


def audit_log(directory: Path, *, rotates: bool = True) -> Callable[..., None]:
    """Keeps a record in `audit.log` there, a JSON object a line, for its owner only: five files of 10 MiB at most. Of
    several processes one alone may be who `rotates`. What cannot be written there is written to the log instead:
    nobody is to be kept out by a full disk."""
    handler: logging.Handler | None = None
    size = 10 << 20 if rotates else 0

    def note(event: str, /, **details: str | None) -> None:
        nonlocal handler
        said = {"event": event, **{key: text for key, text in details.items() if text}}
        try:
            if handler is None:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                handler = _PrivateFile(directory / "audit.log", maxBytes=size, backupCount=4, encoding="utf-8")
            handler.handle(logging.makeLogRecord({"msg": json.dumps({"time": stamp(time.time()), **said})}))
        except OSError as failure:
            log.error("audit_not_written", reason=failure.strerror, said=json.dumps(said))

    return note


class _PrivateFile(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the library's name
        raise

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=lambda path, how: os.open(path, how, 0o600))


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _one_line(super().format(record))


def _one_line(text: str) -> str:
    """What somebody made up is to be seen as it is, and neither begin a line nor move a terminal. Of a UUID its first
    eight digits are enough to find what belongs together; the whole of it would let a reader of the log into the
    conversation."""
    text = _UUID.sub(r"\1", text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _count(level: str) -> None:
    logged[level] = logged.get(level, 0) + 1


def _count_record(record: logging.LogRecord) -> bool:
    _count(record.levelname.lower())
    return True


def _count_event(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    _count(event["level"])
    return event


def set_up_logging(settings: Settings) -> None:
    """Lines of key=value on standard error, ids and counts only; never a text or a secret."""
    level = logging.DEBUG if settings.debug else getattr(logging, settings.log_level.upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(levelname)s %(name)s %(message)s"))
    handler.addFilter(_count_record)
    logging.basicConfig(level=level, handlers=[handler])
    for chatty in ("uvicorn", "pymongo"):  # the latter would log texts and the hashes of passwords
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _count_event,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
            lambda logger, method, line: _one_line(str(line)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
