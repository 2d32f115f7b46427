"""What the stream bench makes of two records: what left the model, and what arrived at a reader."""

from __future__ import annotations

import pytest
from bench.lags import Lags
from bench.result import Void

WROTE = {"q": {"came": 10.5, "left": [(3, 11.0), (7, 12.0), (9, 13.0)], "text": "onetwo four"[:9]}}
TEXT = WROTE["q"]["text"]


def of(*arrived: tuple[int, float], text: object = TEXT) -> Lags:
    lags = Lags()
    lags.add(WROTE, {"q": {"sent": 10.0, "arrived": list(arrived), "text": text}})
    return lags


def test_the_time_the_model_had_a_question_does_not_count() -> None:
    lags = of((3, 11.25), (7, 12.125), (9, 13.5))

    assert lags.first == [0.5 + 0.25]
    assert lags.each == [0.125, 0.5]
    assert lags.tokens == 3


def test_a_piece_has_arrived_with_its_last_character_however_it_was_cut_or_joined() -> None:
    assert of((2, 11.1), (4, 11.25), (6, 12.5), (9, 13.5)).first == [0.75]
    assert of((2, 11.1), (4, 11.25), (6, 12.5), (9, 13.5)).each == [1.5, 0.5]
    assert of((9, 13.5)).each == [1.5, 0.5]


@pytest.mark.parametrize("text", ["onetwo fo", "onetwo fourr", "onetwoo f", ""])
def test_another_text_than_the_one_that_was_written_has_no_score(text: str) -> None:
    if text == TEXT:
        assert of((9, 13.5), text=text).tokens == 3
        return
    with pytest.raises(Void):
        of((len(text), 13.5), text=text)


def test_an_answer_nobody_wrote_has_no_score() -> None:
    with pytest.raises(Void):
        Lags().add({}, {"q": {"sent": 10.0, "arrived": [], "text": ""}})
