"""Every setting, once: its name, its default, what it does, and the older names it also goes by.

Flags, environment variables, `.env`, docs/settings.md and `hubbub config` are all made from `SETTINGS`. A value comes
from the first place that gives one: a flag, the environment, `.env`, the default. Only the roof reads the environment.

This is a table of its own rather than pydantic-settings because it has to say where each value came from, refuse
misspelt names with the nearest right one, and not cost `hubbub --help` the import of pydantic.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubbub import parsing
from hubbub.core.errors import BadRequest
from hubbub.core.framing import MAX_TEXT_BYTES

PREFIX = "HUBBUB_"
NOT_SETTINGS = frozenset({"HUBBUB_BUILD_WEB", "HUBBUB_NODE_WHEEL", "HUBBUB_FUZZ"})
"""Read by the build and the tests, not by the server."""

SEVERAL_TAKE = (
    "SQLite and the queue in memory belong to one process; several take DATABASE_URI (MongoDB) and REDIS_URL."
)

NOT_YET = {
    "HUBBUB_OPENAI_STRICT_LOCK": "the OpenAI doors come later",
}
"""Names people bring along that have no effect yet; said at start instead of being ignored in silence."""


def _home() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "hubbub"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `parse` raises ValueError with what was expected."""

    name: str
    default: Any
    parse: Callable[[str], Any]
    about: str
    aliases: tuple[str, ...] = ()
    secret: bool = False

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "home", _home, lambda text: Path(text).expanduser(), "Directory of the data, the signing key and the logs."
    ),
    Setting("host", "127.0.0.1", str, "Address to listen on, for HTTP and TCP.", ("HOST",)),
    Setting("port", 8000, parsing.port, "HTTP and WebSocket port; 0 picks a free one.", ("PORT",)),
    Setting("tcp_port", 5000, parsing.port, "TCP port for frames and for nc; 0 picks a free one."),
    Setting("log_dir", None, parsing.path, "Directory of the log files; `logs` in the home by default."),
    Setting(
        "log_level", "info", parsing.one_of("debug", "info", "warning", "error"), "How much is logged.", ("LOG_LEVEL",)
    ),
    Setting("debug", False, parsing.yes_no, "Log everything, whatever the level.", ("DEBUG",)),
    Setting(
        "store", "sqlite", parsing.one_of("sqlite", "memory"), "Where the truth is kept; `memory` forgets it at exit."
    ),
    Setting(
        "database_uri",
        "",
        str,
        "MongoDB replica set that keeps it instead.",
        ("DATABASE_URI", "MONGO_URL"),
        secret=True,
    ),
    Setting("database_name", "hubbub", parsing.key_name, "Name of the database in MongoDB.", ("DATABASE_NAME",)),
    Setting(
        "guests",
        "auto",
        parsing.one_of("auto", "on", "off"),
        "May people speak under a name without an account? `auto`: only while listening on loopback alone.",
    ),
    Setting(
        "registration",
        "auto",
        parsing.one_of("auto", "on", "off"),
        "May anybody make an account? `auto`: only while listening on loopback alone.",
    ),
    Setting("tls_cert", None, parsing.path, "Certificate (PEM, with its chain) that encrypts HTTP and TCP."),
    Setting("tls_key", None, parsing.path, "The private key of that certificate."),
    Setting(
        "behind_proxy",
        False,
        parsing.yes_no,
        "A proxy that encrypts stands before it; what it says of address and scheme is believed.",
    ),
    Setting("root_path", "", parsing.root_path, "Path a proxy has it under, such as /hubbub; the root when unset."),
    Setting(
        "origins",
        None,
        parsing.origins,
        "Other origins whose pages may act here, such as https://chat.example.com, separated by commas.",
        ("CORS_ORIGINS",),
    ),
    Setting(
        "token", "", str, "Token that the commands `chat`, `ai`, `thermometer` and `load` sign in with.", secret=True
    ),
    Setting("web", True, parsing.yes_no, "Serve the web page."),
    Setting("openai", True, parsing.yes_no, "Let the assistant `openai` answer."),
    Setting("thermometer", True, parsing.yes_no, "Let `hubbub up` start the thermometer."),
    Setting("thermometer_interval_s", 100.0, parsing.positive, "Seconds between two readings of the thermometer."),
    Setting("send_rate", 20.0, parsing.positive, "Messages a second a member may send on average; 0 = off."),
    Setting("send_burst", 40.0, parsing.burst, "Messages a member may send at once; 0 = off."),
    Setting("text_bytes", MAX_TEXT_BYTES, parsing.text_bytes, "Bytes a message may have."),
    Setting("member_connections", 64, parsing.cap, "Connections of one member; 0 = no limit."),
    Setting("address_connections", 256, parsing.cap, "Connections of one address; 0 = no limit."),
    Setting(
        "strangers_per_minute",
        100,
        parsing.cap,
        "Requests a minute of one address without a token, and sign-ins; 0 = off.",
    ),
    Setting("wrong_passwords", 5, parsing.count, "Wrong passwords a minute for one name from one address."),
    Setting(
        "http_connections",
        0,
        parsing.cap,
        "HTTP connections of a process, WebSockets and streams included; 0 = no limit.",
    ),
    Setting(
        "limit_loopback", False, parsing.yes_no, "Hold this machine's own address to the limits of an address, too."
    ),
    Setting("hello_s", 10.0, parsing.seconds, "Seconds a connection may take to say who it is."),
    Setting("name_s", 120.0, parsing.seconds, "Seconds a person in line mode may take to give a name."),
    Setting("frame_s", 30.0, parsing.seconds, "Seconds a frame, or the body of a request, may take to arrive whole."),
    Setting("head_s", 10.0, parsing.seconds, "Seconds the head of an HTTP request may take."),
    Setting("head_bytes", 16 << 10, parsing.head_bytes, "Bytes the head of an HTTP request may have."),
    Setting("slow_s", 10.0, parsing.seconds, "Seconds a reader may read nothing before it is closed."),
    Setting(
        "max_history_length", 10, parsing.count, "Messages of a thread an assistant is shown.", ("MAX_HISTORY_LENGTH",)
    ),
    Setting(
        "max_history_tokens",
        8000,
        parsing.tokens,
        "Tokens of a thread an assistant is shown, four bytes taken for one.",
    ),
    Setting(
        "engine",
        "auto",
        parsing.one_of("auto", "demo", "openai", "script"),
        "Who writes where an assistant does not say: the built-in demo model, a model server, a program of yours. "
        "`auto`: the model server when it has a key or an address, else the program when there is one, else the demo.",
    ),
    Setting(
        "openai_api_key",
        "",
        str,
        "Key of the model server; a key alone means OpenAI's.",
        ("OPENAI_API_KEY",),
        secret=True,
    ),
    Setting(
        "openai_base_url",
        "",
        str,
        "Address of any server that speaks OpenAI's Chat Completions, to its /v1, such as http://127.0.0.1:11434/v1.",
        ("OPENAI_BASE_URL",),
    ),
    Setting("openai_model", "", str, "Model to ask for; without one, the first the server lists."),
    Setting("openai_at_once", 8, parsing.count, "Answers a model server writes at the same time."),
    Setting(
        "openai_max_tokens",
        None,
        parsing.tokens,
        "Tokens an answer may have; as many as the model server allows when unset.",
    ),
    Setting(
        "script",
        "",
        parsing.words,
        "Program that answers up to four questions at once; when unset, a mock that sleeps.",
    ),
    Setting(
        "response_delay",
        0.0,
        parsing.positive,
        "Seconds the demo model thinks before its first word, and the mock program at most before each.",
        ("RESPONSE_DELAY",),
    ),
    Setting("demo_word_s", 0.03, parsing.positive, "Seconds the demo model takes for a word."),
    Setting("max_tasks_batch_size", 4, parsing.count, "Answers written together at most.", ("MAX_TASKS_BATCH_SIZE",)),
    Setting(
        "wait_batch_ms",
        None,
        parsing.positive,
        "Milliseconds the oldest waiting answer waits for others to be written with; a tenth of what a batch "
        "takes, at most 25, when unset.",
        ("WAIT_BATCH_MS",),
    ),
    Setting(
        "redis_url",
        "",
        str,
        "Redis that queues answers for workers anywhere, such as redis://127.0.0.1:6379/0; this process when unset.",
        ("REDIS_URL",),
        secret=True,
    ),
    Setting(
        "redis_tasks_queue_name",
        "hubbub",
        parsing.key_name,
        "What the names of our keys in Redis begin with.",
        ("REDIS_TASKS_QUEUE_NAME",),
    ),
    Setting(
        "lease_s",
        10.0,
        parsing.lease,
        "Seconds without a sign of life after which another worker takes what one was writing; over Redis only.",
    ),
    Setting(
        "worker", True, parsing.yes_no, "Write answers in the server's own process; off: others write them, over Redis."
    ),
    Setting(
        "workers",
        None,
        parsing.count,
        "Processes gunicorn starts; 2 for a core and one more with MongoDB and Redis, which several take, else 1.",
        ("WORKERS",),
    ),
    Setting(
        "worker_port", 8001, parsing.port, "Port of a worker of its own for its health and metrics; 0 picks a free one."
    ),
    Setting(
        "jwt_secret_key",
        "",
        parsing.key,
        "Key that signs tokens, at least 32 bytes; made at the first start when unset.",
        ("JWT_SECRET_KEY",),
        secret=True,
    ),
    Setting(
        "jwt_algorithm",
        "HS256",
        lambda text: parsing.one_of("hs256", "hs384", "hs512")(text).upper(),
        "The one algorithm tokens are signed with.",
        ("JWT_ALGORITHM",),
    ),
    Setting(
        "jwt_previous_secret_key",
        "",
        parsing.key,
        "The key from before: its tokens are still read, so that changing the key signs nobody out.",
        secret=True,
    ),
    Setting("jwt_expires_in_hours", 720.0, parsing.hours, "Hours a token is good for.", ("JWT_EXPIRES_IN_HOURS",)),
)

