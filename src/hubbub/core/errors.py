"""Every refusal Hubbub can answer with, and the one table that turns it into an outside code.

A `Problem` is raised where the rule is known and caught at the door that speaks to the caller. Doors never
invent codes: HTTP status, WebSocket close code, process exit code and "try again?" all come from `OUTSIDE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Outside:
    """How one error code looks from outside."""

    title: str
    http: int
    close: int  # WebSocket close code, RFC 6455 section 7.4, where the connection has to end
    exit: int  # sysexits(3)-like process exit code
    retry: bool  # may the very same request succeed later?


OUTSIDE: dict[str, Outside] = {
    "bad_frame": Outside("The frame could not be read", 400, 1007, 65, False),
    "bad_request": Outside("The request has a wrong value", 400, 1008, 64, False),
    "unknown_type": Outside("There is no such request", 400, 1008, 64, False),
    "hello_required": Outside("Say hello first", 401, 1008, 64, False),
    "unauthorized": Outside("You are not signed in", 401, 1008, 77, False),
    "not_found": Outside("There is no such thing here", 404, 1008, 66, False),
    "name_taken": Outside("The name is in use", 409, 1008, 77, False),
    "key_conflict": Outside("The key was used for another message", 409, 1008, 65, False),
    "too_large": Outside("Too large", 413, 1009, 65, False),
    "rate_limited": Outside("Too fast", 429, 1008, 75, True),
    "queue_full": Outside("The queue is full", 429, 1013, 75, True),
    "storage_full": Outside("The disk is full", 507, 1013, 74, True),
    "unavailable": Outside("Not available right now", 503, 1013, 69, True),
    "slow": Outside("You read too slowly", 503, 4008, 75, True),
    "shutdown": Outside("The server is going away", 503, 1012, 75, True),
    "internal": Outside("Something went wrong on our side", 500, 1011, 70, False),
}


NOT_HERE = "There is no such thread here."
LAST_OWNER = "A thread has an owner; make somebody else one first."


class Problem(Exception):
    """A refusal with a sentence for a person: what was got, what was expected, what to do."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int | None] = None  # where HTTP has a closer one than that of the code

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after  # seconds

    @property
    def outside(self) -> Outside:
        return OUTSIDE[self.code]

    @property
    def http(self) -> int:
        return self.status or self.outside.http


class BadFrame(Problem):
    code = "bad_frame"


class BadRequest(Problem):
    code = "bad_request"


class UnknownType(Problem):
    code = "unknown_type"


class HelloRequired(Problem):
    code = "hello_required"


class Unauthorized(Problem):
    code = "unauthorized"


class NotFound(Problem):
    """Also said instead of "forbidden", so that nobody learns what exists."""

    code = "not_found"


class NameTaken(Problem):
    code = "name_taken"


class KeyConflict(Problem):
    code = "key_conflict"


class TooLarge(Problem):
    code = "too_large"


class RateLimited(Problem):
    code = "rate_limited"


class QueueFull(Problem):
    code = "queue_full"


class StorageFull(Problem):
    code = "storage_full"


class Unavailable(Problem):
    """The outcome is unknown; the same key decides."""

    code = "unavailable"


class Shutdown(Problem):
    """The server is going away; it will be back."""

    code = "shutdown"


class Internal(Problem):
    code = "internal"
