"""Starts the parts of Hubbub in order, each a process with a log file of its own, and starts again what dies.

Every child holds one end of a *lifeline*, a pipe that nobody writes to: when the launcher goes, however it goes, the
pipe ends and the children leave, so that no orphan stays behind.

Where guests are not allowed, the server tells the launcher a token for the thermometer, and a newer one in time. It
travels in pipes only: what stands on a command line or in an environment can be read by others.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hubbub.config import SECRETS, Settings
from hubbub.core.errors import BadRequest, Internal, Unavailable
from hubbub.models import answers

READY_S = 30.0
STOP_S = 12.0
CALM_S = 10.0
"""A part that lived this long is started again at once; one that dies sooner waits a little longer each time."""
MAX_WAIT_S = 10.0
LOG_BYTES = 10 << 20
DEVICE = "thermometer1"

_KEPT_FROM = {"server": frozenset({"HUBBUB_TOKEN"}), "thermometer": SECRETS}
"""Variables a part has no use for."""


@dataclass(slots=True)
class Part:
    """One process, its log, and when to start it again."""

    name: str
    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    wait_s: float = 0.0
    again_at: float = 0.0


class Launcher:
    """The parent of all parts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lifeline, self._held = os.pipe()
        self._stopping = False
        self._parts: list[Part] = []
        self._ready: int | None = None  # where the server says what follows
        self._said = b""
        self._ports: tuple[int, int] | None = None
        self._token = ""

    def launch(self) -> None:
        """Start everything, watch it until told to stop, stop it."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._told)
        _prepare_logs(self._settings.logs)
        try:
            began = time.monotonic()
            http, tcp = self._start_server()
            self._say(f"hubbub is up after {time.monotonic() - began:.1f} s.\n")
            if self._settings.thermometer:
                self._start(self._thermometer(tcp))
            self._say(welcome(self._settings, http, tcp))
            while not self._stopping:
                self._watch()
                _doze(0.2)
        finally:
            self._stop()

    def _start_server(self) -> tuple[int, int]:
        server = Part("server", self._serve(self._settings.port, self._settings.tcp_port), self._log("server"))
        self._parts.append(server)
        self._start(server)
        deadline = time.monotonic() + READY_S
        while self._ports is None and not self._stopping and time.monotonic() < deadline and self._ready is not None:
            self._hear(0.1)
        if self._stopping:
            raise KeyboardInterrupt
        if self._ports is None:
            raise _failure(server)
        # Started again, it has to be where everybody looks for it.
        server.arguments = self._serve(*self._ports)
        return self._ports

    def _hear(self, wait_s: float = 0.0) -> None:
        """What the server says: its ports, and a token for the thermometer."""
        while self._ready is not None and select.select([self._ready], [], [], wait_s)[0]:
            chunk = os.read(self._ready, 4096)
            *lines, self._said = (self._said + chunk).split(b"\n")
            if not chunk:
                os.close(self._ready)
                self._ready = None
                lines = [self._said]
            for line in filter(None, lines):
                news = json.loads(line)
                self._ports, self._token = (news["http"], news["tcp"]), news.get("token", "")
            wait_s = 0.0

    def _serve(self, http: int, tcp: int) -> list[str]:
        settings = self._settings
        arguments = ["serve", "--host", settings.host, "--port", str(http), "--tcp-port", str(tcp)]
        arguments += ["--home", str(settings.home)]
        arguments += ["--tls-cert", str(settings.tls_cert)] if settings.tls_cert else []
        arguments += ["--tls-key", str(settings.tls_key)] if settings.tls_key else []
        arguments += ["--behind-proxy"] if settings.behind_proxy else []
        arguments += ["--introduce", DEVICE] if settings.thermometer else []
        arguments += [] if settings.web else ["--no-web"]
        return arguments + ([] if settings.openai else ["--no-openai"])

    def _thermometer(self, tcp: int) -> Part:
        settings = self._settings
        host = f"[{settings.own_address}]" if ":" in settings.own_address else settings.own_address
        arguments = ["thermometer", "--name", DEVICE, "--interval-s", str(settings.thermometer_interval_s)]
        if settings.tls_cert is None:
            arguments += ["--address", f"tcp://{host}:{tcp}"]
        else:
            arguments += ["--address", f"tls://{host}:{tcp}", "--only-cert", str(settings.tls_cert)]
        part = Part("thermometer", arguments, self._log("thermometer"))
        self._parts.append(part)
        return part

    def _log(self, name: str) -> Path:
        return self._settings.logs / f"{name}.log"

    def _start(self, part: Part) -> None:
        arguments = [sys.executable, "-m", "hubbub", *part.arguments, "--lifeline-fd", str(self._lifeline)]
        flag, theirs = self._line_to(part)
        try:
            with _open_log(part.log) as log:
                part.process = subprocess.Popen(
                    [*arguments, flag, str(theirs)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={name: value for name, value in os.environ.items() if name not in _KEPT_FROM[part.name]},
                    pass_fds=[self._lifeline, theirs],
                    start_new_session=True,  # Ctrl-C is for the launcher, which then stops the parts in order
                )
        finally:
            os.close(theirs)
        part.started = time.monotonic()

    def _line_to(self, part: Part) -> tuple[str, int]:
        """The flag and the end of a pipe for a new process: the server's to say what it has to say, the thermometer's
        with its token in it."""
        read, wrote = os.pipe()
        if part.name == "server":
            if self._ready is not None:
                os.close(self._ready)
            self._ready, self._said = read, b""
            return "--ready-fd", wrote
        os.write(wrote, self._token.encode())
        os.close(wrote)
        return "--token-fd", read

    def _watch(self) -> None:
        """Listen to the server, and start again what died."""
        self._hear()
        now = time.monotonic()
        for part in self._parts:
            if part.process is not None and part.process.poll() is not None:
                part.wait_s = 0.0 if now - part.started > CALM_S else min(MAX_WAIT_S, part.wait_s * 2 or 0.5)
                part.again_at = now + part.wait_s
                code = part.process.returncode
                self._say(f"{part.name} ended (exit {code}); starting it again. See {part.log}\n")
                part.process = None
            if part.process is None and now >= part.again_at:
                try:
                    self._start(part)
                except (OSError, Unavailable) as failure:  # no reason to take the other parts down
                    part.again_at = now + MAX_WAIT_S
                    self._say(f"{part.name} could not be started again: {failure}\n")

    def _stop(self) -> None:
        """In the opposite order, each with time to finish; the lifeline ends with us in any case."""
        alive = [part for part in reversed(self._parts) if part.process is not None and part.process.poll() is None]
        for part in alive:
            assert part.process is not None
            part.process.terminate()
            try:
                part.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                part.process.kill()
                part.process.wait()
        if self._stopping and alive:
            self._say("hubbub has stopped; everything acknowledged is on disk.\n")

    def _told(self, number: int, frame: object) -> None:
        self._stopping = True

    def _say(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:  # nobody reads on (`hubbub up | head`); the parts run on, and their logs tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def launch(settings: Settings) -> None:
    """Run `hubbub up`. Raises the Problem that kept it from starting."""
    try:
        Launcher(settings).launch()
    except KeyboardInterrupt:
        return


def welcome(settings: Settings, http: int, tcp: int) -> str:
    """Every address, and the lines to try."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    s = "s" if settings.tls_cert else ""
    lines = [""]
    if settings.web:
        lines.append(f"  web page    http{s}://{host}:{http}/")
    if settings.tls_cert:
        lines.append(f"  terminal    hubbub chat --address tls://{host}:{tcp}")
        lines.append(f"  like nc     openssl s_client -quiet -connect {host}:{tcp}")
    else:
        lines.append(f"  terminal    nc {settings.host} {tcp}          (or: hubbub chat --address tcp://{host}:{tcp})")
    events = "?user=NAME'" if settings.guests_allowed else "' -H 'Authorization: Bearer TOKEN'"
    lines += [
        f"  WebSocket   ws{s}://{host}:{http}/ws",
        f"  events      curl -N 'http{s}://{host}:{http}/api/events{events}",
        f"  data        {settings.home}",
        f"  logs        {settings.logs}",
        "",
    ]
    if not settings.guests_allowed:
        home = f" --home {settings.home}" if settings.origin["home"] != "default" else ""
        lines += [
            "  Nobody comes in without an account. Add the first one in another terminal:",
            f"    hubbub user add NAME --admin{home}",
            "",
        ]
    lines += [
        f"  In the terminal, give {'a' if settings.guests_allowed else 'your'} name, then try these lines:",
        "    #lobby: hello everybody",
    ]
    if settings.openai:
        lines.append(f"    openai: tell me a joke                ({answers(settings)})")
    if settings.thermometer:
        lines.append(f"    {DEVICE}: subscribe")
    lines += ["    !who   !check   !help   exit", ""]
    lines += [f"  note: {note}" for note in settings.notes]
    lines += ["  Ctrl-C stops everything.", ""]
    return "\n".join(lines)


def _prepare_logs(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as failure:
        raise Unavailable(
            f"The directory {directory} cannot be used for the logs ({failure.strerror}). "
            "Choose another with HUBBUB_LOG_DIR, or HUBBUB_HOME for everything."
        ) from None


def _open_log(path: Path) -> IO[bytes]:
    """The log, to be continued; a long one is put aside first."""
    try:
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")
    except OSError as failure:
        raise Unavailable(f"The log {path} cannot be written ({failure.strerror}).") from None


def _failure(part: Part) -> Exception:
    """Why a part did not come up: its own last sentence."""
    assert part.process is not None
    if part.process.poll() is None:
        part.process.kill()
    code = part.process.wait()
    lines = part.log.read_text(errors="replace").strip().splitlines()
    last = lines[-1].removeprefix("hubbub: ") if lines else f"The {part.name} did not start (exit {code})."
    if code == 2:
        return BadRequest(last)
    return Internal(f"{last} (log: {part.log})")


def _doze(seconds: float) -> None:
    """Wait a little; a signal is seen right after."""
    select.select([], [], [], seconds)
