"""What a slow program prints is read as pieces, whatever it prints and however its bytes are cut."""

from __future__ import annotations

import json

import pytest

from hubbub.core.ports import EngineFailure, Piece
from hubbub.engines.script_lines import MAX_LINE_BYTES, MAX_SENTENCE, Lines, sentence


def read(output: bytes, slots: int = 2, *, step: int = 1 << 30) -> tuple[list[tuple[int, Piece]], Lines]:
    """The pieces of a whole output that comes `step` bytes at a time, failures as their sentences in brackets."""
    lines = Lines(slots)
    found = [piece for at in range(0, len(output), step) for piece in lines.feed(output[at : at + step])]
    found += lines.finish()
    return [(slot, f"<{piece}>" if isinstance(piece, EngineFailure) else piece) for slot, piece in found], lines


@pytest.mark.parametrize(
    ("output", "pieces"),
    [
        ('{"i": 0, "d": "one "}\n{"i": 1, "d": "uno"}\n', [(0, "one "), (1, "uno")]),
        ('{"i": 0, "d": "one "}\n{"i": 0, "d": "two"}\n', [(0, "one two")]),
        ('{"i": 0, "d": "one"}\n{"i": 0, "end": true}\n', [(0, "one"), (0, "")]),
        ('{"i": 0, "d": "one", "end": true}\r\n', [(0, "one"), (0, "")]),
        ('{"i": 1, "error": "It rained."}\n', [(1, "<It rained.>")]),
        ('{"i": 1, "error": ""}\n', [(1, "<The script could not answer.>")]),
        ('{"i": 1, "error": null}\n', [(1, "<The script could not answer.>")]),
        ('{"i": 0, "d": "no newline"}', [(0, "no newline")]),
        ("0/one\n1/uno\n0/two\n", [(0, "one two"), (1, "uno")]),
        ("0/either/or\r\n1/uno\n\n0/two\n\n", [(1, "uno"), (1, ""), (0, "either/or two"), (0, "")]),
        ("\n\n0/one\n", [(0, "one")]),  # nobody had spoken
        ('{"i": 0, "d": "one"}\n\n', [(0, "one")]),  # nobody in the plain way
    ],
)
def test_both_dialects_are_read(output: str, pieces: list[tuple[int, Piece]]) -> None:
    found, lines = read(output.encode())

    assert sorted(found, key=lambda one: one[0]) == sorted(pieces, key=lambda one: one[0])
    assert (lines.unreadable, lines.misplaced) == (0, 0)


def test_an_empty_piece_does_not_end_an_answer() -> None:
    found, lines = read(b'{"i": 0, "d": ""}\n0/\n0/word\n')

    assert found == [(0, "word")]
    assert lines.open == {0, 1}


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_where_the_bytes_are_cut_changes_nothing(step: int) -> None:
    output = '{"i": 0, "d": "grüße 🙂 "}\n1/é/☃\n\n{"i": 0, "d": "x", "end": true}\n'.encode()

    texts = ["", ""]
    found, lines = read(output, step=step)
    for slot, piece in found:
        texts[slot] += str(piece)

    assert texts == ["grüße 🙂 x", "é/☃"]
    assert lines.open == set()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"i": 0, "d": "caf\xe9 \xff"}', "caf\ufffd \ufffd"),
        (b"0/caf\xe9", "caf\ufffd"),
        (rb'{"i": 0, "d": "\ud83d\ude42 \ud83d"}', "🙂 \ufffd"),
    ],
)
def test_what_is_no_text_is_replaced(line: bytes, text: str) -> None:
    found, _ = read(line + b"\n")

    assert found == [(0, text)]


@pytest.mark.parametrize(
    "line",
    [
        "Loading the model …",
        "{",
        "[0, 1]",
        "null",
        '{"d": "whose?"}',
        '{"i": "0", "d": "x"}',
        '{"i": true, "d": "x"}',
        '{"i": 0}',
        '{"i": 0, "d": 7}',
        "[" * 100_000,
        "9" * 5000,
        "x/word",
        "-1/word",
    ],
)
def test_what_cannot_be_read_is_ignored_and_counted(line: str) -> None:
    found, lines = read(f'{line}\n{{"i": 0, "d": "on"}}\n'.encode())

    assert found == [(0, "on")]
    assert (lines.unreadable, lines.misplaced) == (1, 0)


@pytest.mark.parametrize(
    "line", ['{"i": 2, "d": "x"}', '{"i": -1, "d": "x"}', "2/x", "999999999/x", '{"i": 1, "d": "x"}']
)
def test_slots_that_do_not_exist_or_have_ended_are_ignored_and_counted(line: str) -> None:
    found, lines = read(f'{{"i": 1, "end": true}}\n{line}\n'.encode())

    assert found == [(1, "")]
    assert (lines.unreadable, lines.misplaced) == (0, 1)


@pytest.mark.parametrize("ended", [b"", b"\n"])
def test_a_line_that_is_too_long_ends_the_reading_and_not_what_came_before(ended: bytes) -> None:
    lines = Lines(1)

    found = lines.feed(b"0/before\n0/" + b"x" * MAX_LINE_BYTES + ended + b"0/after\n" * bool(ended))

    assert (found, lines.too_long) == ([(0, "before")], True)


def test_the_longest_line_there_may_be_is_read() -> None:
    room = MAX_LINE_BYTES - len(json.dumps({"i": 0, "d": ""}))
    line = json.dumps({"i": 0, "d": "x" * room}).encode()

    found, lines = read(line + b"\n", step=1 << 14)

    assert (len(line), lines.too_long) == (MAX_LINE_BYTES, False)
    assert found == [(0, "x" * room)]


def test_a_sentence_of_a_program_is_one_short_line_without_control_characters() -> None:
    assert sentence("  \x1b[31mIt\n\trained.\x00\u202e\ud800 ") == "[31mIt rained."
    assert sentence("x" * 10_000) == "x" * (MAX_SENTENCE - 1) + "…"
    assert sentence({"no": "text"}) == ""
