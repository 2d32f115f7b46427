"""What everybody said, was promised and saw, held against what is stored: the judge of every fault test.

One pass over everything, so that a million messages can be judged. It knows five wrongs:

- `lost`: acknowledged, but not stored under that number; or stored, and never shown to somebody who read to the end.
- `doubled`: one send stored twice, or one message shown twice to the same reader.
- `reordered`: a reader was shown a lower number after a higher one, or one sender's sends were numbered out of order.
- `phantom`: shown but not stored, stored but never sent, or with another text.
- `gap`: a number that no message has, or one that a reader was not shown although a later one was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Testimony:
    """One client, over all its connections. Texts of sends are unique in the whole test."""

    name: str
    sent: dict[str, list[str]] = field(default_factory=dict)  # thread -> texts, in the order of the first try
    acked: dict[str, dict[str, int]] = field(default_factory=dict)  # thread -> text -> seq
    shown: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # thread -> (seq, text), as shown
    began: dict[str, int] = field(default_factory=dict)  # thread -> seq after which it was to hear everything
    to_the_end: bool = True  # did it have the time to hear everything?
    keeps_order: bool = True  # did it send one after the other on one connection at a time?


@dataclass(frozen=True)
class Wrong:
    kind: str  # lost, doubled, reordered, phantom, gap
    thread: str
    what: str


Log = Iterable[tuple[int, str, str]]
"""(seq, sender, text), ascending."""


def check(testimonies: Iterable[Testimony], stored: Mapping[str, Log]) -> list[Wrong]:
    """Everything that is wrong; empty when every promise was kept."""
    testimonies = list(testimonies)
    wrongs: list[Wrong] = []
    for thread, log in stored.items():
        wrongs += _check_thread(thread, list(log), testimonies)
    for one in testimonies:
        for thread in {*one.acked, *one.shown} - stored.keys():
            wrongs.append(Wrong("lost", thread, f"{one.name} knows a thread that is not stored"))
    return wrongs


def _check_thread(thread: str, log: list[tuple[int, str, str]], testimonies: list[Testimony]) -> list[Wrong]:
    wrongs: list[Wrong] = []

    def wrong(kind: str, what: str) -> None:
        wrongs.append(Wrong(kind, thread, what))

    texts = {seq: text for seq, _, text in log}
    places: dict[str, int] = {}
    for at, (seq, sender, text) in enumerate(log, 1):
        if seq != at:
            wrong("gap", f"the log has {seq} where {at} should be")
            break
        if text and text in places:  # an answer that failed may have none
            wrong("doubled", f"{text!r} by {sender} is stored as {places[text]} and as {seq}")
        places.setdefault(text, seq)
    sent = {text: one.name for one in testimonies for text in one.sent.get(thread, ())}
    for seq, sender, text in log:
        if sent.get(text) != sender and any(one.name == sender for one in testimonies):
            wrong("phantom", f"{sender} never sent {text!r}, stored as {seq}")
    for one in testimonies:
        for text, seq in one.acked.get(thread, {}).items():
            if texts.get(seq) != text:
                wrong("lost", f"{text!r} was acknowledged to {one.name} as {seq}; there is {texts.get(seq)!r}")
        if one.keeps_order:
            numbers = [places[text] for text in one.sent.get(thread, ()) if text in places]
            for before, after in pairwise(numbers):
                if after < before:
                    wrong("reordered", f"{one.name}'s {texts[after]!r} stands before its earlier {texts[before]!r}")
        wrongs += _check_reader(thread, one, texts)
    return wrongs


def _check_reader(thread: str, one: Testimony, texts: dict[int, str]) -> list[Wrong]:
    wrongs: list[Wrong] = []
    shown = one.shown.get(thread, [])
    last = one.began.get(thread, shown[0][0] - 1 if shown else 0)
    seen: set[int] = set()
    for seq, text in shown:
        if texts.get(seq) != text:
            wrongs.append(Wrong("phantom", thread, f"{one.name} was shown {text!r} as {seq}, not {texts.get(seq)!r}"))
        if seq in seen:
            wrongs.append(Wrong("doubled", thread, f"{one.name} was shown {seq} twice"))
        elif seq <= last:
            wrongs.append(Wrong("reordered", thread, f"{one.name} was shown {seq} after {last}"))
        elif seq > last + 1:
            wrongs.append(Wrong("gap", thread, f"{one.name} was shown {seq} right after {last}"))
        seen.add(seq)
        last = max(last, seq)
    head = len(texts)
    if one.to_the_end and one.began.keys() >= {thread} and last < head:
        wrongs.append(Wrong("lost", thread, f"{one.name} was shown nothing after {last} of {head}"))
    return wrongs
