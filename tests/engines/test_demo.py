"""The demo engine answers aptly, always labelled, and the same question in the same way."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from msgspec.structs import replace

from hubbub.core.nouns import Prompt, Turn
from hubbub.engines import demo
from hubbub.engines.demo import LABEL, MAX_COUNT, MAX_WORDS, MIN_WORDS, DemoEngine
from hubbub.engines.demo_text import PASSAGES


def asking(text: str, *earlier: str, run: str = "r1") -> Prompt:
    turns = tuple(Turn(role="user", name="alice", text=t) for t in (*earlier, text))
    return Prompt(run=run, assistant="openai", turns=turns)


async def pieces(*prompts: Prompt) -> list[tuple[int, str]]:
    return [piece async for piece in DemoEngine(word_s=0).answer(prompts)]


async def answers(*prompts: Prompt) -> list[str]:
    texts = [""] * len(prompts)
    for index, text in await pieces(*prompts):
        texts[index] += text
    return texts


async def answer(text: str) -> str:
    return (await answers(asking(text)))[0]


@pytest.mark.parametrize(
    "text", ["hello", "count to 3", "count to 99999", "repeat: yes", "repeat:", "", "quantum", "\ud800"]
)
async def test_every_answer_is_labelled_from_its_first_piece(text: str) -> None:
    said = await pieces(asking(text))

    assert said[0] == (0, "(demo model) ")


async def test_a_prompt_without_any_turn_is_answered_too() -> None:
    text = (await answers(Prompt(run="r", assistant="openai", turns=())))[0]

    assert text.startswith(LABEL)
    assert text.endswith(".")


async def test_each_answer_of_a_batch_ends_with_one_empty_piece() -> None:
    said = await pieces(asking("count to 2"), asking("count to 5"), asking("hello"))

    for index in range(3):
        of_it = [text for i, text in said if i == index]
        assert of_it[-1] == ""
        assert "" not in of_it[:-1]


async def test_the_answers_of_a_batch_are_written_in_turn_and_the_short_one_ends_first() -> None:
    said = await pieces(asking("count to 2"), asking("count to 3"))

    assert said == [
        (0, LABEL),
        (1, LABEL),
        (0, "1 "),
        (1, "1 "),
        (0, "2"),
        (1, "2 "),
        (0, ""),
        (1, "3"),
        (1, ""),
    ]


async def test_no_prompts_need_no_answers() -> None:
    assert await pieces() == []


async def test_a_count_goes_to_its_end_word_by_word() -> None:
    text = await answer(f"Count to {MAX_COUNT}")

    assert text == LABEL + " ".join(str(n) for n in range(1, MAX_COUNT + 1))
    assert len(await pieces(asking("count to 100"))) == 102


@pytest.mark.parametrize("n", ["0", str(MAX_COUNT + 1), "9" * 5000])
async def test_a_count_beyond_the_limit_says_what_the_limit_is(n: str) -> None:
    assert await answer(f"count to {n}") == f"{LABEL}I can count to any number from 1 to {MAX_COUNT}."


@pytest.mark.parametrize("text", ["yes", "grüße  an\nalle 🙂", "two words ", "#lobby: x", "(demo model)"])
async def test_what_is_to_be_repeated_comes_back_as_it_was(text: str) -> None:
    assert await answer(f"repeat: {text}") == LABEL + text


async def test_instructions_are_understood_after_the_assistants_name_too() -> None:
    assert await answer("@openai count to 3") == f"{LABEL}1 2 3"
    assert await answer("@openai: repeat: hi") == f"{LABEL}hi"


@pytest.mark.parametrize("ask", ["tell me a joke", "another joke!", "Do you know any JOKES?"])
async def test_who_asks_for_a_joke_gets_a_whole_joke(ask: str) -> None:
    text = (await answer(ask)).removeprefix(LABEL)

    jokes = [joke for topics, joke in PASSAGES if "joke" in topics]
    assert any(text.startswith(joke) for joke in jokes)


async def test_there_is_more_than_one_joke() -> None:
    told = {await answer(f"tell me a joke{'!' * n}") for n in range(20)}

    assert len(told) >= 4


@pytest.mark.parametrize(
    ("ask", "apt"),
    [
        ("how do I write to bob?", "type the name, a colon"),
        ("What is the lobby?", "lobby"),
        ("who are you", "small model"),
        ("what happens when the connection is lost?", "exact character"),
        ("how do I subscribe to the thermometer", "thermometer1: subscribe"),
        ("can I use nc", "nc localhost 5000"),
        ("hello!", "Ask me|ask me"),
    ],
)
async def test_an_answer_is_about_what_was_asked(ask: str, apt: str) -> None:
    assert re.search(apt, await answer(ask))


async def test_the_same_turns_get_the_same_answer_whatever_the_run() -> None:
    one, two = asking("tell me about groups", "hi", run="r1"), asking("tell me about groups", "hi", run="r2")

    first, second = await answers(one, two)

    assert first == second


async def test_answers_are_twenty_to_sixty_words_and_end_with_a_sentence() -> None:
    vocabulary = sorted({word for topics, text in PASSAGES for word in f"{topics} {text}".split()})
    prompts = [asking(f"{word} {n}") for n, word in enumerate(vocabulary)]
    prompts += [asking(topics) for topics, _ in PASSAGES]

    for text in await answers(*prompts):
        assert MIN_WORDS <= len(text.removeprefix(LABEL).split()) <= MAX_WORDS, text
        assert text[-1] in ".?!", text


async def test_the_model_makes_sentences_of_its_own() -> None:
    read = " ".join(text for _, text in PASSAGES)
    texts = await answers(*(asking(f"how do I write in a group thread? {n}") for n in range(50)))

    sentences = {s for text in texts for s in re.split(r"(?<=[.?!])\s+", text.removeprefix(LABEL))}
    assert any(sentence not in read for sentence in sentences)


def test_passages_are_short_enough_to_be_told_whole() -> None:
    assert all(4 < len(text.split()) <= 45 for _, text in PASSAGES)
    assert 4_000 < sum(len(text) for _, text in PASSAGES) < 12_000


def test_importing_the_engine_trains_nothing() -> None:
    code = "from hubbub.engines import demo; print(demo._model.cache_info().currsize)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "0\n"


def test_it_says_what_it_is_and_how_much_it_takes_at_once() -> None:
    engine = DemoEngine()

    assert (engine.name, engine.batch) == ("demo", 4)
    assert demo.LABEL == "(demo model) "


async def test_a_personality_shows_as_far_as_it_can_and_the_label_stays() -> None:
    question = asking("what is a thread?")
    plain, happy, angry, spanish = [
        (await answers(replace(question, personality=one)))[0] for one in ("", "happy", "angry", "spanish")
    ]

    assert happy == plain
    assert angry == LABEL + plain.removeprefix(LABEL).upper().replace(".", "!")
    assert spanish == f"{LABEL}{demo.ONLY_ENGLISH} {plain.removeprefix(LABEL)}"


async def test_instructions_in_a_text_are_followed_whatever_the_personality() -> None:
    assert await answers(replace(asking("repeat: just this."), personality="angry")) == [f"{LABEL}just this."]
