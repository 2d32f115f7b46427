"""Why a model server did not answer, in sentences for the people in the thread.

Each says what happened and what to do, and names the server by host and port. Of the server's own words only those
about a question it did not accept are passed on, short, on one line and without the key: what it says of its insides
or of its key is nobody's business in the thread, and stands in its log.
"""

from __future__ import annotations

import json
import math
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from hubbub.core.ports import EngineFailure

MAX_WORDS = 300
LATER_S = 86_400
RIGHT = "Is its address right, to the /v1 at its end?"
_TOO_LONG = re.compile(
    r"context.{0,20}(length|size|window|limit)|(prompt|input|messages?) (is|are) too long|too many (input )?tokens",
    re.I,
)
_NO_MODEL = re.compile(
    r"model.{0,200}(not found|does not exist|not exist|is not a valid|not available)"
    r"|(invalid|unknown|no such) model|not a valid model",
    re.I | re.S,
)
_STATUS_OF = {
    "authentication_error": 401,
    "context_length_exceeded": 400,
    "insufficient_quota": 402,
    "invalid_api_key": 401,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
}
"""What the error types and codes of a stream would have been as a status."""


class Cut(Exception):
    """The connection ended before the answer did."""


class Told(NamedTuple):
    """What a server says went wrong. `codes`: its code and its type, as text."""

    words: str
    codes: tuple[str, ...]


