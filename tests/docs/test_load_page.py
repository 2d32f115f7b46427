"""docs/load.md describes every part of the report and every kind of failure, and none that is not there."""

from __future__ import annotations

import msgspec
import pytest

from hubbub.apps.load import Plan, report
from hubbub.apps.load.quantiles import Quantiles
from hubbub.apps.load.tally import MAX_KINDS, OTHER
from hubbub.apps.load.turn import Kind
from hubbub.apps.load.watch import BUSY, LATE_S

from .pages import read, spans, table

PAGE = read("docs/load.md")
PARTS = table(PAGE, "The report").rows


def fields(shape: type) -> list[str]:
    return [field.name for field in msgspec.structs.fields(shape)]


def described(part: str) -> list[str]:
    return next(spans(what) for names, what in PARTS if part in spans(names))


def test_every_part_of_the_report_is_described_and_nothing_else() -> None:
    assert sorted(name for names, _ in PARTS for name in spans(names)) == sorted(fields(report.Report))


@pytest.mark.parametrize(
    ("part", "shape"), [("seconds", report.Second), ("steps", report.Step), ("generator", report.Generator)]
)
def test_what_a_part_is_made_of_is_described(part: str, shape: type) -> None:
    assert described(part) == fields(shape)


def test_what_a_plan_and_a_time_are_made_of_is_described() -> None:
    assert described("plan") == list(Plan.__dataclass_fields__)
    assert described("whole_s") == fields(Quantiles)


def test_every_kind_of_failure_is_described() -> None:
    kinds = [spans(kind)[0] for kind, _ in table(PAGE, "What can go wrong").rows]

    assert set(kinds) == {*Kind, "http 429", OTHER}


def test_the_bounds_that_are_named_are_the_ones_that_hold() -> None:
    assert f"more than {BUSY:.0%}".replace("%", " %") in PAGE
    assert f"{LATE_S * 1e3:g} ms late" in PAGE
    assert f"beyond the first {MAX_KINDS}" in PAGE
    assert f"`hubbub load`, {report.VERSION}" in PAGE
