"""The engine that needs nothing: a small word model over Hubbub's own pages, so that a first try gets answers.

Every answer begins with `(demo model) `, wherever it is read. The same turns give the same answer, of 20 to 60
words and whole sentences. Two instructions at the start of a text make an answer one can check:

    count to N       the numbers from 1 to N (at most 2000), one at a time
    repeat: TEXT     TEXT, word by word

Of the personalities of the assistant that comes with the server it has two: `angry` shouts, and `spanish` says in
Spanish that it knows English only.

The model looks for the passages whose words the question shares, rare words counting most, and begins with a
sentence of the best one. From four words it knows what can follow; where only one thing can, it now and then looks
at three only and so crosses into another passage. With fewer it would invent more, and say more that is not so. It
reads its pages when it is first asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import cache

from hubbub.core.nouns import Prompt
from hubbub.engines.demo_text import COMMON, NO_IDEA, PASSAGES

LABEL = "(demo model) "
MAX_COUNT = 2000
MIN_WORDS = 20
MAX_WORDS = 60
REMEMBERED_TURNS = 6  # an answer depends on no earlier ones
WANDER = 0.3  # how often three words decide where four leave no choice
TRIES = 20

ONLY_ENGLISH = "¡Hola! Este modelo de prueba solo sabe inglés."

_COMMON = frozenset(COMMON.split())
_MENTION = re.compile(r"\s*@[\w.-]+[,:]?\s*")
_COUNT = re.compile(r"\s*count to (\d+)\b", re.IGNORECASE)
_REPEAT = re.compile(r"\s*repeat:\s*(.*)", re.IGNORECASE | re.DOTALL)
_WORD = re.compile(r"[\w-]+")
_PIECE = re.compile(r"\s*\S+\s*")


class DemoEngine:
    """Writes word by word, to all prompts of a batch in turn.

    Args:
        word_s: seconds between two words of an answer.
        first_s: seconds before the first word.
    """

    name = "demo"
    batch = 4
    at_once = 8

    def __init__(self, word_s: float = 0.03, first_s: float = 0.0) -> None:
        self.word_s = word_s
        self.first_s = first_s

    async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, str]]:
        """Yield (index of the prompt, a word with the white space after it); an empty word ends that answer."""
        writing = {index: pieces(prompt) for index, prompt in enumerate(prompts)}
        await asyncio.sleep(self.first_s)
        while writing:
            for index, words in list(writing.items()):
                word = next(words, "")
                if not word:
                    del writing[index]
                yield index, word
            if writing:
                await asyncio.sleep(self.word_s)


def pieces(prompt: Prompt) -> Iterator[str]:
    """The words of the one answer to this prompt, each with the white space after it."""
    yield LABEL
    asked = next((turn.text for turn in reversed(prompt.turns) if turn.role == "user"), "")
    asked = _MENTION.sub("", asked, count=1) if asked.lstrip().startswith("@") else asked
    if found := _COUNT.match(asked):
        yield from _count(found[1])
    elif found := _REPEAT.match(asked):
        yield from _PIECE.findall(found[1])
    else:
        recent = "\0".join(f"{turn.role}\0{turn.name}\0{turn.text}" for turn in prompt.turns[-REMEMBERED_TURNS:])
        seed = hashlib.sha256(f"{prompt.assistant}\0{recent}".encode("utf-8", "replace")).digest()
        yield from _PIECE.findall(_in_the_mood(prompt.personality, _model().write(asked, random.Random(seed))))


def _in_the_mood(personality: str, text: str) -> str:
    """As much of a personality as can be had without a model: `angry` shouts, `spanish` says what it cannot."""
    if personality == "angry":
        return text.upper().replace(".", "!")
    return f"{ONLY_ENGLISH} {text}" if personality == "spanish" else text


def _count(digits: str) -> Iterator[str]:
    n = int(digits) if len(digits) <= len(str(MAX_COUNT)) else MAX_COUNT + 1
    if not 1 <= n <= MAX_COUNT:
        yield from _PIECE.findall(f"I can count to any number from 1 to {MAX_COUNT}.")
        return
    for number in range(1, n):
        yield f"{number} "
    yield str(n)


class _Model:
    """What can follow which words, and which passage is about what."""

    def __init__(self, passages: Sequence[tuple[str, str]]) -> None:
        self._texts = [text.split() for _, text in passages]
        self._topics = [_terms(topics) for topics, _ in passages]
        self._about = [_terms(text) | topics for (_, text), topics in zip(passages, self._topics, strict=True)]
        known = Counter(term for terms in self._about for term in terms)
        self._rare = {term: math.log(len(passages) / count) for term, count in known.items()}
        self._next: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for passage, words in enumerate(self._texts):
            if self._is_joke(passage):
                continue  # half a joke is none: they are told as they are
            for at, word in enumerate([*words, ""]):  # "" ends a passage
                for order in (3, 4):
                    if at >= order:
                        self._next[tuple(words[at - order : at])].append(word)

    def write(self, asked: str, chance: random.Random) -> str:
        """20 to 60 words in whole sentences, about what was asked where the pages say something about it."""
        ranked, opening = self._rank(_terms(asked), chance)
        for _ in range(TRIES):
            words = list(opening)
            for passage in ranked:
                words += self._wander(passage, chance)
                if len(words) >= MIN_WORDS:
                    break
            if len(words) <= MAX_WORDS and _reads_well(words):
                return " ".join(words)
        words = opening + self._texts[ranked[0]]
        for passage in ranked[1:]:
            if len(words) < MIN_WORDS and len(words) + len(self._texts[passage]) <= MAX_WORDS:
                words += self._texts[passage]
        return " ".join(words)

    def _rank(self, asked: set[str], chance: random.Random) -> tuple[list[int], list[str]]:
        """All passages, the most fitting first, and the words to open with when none fits."""
        scores = [
            sum(self._rare[term] * (2 if term in topics else 1) for term in asked & about)
            * chance.uniform(0.85, 1)  # so that there is more than one joke
            for topics, about in zip(self._topics, self._about, strict=True)
        ]
        first = max(range(len(scores)), key=scores.__getitem__)
        opening: list[str] = []
        if scores[first] == 0:
            first = chance.choice([n for n in range(len(scores)) if not self._is_joke(n)])
            opening = chance.choice(NO_IDEA).split()
        near = [sum(self._rare[term] for term in about & self._about[first]) for about in self._about]
        ranked = sorted(range(len(scores)), key=lambda n: (n != first, -scores[n], -near[n]))
        return ranked, opening

    def _wander(self, passage: int, chance: random.Random) -> list[str]:
        """The first sentence of a passage, and on to the end of that one or another; at most a word too many."""
        text = self._texts[passage]
        if self._is_joke(passage):
            return text
        words = text[: next(at for at, word in enumerate(text, 1) if word[-1] in ".?!" and at >= 4)]
        while len(words) <= MAX_WORDS:
            follows = self._next[tuple(words[-4:])]
            if len(set(follows)) == 1 and chance.random() < WANDER:
                follows = self._next[tuple(words[-3:])]
            word = chance.choice(follows)
            if not word:
                break
            words.append(word)
        return words

    def _is_joke(self, passage: int) -> bool:
        return "joke" in self._topics[passage]


@cache
def _model() -> _Model:
    return _Model(PASSAGES)


def _terms(text: str) -> set[str]:
    """The words that tell what a text is about, without a plural's s."""
    words = (word.strip("-").casefold() for word in _WORD.findall(text))
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words} - _COMMON


def _reads_well(words: list[str]) -> bool:
    """Whole sentences, none of which begins or ends like another."""
    sentences = re.split(r"(?<=[.?!])\s+", " ".join(words))
    ends = {tuple(sentence.split()[-4:]) for sentence in sentences}
    starts = {tuple(sentence.split()[:3]) for sentence in sentences}
    return words[-1][-1] in ".?!" and len(ends) == len(starts) == len(sentences)