class ChatFailures:
    """The sentences about one server.

    Args:
        where: its host and port.
        model: the name of the model that is asked for.
        key: what must not be repeated; empty: there is none.
    """

    def __init__(self, where: str, model: str, key: str) -> None:
        self.where = where
        self._server = f"The model server at {where}"
        self._model = f'the model "{model}"'
        self._keyless = _without(key)
        self._has_key = bool(key)

    def about(self, model: str) -> ChatFailures:
        """The sentences when another model is asked for."""
        other = copy(self)
        other._model = f'the model "{model}"'
        return other

    def no_models(self) -> EngineFailure:
        """It does not say which models it has."""
        return EngineFailure(f"{self._server} lists no model; say which one with HUBBUB_OPENAI_MODEL. {RIGHT}")

    # It was never reached

    def unreachable(self, failure: Exception) -> EngineFailure:
        """No connection came about."""
        why = "nothing accepts connections there; is it running?"
        for cause in _causes(failure):
            if isinstance(cause, ssl.SSLCertVerificationError):
                why = f"its certificate is not trusted ({cause.verify_message})."
            elif isinstance(cause, ssl.SSLError):
                why = "it does not speak TLS there; perhaps its address begins with http://, not https://."
            elif isinstance(cause, socket.gaierror):
                why = "no such host is known; is its address right?"
            else:
                continue
            break
        return EngineFailure(f"{self._server} cannot be reached: {why}")

    def no_connection(self, after_s: float) -> EngineFailure:
        """Connecting took too long."""
        return EngineFailure(f"{self._server} cannot be reached: it did not answer within {spell(after_s)}.")

    # It took too long

    def never_began(self, after_s: float) -> EngineFailure:
        return EngineFailure(
            f"{self._server} did not begin to answer within {spell(after_s)}. It may be busy; ask again later."
        )

    def fell_silent(self, after_s: float) -> EngineFailure:
        return EngineFailure(f"{self._server} stopped in the middle: nothing came for {spell(after_s)}. Ask again.")

    def never_ended(self, after_s: float) -> EngineFailure:
        return EngineFailure(
            f"The answer was stopped because it took longer than {spell(after_s)}. Ask for something shorter."
        )

    # It broke off

    def hung_up(self) -> EngineFailure:
        return EngineFailure(f"{self._server} closed the connection without an answer. Ask again.")

    def cut(self) -> EngineFailure:
        return EngineFailure(
            f"The answer was cut off: {self._server[0].lower()}{self._server[1:]} broke off. Ask again."
        )

    def strange(self) -> EngineFailure:
        return EngineFailure(f"{self._server} answered with something that is no chat completion. {RIGHT}")

    # The model ended it

    def filtered(self) -> EngineFailure:
        return EngineFailure(f"The content filter of {self._model} stopped this answer. Ask in other words.")

    def empty(self, finish: str | None) -> EngineFailure:
        if finish == "length":
            return EngineFailure(
                f"T{self._model[1:]} had used up the tokens it may write before it said a word. Ask something simpler."
            )
        return EngineFailure(f"T{self._model[1:]} ended its answer without a word. Ask again, or in other words.")

    # It refused

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> EngineFailure:
        """An HTTP status that is no success. `headers`: with names in lower case, or a mapping that ignores case."""
        try:
            found = json.loads(body.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            found = None
        return self._why(status, told(found), wait_s(headers))

    def broke_off(self, error: object) -> EngineFailure:
        """An error in the middle of the answer."""
        said = told(error)
        numbers = [int(code) for code in said.codes if re.fullmatch("[45][0-9][0-9]", code)]
        known = [_STATUS_OF[code] for code in said.codes if code in _STATUS_OF]
        return self._why((numbers + known + [500])[0], said, None)

    def _why(self, status: int, said: Told, wait: float | None) -> EngineFailure:
        server, http = self._server, f"(HTTP {status})"
        again = f"Ask again in {spell(wait)}." if wait is not None and wait <= LATER_S else "Ask again later."
        if status < 400:
            why = f"{server} sends elsewhere {http}, where Hubbub does not follow. Its address has to be corrected."
        elif status == 402 or "insufficient_quota" in said.codes:
            why = f"The account at {self.where} has no credit left {http}. Whoever pays for it can add some."
        elif status in (401, 403):
            what = "refuses the key it was given" if self._has_key else "asks for a key, and none is set"
            why = f"{server} {what} {http}. Whoever runs Hubbub can correct it."
        elif status == 413 or self._is_too_long(status, said):
            why = f"The conversation is too long for {self._model}. Begin a new thread, or ask in fewer words."
        elif self._is_no_model(status, said):
            why = f"{server} knows nothing of {self._model} {http}. Whoever runs Hubbub can correct its name."
        elif status == 404:
            why = f"{server} has no chat completions for {self._model} at this path {http}. {RIGHT}"
        elif status == 429:
            why = f"{server} has too much to do for us {http}. {again}"
        elif status >= 500:
            why = f"{server} failed {http}. {again}"
        else:
            words = self._tidy(said.words)
            why = f"{server} did not accept the question {http}{f': {words}' if words else '.'}"
        return EngineFailure(why)

    def _is_too_long(self, status: int, said: Told) -> bool:
        codes = {"context_length_exceeded", "exceed_context_size_error"}
        return bool(codes & {*said.codes}) or (status in (400, 422, 500) and bool(_TOO_LONG.search(said.words)))

    def _is_no_model(self, status: int, said: Told) -> bool:
        return "model_not_found" in said.codes or (status in (400, 404, 422) and bool(_NO_MODEL.search(said.words)))

    def _tidy(self, words: str) -> str:
        words = " ".join(self._keyless(words).split())
        words = "".join(char for char in words if char.isprintable())
        return words if len(words) <= MAX_WORDS else f"{words[: MAX_WORDS - 1]}…"


def _without(key: str) -> Callable[[str], str]:
    """A function that leaves the key out of a text. It holds the key where nothing that prints an object looks."""

    def keyless(text: str) -> str:
        return text.replace(key, "…") if key else text

    return keyless


def told(found: object) -> Told:
    """From `{"error": {"message", "type", "code"}}` and its relatives, whatever of it is there."""
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict) and found.get("error"):
        found = found["error"]
    if isinstance(found, str):
        return Told(found, ())
    if not isinstance(found, dict):
        return Told("", ())
    words = found.get("message") or found.get("detail")
    codes = tuple(str(found[name]) for name in ("code", "type") if isinstance(found.get(name), str | int))
    return Told(words if isinstance(words, str) else "", codes)


def wait_s(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to wait: seconds, milliseconds, or a date, which is compared with its own (RFC 9110
    §10.2.3), so that our clocks need not agree."""
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            wait = float(headers.get(name, "")) / per_second
        except ValueError:
            continue
        if wait >= 0:  # and a number
            return wait
    try:
        then, now = (parsedate_to_datetime(headers[name]) for name in ("retry-after", "date"))
        return max(0.0, (then - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def spell(seconds: float) -> str:
    """A length of time in words, rounded up."""
    if seconds < 1:
        return f"{seconds:g} seconds" if seconds > 0 else "a second"
    number, unit = math.ceil(seconds), "second"
    for per, larger in ((60, "minute"), (60, "hour")):
        if number >= 2 * per:
            number, unit = -(-number // per), larger
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """It and everything it came from, each once."""
    waiting, seen = [failure], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
