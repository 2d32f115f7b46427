"""docs/guarantees.md: every promise names a command that exists, and every fault test stands behind a promise."""

from __future__ import annotations

import re

from hubbub.core.errors import OUTSIDE

from .pages import ROOT, read, table

PAGE = read("docs/guarantees.md")
PROMISES = table(PAGE, "What you can rely on")
TOOLS = {"test_faulty_proxy.py"}
"""Tests of what the fault tests are made with."""


def proofs() -> list[str]:
    """The paths behind the promises."""
    return [re.fullmatch(r"`make test ARGS=(\S+)`", row[3])[1] for row in PROMISES.rows]  # type: ignore[index]


def test_every_promise_names_tests_that_are_there() -> None:
    missing = [path for path in proofs() if not list((ROOT / path).glob("test_*.py")) and not (ROOT / path).is_file()]

    assert missing == []


def test_every_fault_test_stands_behind_a_promise() -> None:
    written = {f"tests/faults/{file.name}" for file in (ROOT / "tests/faults").glob("test_*.py")}

    assert written - {f"tests/faults/{name}" for name in TOOLS} == set(proofs()) - {"tests/simulation", "tests/attack"}


def test_the_long_form_has_the_size_that_is_said() -> None:
    """The larger of each pair of numbers is found among the long parameters of its file."""
    for row, path in zip(PROMISES.rows, proofs(), strict=True):
        files = [ROOT / path] if path.endswith(".py") else sorted((ROOT / path).glob("test_*.py"))
        source = "".join(file.read_text() for file in files).replace("_", "")
        for long in re.findall(r"\d[\d,]* / (\d[\d,]*)", row[2]):
            number = long.replace(",", "")
            halved = str(int(number) // 2)  # half of the images are kind, half are harsh
            assert re.search(rf"\b({number}|{halved})\b", source), f"{path} has no {long}"


def test_the_codes_it_explains_exist() -> None:
    rows = table(PAGE, "When something does go wrong").rows
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} - {"bye", "reset"}

    assert named <= OUTSIDE.keys()
    assert {"unavailable", "storage_full", "shutdown", "slow"} <= named
