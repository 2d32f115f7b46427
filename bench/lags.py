"""What lay between a model and a reader: what left the one when, set beside what arrived at the other when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.result import Void


@dataclass(slots=True)
class Lags:
    """Seconds. `first`, for each answer: from sending the question to its first piece, without the time the model had
    it. `each`, for each later piece: from leaving the model to arriving."""

    first: list[float] = field(default_factory=list)
    each: list[float] = field(default_factory=list)
    tokens: int = 0

    def add(self, record: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Mapping[str, Any]]) -> None:
        """A round. Pieces may be joined or cut on their way: one has arrived when its last character has. Raises Void:
        a text is not what the model wrote, or there is none."""
        for question, answer in answers.items():
            wrote = record.get(question)
            if wrote is None or not wrote["left"]:
                raise Void(f"the model was never asked {question}, or wrote nothing")
            if answer["text"] != wrote["text"]:
                raise Void(f"of {question} {len(answer['text'])} characters arrived, {len(wrote['text'])} were written")
            arrived = iter(answer["arrived"])
            total, moment = next(arrived)
            lags = []
            for end, left in wrote["left"]:
                while total < end:
                    total, moment = next(arrived)
                lags.append(moment - left)
            self.first.append(wrote["came"] - answer["sent"] + lags[0])
            self.each += lags[1:]
            self.tokens += len(lags)