SECRETS = frozenset[str]().union(*((setting.variable, *setting.aliases) for setting in SETTINGS if setting.secret))
"""Variables that hold a secret, or may, as the address of a database can have a password in it. They are given to
nobody who does not need them."""

BY_NAME = {setting.name: setting for setting in SETTINGS}
_BY_VARIABLE = {
    **{alias: setting for setting in SETTINGS for alias in setting.aliases},
    **{setting.variable: setting for setting in SETTINGS},
}


@dataclass(frozen=True, slots=True)
class Settings:
    """All values, and for each where it came from."""

    values: Mapping[str, Any]
    origin: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def logs(self) -> Path:
        directory: Path = self.log_dir or self.home / "logs"
        return directory

    @property
    def own_address(self) -> str:
        """Where a program on this machine finds the server."""
        host: str = self.host
        return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)

    @property
    def local(self) -> bool:
        """Can nobody but this machine reach it?"""
        return is_loopback(self.host) and not self.behind_proxy

    @property
    def shareable(self) -> bool:
        """May several processes be one server, as truth and bus lie outside of them?"""
        return bool(self.database_uri and self.redis_url)

    @property
    def guests_allowed(self) -> bool:
        return self.guests == "on" or (self.guests == "auto" and self.local)

    @property
    def registration_allowed(self) -> bool:
        return self.registration == "on" or (self.registration == "auto" and self.local)

    def require_a_writer(self) -> None:
        """Raises BadRequest: nobody would write answers."""
        if not self.worker and not self.redis_url:
            raise BadRequest("HUBBUB_WORKER=0 takes REDIS_URL: without it no other process can write answers.")

    def require_alone(self, processes: int) -> None:
        """Raises BadRequest: so many processes cannot be one server here."""
        if processes > 1 and not self.shareable:
            raise BadRequest(f"{processes} processes cannot be one server here: {SEVERAL_TAKE}")

    def require_safe(self) -> None:
        """Raises BadRequest: passwords would cross a network in the clear, or half of a pair is missing."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise BadRequest("TLS takes both HUBBUB_TLS_CERT and HUBBUB_TLS_KEY.")
        if not is_loopback(self.host) and self.tls_cert is None and not self.behind_proxy:
            raise BadRequest(
                f"Listening on {self.host} would send passwords and messages over the network in the clear. Give a "
                "certificate with HUBBUB_TLS_CERT and HUBBUB_TLS_KEY, or say --behind-proxy when a proxy encrypts."
            )


def is_loopback(host: str) -> bool:
    """Can this address be reached from this machine alone?"""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name that may mean anything
        return False


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    dotenv: Path | None = None,
) -> Settings:
    """Every setting from its first source. Raises BadRequest with one sentence for what is wrong.

    Args:
        flags: values from the command line, already of the right type; None means not given.
        environ: os.environ by default.
        dotenv: the `.env` file; in the working directory by default. It need not exist.
    """
    environ = os.environ if environ is None else environ
    path = Path(".env") if dotenv is None else dotenv
    texts: dict[str, tuple[str, str]] = {}
    notes = []
    for source, variables in (("environment", environ), (str(path), _read_dotenv(path))):
        for variable, text in variables.items():
            _refuse_unknown(variable, source)
            setting = _BY_VARIABLE.get(variable)
            if setting is not None and text and not _overridden(setting, variable, texts, source):
                texts[setting.name] = (text, f"{variable} in {source}" if source != "environment" else variable)
            if variable in NOT_YET and text:
                notes.append(f"{variable} is set but has no effect yet: {NOT_YET[variable]}.")
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for setting in SETTINGS:
        if flags is not None and flags.get(setting.name) is not None:
            values[setting.name], origin[setting.name] = flags[setting.name], "command line"
        elif setting.name in texts:
            text, where = texts[setting.name]
            try:
                values[setting.name] = setting.parse(text.strip())
            except ValueError as wrong:
                shown = "" if setting.secret else f" is {text!r}"
                raise BadRequest(f"{where}{shown}: {_expected(wrong)}.") from None
            origin[setting.name] = where
        else:
            values[setting.name] = setting.default() if callable(setting.default) else setting.default
            origin[setting.name] = "default"
    return Settings(values, origin, tuple(dict.fromkeys(notes)))


def _overridden(setting: Setting, variable: str, texts: dict[str, tuple[str, str]], source: str) -> bool:
    """The environment goes before `.env`, and within one source our own name before its aliases."""
    known = texts.get(setting.name)
    if known is None:
        return False
    return variable != setting.variable or not (known[1].endswith(source) or source == "environment")


def _expected(wrong: ValueError) -> str:
    text = str(wrong)
    return text if text.startswith("expected") else "expected a number"


def _refuse_unknown(variable: str, source: str) -> None:
    if not variable.startswith(PREFIX) or variable in _BY_VARIABLE or variable in NOT_SETTINGS or variable in NOT_YET:
        return
    near = difflib.get_close_matches(variable, [setting.variable for setting in SETTINGS], n=1)
    hint = f" Did you mean {near[0]}?" if near else " `hubbub config` lists the settings."
    raise BadRequest(f"There is no setting {variable} ({source}).{hint}")


def _read_dotenv(path: Path) -> Mapping[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    return {name: value or "" for name, value in dotenv_values(path).items()}
