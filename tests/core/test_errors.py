"""One table turns every refusal into every outside code, and it has no hole."""

from __future__ import annotations

import pytest

from hubbub.core import errors
from hubbub.core.errors import OUTSIDE, Problem

CODES = [
    "bad_frame",
    "bad_request",
    "unknown_type",
    "hello_required",
    "unauthorized",
    "not_found",
    "name_taken",
    "key_conflict",
    "too_large",
    "rate_limited",
    "queue_full",
    "storage_full",
    "unavailable",
    "slow",
    "shutdown",
    "internal",
]
"""docs/protocol.md: the codes of the `error` frame."""

SAID_ONLY_IN_PARTING = {"slow"}
"""The reason of a `bye`; nothing a request could be refused with."""


def problems() -> list[type[Problem]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Problem)]


def test_the_table_has_exactly_the_codes_of_the_protocol() -> None:
    assert sorted(OUTSIDE) == sorted(CODES)


def test_every_problem_is_in_the_table_and_every_code_has_its_problem() -> None:
    raised = [kind.code for kind in problems() if kind is not Problem]

    assert sorted(raised) == sorted(set(OUTSIDE) - SAID_ONLY_IN_PARTING)


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_every_column(code: str) -> None:
    outside = OUTSIDE[code]

    assert outside.title
    assert outside.title[0].isupper()
    assert not outside.title.endswith(".")
    assert 400 <= outside.http < 600
    assert 1002 <= outside.close <= 1014 or 4000 <= outside.close < 5000  # RFC 6455 §7.4.2
    assert outside.close not in (1004, 1005, 1006)  # never sent: RFC 6455 §7.4.1
    assert 64 <= outside.exit <= 78  # sysexits(3)


@pytest.mark.parametrize("code", CODES)
def test_only_what_passes_by_itself_may_be_tried_again(code: str) -> None:
    assert OUTSIDE[code].retry == (OUTSIDE[code].http in (429, 503, 507))


def test_the_close_codes_the_protocol_names_are_these() -> None:
    assert OUTSIDE["slow"].close == 4008
    assert OUTSIDE["shutdown"].close == 1012
    assert OUTSIDE["bad_frame"].close == 1007
    assert OUTSIDE["too_large"].close == 1009


@pytest.mark.parametrize("kind", problems())
def test_a_problem_carries_its_sentence_and_its_row(kind: type[Problem]) -> None:
    problem = kind("It rained.", retry_after=2.5)

    assert str(problem) == problem.detail == "It rained."
    assert problem.retry_after == 2.5
    assert problem.outside is OUTSIDE[kind.code]
