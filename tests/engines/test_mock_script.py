"""The program that ships says what it is told, word by word, and nothing else."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hubbub.engines import mock_script
from hubbub.engines.mock_script import LONG_BYTES, NotUnderstood, Slot, instructions


class Contexts:
    """Files as the engine writes them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    def file(self, text: str) -> Path:
        self._count += 1
        path = self._directory / str(self._count)
        path.write_bytes(base64.b64encode(json.dumps({"text": text}).encode()))
        return path

    def pauses(self, text: str, seed: int) -> list[float]:
        """The seconds before each step of an answer."""
        slot = Slot(0, self.file(text), delay_s=4.0, chance=random.Random(seed), plain=False)
        return list(slot.steps())


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    return Contexts(tmp_path)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "hubbub.engines.mock_script", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=20, env={"PATH": os.defpath})


def said(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def text_of(output: bytes, slot: int = 0) -> str:
    return "".join(line.get("d", "") for line in said(output) if line["i"] == slot)


def test_every_context_is_answered_with_its_own_text(contexts: Contexts) -> None:
    texts = ["hello  world\n again ", "grüße 🙂 a/b", "", "@openai hi"]

    done = run("--delay", "0", *(contexts.file(text) for text in texts))

    assert done.returncode == 0
    assert [text_of(done.stdout, slot) for slot in range(4)] == texts
    for slot in range(4):
        assert [line for line in said(done.stdout) if line["i"] == slot][-1] == {"i": slot, "end": True}


def test_the_seeds_plain_lines_are_index_and_word_and_a_blank_line_at_an_end(contexts: Contexts) -> None:
    one, two = contexts.file("[[delay=0 first=0]] a/b c"), contexts.file("[[delay=0 first=0.2]] d")

    done = run("--plain", one, two)

    assert done.stdout.decode() == "0/a/b\n0/c\n\n1/d\n\n"


def test_a_plain_answer_of_no_words_does_not_end_anothers(contexts: Contexts) -> None:
    done = run("--plain", contexts.file("[[delay=0 first=0 fail=1]] a b"), contexts.file("[[first=0.2]] "))

    assert done.stdout.decode() == "0/a\n"
    assert (done.returncode, done.stderr.decode()) == (1, "It was told to fail.\n")


@pytest.mark.parametrize("count", [0, 5])
def test_more_than_four_files_or_none_are_an_error(count: int, contexts: Contexts) -> None:
    done = run(*(contexts.file("x") for _ in range(count)))

    assert (done.returncode, done.stdout) == (2, b"")
    assert b"mock_script: error: " in done.stderr


@pytest.mark.parametrize("wrong", [b"not base64!", base64.b64encode(b"no json"), base64.b64encode(b"[]"), None])
def test_a_file_that_cannot_be_read_fails_alone(wrong: bytes | None, contexts: Contexts, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    if wrong is not None:
        bad.write_bytes(wrong)

    done = run("--delay", "0", bad, contexts.file("fine"))

    assert done.returncode == 0
    assert next(line for line in said(done.stdout) if line["i"] == 0)["error"].startswith("A file could not be read")
    assert text_of(done.stdout, 1) == "fine"


@pytest.mark.parametrize(
    ("text", "told", "rest"),
    [
        ("no instruction", {}, "no instruction"),
        ("later [[stall]]", {}, "later [[stall]]"),
        ("[[]] x", {}, "x"),
        ("[[delay=0.1 first=2 words=20 fail=3]]  x", {"delay": 0.1, "first": 2.0, "words": 20, "fail": 3}, " x"),
        ("@openai, [[ stall\nnothing ]]x", {"stall": True, "nothing": True}, "x"),
        ('[[say="a \\"]] b" exit]]', {"say": 'a "]] b', "exit": 1}, ""),
        ("[[say=word fail]]", {"say": "word", "fail": 0}, ""),
    ],
)
def test_instructions_are_read_from_the_beginning_of_a_text(text: str, told: dict[str, Any], rest: str) -> None:
    assert instructions(text) == (told, rest)


@pytest.mark.parametrize(
    "text",
    [
        *("[[dance]]", "[[stall", "[[delay]]", "[[delay=x]]", "[[delay=nan]]", "[[delay=-1]]", "[[words=1.5]]"),
        *("[[words]]", "[[stall=1]]", "[[say]]", '[[say="a]]', '[[say="a"b]]', "[[a b!]]", "[[words=9999999]]"),
    ],
)
def test_an_instruction_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(NotUnderstood) as error:
        instructions(text)
    assert "instruction" in str(error.value)


def test_an_answer_that_fails_leaves_the_others_alone(contexts: Contexts) -> None:
    texts = ["[[dance]] x", "[[fail=2]] a b c", "[[nothing]] x", "fine"]

    done = run("--delay", "0", *(contexts.file(text) for text in texts))

    lines = said(done.stdout)
    assert [line["i"] for line in lines if "error" in line] == [0, 1]
    assert [text_of(done.stdout, slot) for slot in range(4)] == ["", "a b ", "", "fine"]
    assert not [line for line in lines if line["i"] == 2]
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_says_other_words_and_as_many_as_it_is_told(contexts: Contexts) -> None:
    files = [contexts.file('[[delay=0 first=0 words=5 say="a b"]]'), contexts.file("[[delay=0 first=0 words=2]]")]

    done = run(*files)

    assert [text_of(done.stdout, slot) for slot in (0, 1)] == ["a b a b a ", "word word "]


def test_it_ends_with_the_exit_code_it_is_told_after_its_words(contexts: Contexts) -> None:
    done = run(contexts.file("[[delay=0 first=0 exit=7]] a b"), contexts.file("[[first=60]] never"))

    assert (done.returncode, text_of(done.stdout)) == (7, "a b")
    assert b"exit code 7" in done.stderr
    assert not [line for line in said(done.stdout) if "end" in line]


def test_it_writes_what_no_program_should(contexts: Contexts) -> None:
    bad = run("--delay", "0", contexts.file("[[bad-utf8]] x")).stdout
    long = run("--delay", "0", contexts.file("[[long-line]] x")).stdout
    slow = run(contexts.file("[[slow-bytes delay=0.001 first=0]] hi")).stdout

    assert bad.splitlines()[0] == b'{"i": 0, "d": "caf\xff "}'
    assert len(bad.splitlines()) == 3
    assert len(long.splitlines()[0]) > LONG_BYTES
    assert said(slow) == [{"i": 0, "d": "hi"}, {"i": 0, "end": True}]


def test_pauses_are_random_and_the_same_for_the_same_seed(contexts: Contexts) -> None:
    one, same, other = (contexts.pauses("a b c d", seed) for seed in (1, 1, 2))

    assert one == same
    assert one != other
    assert len(set(one)) == 4
    assert all(0 <= pause <= 4 for pause in one)


def test_pauses_that_are_told_are_exact(contexts: Contexts) -> None:
    assert contexts.pauses("[[first=2 delay=0.5]] a b c", 1) == [2.0, 0.5, 0.5]


def test_its_help_and_its_page_name_every_instruction() -> None:
    known = {"say", *mock_script._SECONDS, *mock_script._NUMBERS, *mock_script._FLAGS}

    assert {name for name in known if f"\n    {name}" not in (mock_script.__doc__ or "")} == set()
