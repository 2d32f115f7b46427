"""A slow program answers up to four prompts; whatever it does is said in a sentence, and the others go on."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from pathlib import Path

import pytest

from hubbub.buses.local import LocalBus
from hubbub.core.nouns import Prompt, RunState, Task, Turn
from hubbub.core.ports import EngineFailure, Progress
from hubbub.engines.script import PREFIX, ScriptEngine, context
from hubbub.hub.worker import Worker
from support.programs import LONG, MOCK, SILENT, Scripts, answer, answers, asking, python, shell, until


async def test_four_are_answered_by_one_run_of_the_program(scripts: Scripts) -> None:
    code = """
for slot, path in enumerate(sys.argv[1:]):
    print(json.dumps({"i": slot, "d": f"{os.getpid()} {len(sys.argv[1:])}"}))
"""

    found = await answers(scripts(python(code)), "a", "b", "c", "d")

    assert len({said for said, _ in found}) == 1
    assert found[0][0].endswith(" 4")
    assert [end for _, end in found] == [""] * 4


async def test_nothing_asked_starts_nothing(scripts: Scripts) -> None:
    assert [piece async for piece in scripts(("/no/such/program",)).answer([])] == []


async def test_a_piece_is_relayed_while_the_program_still_writes(scripts: Scripts) -> None:
    pieces = scripts().answer([asking("[[stall delay=0]] first"), asking(SILENT)])

    assert await anext(pieces) == (0, "first")
    assert len(scripts.processes()) == 1
    await pieces.aclose()


async def test_an_answer_ends_while_the_others_are_still_written(scripts: Scripts) -> None:
    pieces = scripts().answer([asking(LONG), asking("[[first=0.05]] two")])

    assert [await anext(pieces) for _ in range(3)] == [(0, "one"), (1, "two"), (1, "")]
    assert len(scripts.processes()) == 1
    await pieces.aclose()


NASTY = "; rm -rf / $(reboot) `id` | & > < \\ ' \" %s {} * ~ -x --help\n\r\n\t\x00\x1b[31m grüße 🙂 \u202e end"


@pytest.mark.parametrize("text", [NASTY, "word \n" * 17_000, "-"], ids=["shell", "100 KB", "dash"])
async def test_a_prompt_arrives_as_it_was_written(text: str, scripts: Scripts) -> None:
    assert await answer(scripts(), text) == (text, "")


async def test_the_file_has_the_whole_conversation_and_the_newest_words_of_a_person() -> None:
    turns = (
        Turn(role="system", name="", text="Be kind."),
        Turn(role="user", name="bob", text="earlier"),
        Turn(role="user", name="alice", text="grüße \ud800"),
        Turn(role="assistant", name="openai", text="hello"),
    )

    found = json.loads(base64.b64decode(context(Prompt(run="r7", assistant="openai", turns=turns)), validate=True))

    assert found == {
        "run": "r7",
        "assistant": "openai",
        "turns": [{"role": turn.role, "name": turn.name, "text": turn.text} for turn in turns],
        "text": "grüße \ud800",
    }


async def test_one_fails_and_three_go_on(scripts: Scripts) -> None:
    found = await answers(scripts(), "[[fail=1]] a b", "b c", "[[first=0.05]] d", "e")

    assert found[0][-1] == "<It was told to fail.>"
    assert [("".join(said), said[-1]) for said in found[1:]] == [("b c", ""), ("d", ""), ("e", "")]


FAULTS = {
    "exits 1": ("[[exit=1]] one two", "one two", "ended with exit code 1: It was told to end with exit code 1."),
    "exits 0 with nothing": (SILENT, "", "wrote nothing; ask again"),
    "a megabyte line": ("[[long-line]] one", "", "wrote a line longer than 1 MiB and was stopped"),
    "never begins": ("[[first=60]] one", "", "wrote nothing for 0.5 seconds and was stopped"),
    "never ends": ("[[stall]] one", "one", "fell silent for 0.3 seconds and was stopped"),
    "one byte after the other": (
        '[[slow-bytes delay=0.1 first=0 say="one"]]',
        "",
        "took longer than 1 seconds and was stopped; ask for something shorter",
    ),
    "a word after the other": ("[[delay=0.1 first=0 words=100]]", "word word ", "took longer than 1 seconds"),
    "floods": ("[[flood]] one", "one", "wrote more than 50000 bytes and was stopped; ask for less"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_goes_wrong_is_said_in_a_sentence(fault: str, scripts: Scripts) -> None:
    text, begins, because = FAULTS[fault]
    engine = scripts(first_s=0.5, idle_s=0.3, total_s=1, max_bytes=50_000 if fault == "floods" else 4 << 20)

    said, end = await answer(engine, text)

    assert said.startswith(begins)
    assert end.startswith("<The script ")
    assert because in end


async def test_one_byte_after_the_other_is_slow_and_no_fault(scripts: Scripts) -> None:
    assert await answer(scripts(idle_s=1), "[[slow-bytes delay=0.002]] hi") == ("hi", "")


async def test_bytes_that_are_no_text_are_replaced(scripts: Scripts) -> None:
    assert await answer(scripts(), "[[bad-utf8]] one") == ("caf\ufffd one", "")


async def test_a_program_that_always_has_something_to_say_is_stopped_in_time_too(scripts: Scripts) -> None:
    ends = asyncio.get_running_loop().time() + 0.2
    pieces = scripts(shell(f"exec yes 0/{'x' * 100}"), total_s=0.2).answer([asking("hi")])
    await anext(pieces)
    await until(lambda: asyncio.get_running_loop().time() > ends + 0.1)  # the pipe is full by now

    *said, (_, last) = [one async for one in pieces]

    assert said == []  # of all there was
    assert "took longer than 0.2 seconds" in str(last)


async def test_a_silent_program_is_stopped_when_its_whole_time_is_over(scripts: Scripts) -> None:
    said, end = await answer(scripts(total_s=0.5), LONG)

    assert said == "one"
    assert "took longer than 0.5 seconds" in end


async def test_a_program_may_take_its_time_before_it_begins(scripts: Scripts) -> None:
    assert await answer(scripts(first_s=10, idle_s=0.1), "[[first=0.2]] one") == ("one", "")


async def test_the_last_line_needs_no_end(scripts: Scripts) -> None:
    assert await answer(scripts(shell("printf 0/one"))) == ("one", "")


@pytest.mark.parametrize("plain", [(), ("--plain",)])
async def test_exit_code_0_ends_what_has_said_something(plain: tuple[str, ...], scripts: Scripts) -> None:
    found = await answers(scripts((*MOCK, *plain)), "[[first=0.05 exit=0]] one", "two", SILENT)

    assert ["".join(said) for said in found[:2]] == ["one", "two"]
    assert found[2] == ["<The script wrote nothing; ask again, or in other words.>"]


async def test_what_had_ended_stays_so_when_the_program_fails(scripts: Scripts) -> None:
    found = await answers(scripts(), "[[first=0.05 exit=2]] one", "two")

    assert found[1][-1] == ""
    assert "exit code 2" in found[0][-1]


async def test_what_a_program_complains_of_is_one_clean_bounded_line(scripts: Scripts) -> None:
    long = shell(r"head -c 100000 /dev/zero | tr '\0' x >&2; printf '\n\033[31mno\tmemory\n\n' >&2; exit 9")

    assert await answer(scripts(long)) == ("", "<The script ended with exit code 9: [31mno memory>")
    assert len((await answer(scripts(shell("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 9"))))[1]) < 400
    assert (await answer(scripts(shell("exit 9"))))[1].startswith(
        "<The script ended with exit code 9 and did not say why"
    )


async def test_what_a_program_complains_of_is_not_shown_to_others_of_its_batch(scripts: Scripts) -> None:
    quotes = shell('base64 -d "$1" >&2; exit 9')

    for said in await answers(scripts(quotes), "a secret", "something else"):
        assert said[-1].startswith("<The script ended with exit code 9; whoever runs this server")
        assert "secret" not in said[-1]


async def test_a_program_that_cannot_be_started_fails_the_batch(scripts: Scripts) -> None:
    with pytest.raises(EngineFailure) as failure:
        await answers(scripts(("/no/such/program",)), "a", "b")

    assert str(failure.value).startswith("The script could not be started; whoever runs this server")
    assert "/no" not in str(failure.value)


async def test_files_that_cannot_be_written_fail_the_batch(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="could not be handed to the script"):
        await answers(ScriptEngine(MOCK, directory=tmp_path / "missing"), "a")


async def test_lines_that_say_nothing_are_logged_once(scripts: Scripts, capsys: pytest.CaptureFixture[str]) -> None:
    code = shell('echo Loading; echo; echo 7/x; echo 0/one; echo \'{"i": 9, "d": "x"}\'')

    assert await answer(scripts(code)) == ("one", "")

    (line,) = [line for line in capsys.readouterr().out.splitlines() if "script_" in line]
    assert "misplaced=2" in line
    assert "unreadable=1" in line


def test_what_a_crash_has_left_is_removed_when_it_is_old_enough(tmp_path: Path) -> None:
    old, young, other = tmp_path / f"{PREFIX}old", tmp_path / f"{PREFIX}young", tmp_path / "other"
    for directory in (old, young, other):
        directory.mkdir()
        (directory / "0").write_text("secret")
        os.utime(directory, (0, time.time() - 3700 if directory is not young else time.time() - 3500))
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(other)
    os.utime(link, (0, 0), follow_symlinks=False)

    ScriptEngine(MOCK, directory=tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == [link.name, young.name, other.name]
    assert (other / "0").exists()

    os.utime(young, (0, time.time() - 3700))
    ScriptEngine(MOCK, directory=tmp_path, total_s=7200)  # it could be another's, still being read
    assert young.exists()


@pytest.mark.parametrize(("argv", "batch"), [((), 4), (MOCK, 0), (MOCK, 5)])
def test_a_script_needs_a_program_and_takes_one_to_four(argv: tuple[str, ...], batch: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no program|1 to 4"):
        ScriptEngine(argv, batch=batch, directory=tmp_path)


async def ended(engine: ScriptEngine, *texts: str, cancel: str | None = None) -> list[Progress]:
    """What has become of so many runs, through a real worker and bus."""
    bus, over, found, shouted = LocalBus(), asyncio.Event(), {}, []

    def hear(run: str) -> None:
        found[run] = bus.so_far(run)
        if len(found) == len(texts):
            over.set()

    bus.listen(shouted.append, hear)
    for n, text in enumerate(texts):
        await bus.put(Task(run=f"r{n}", thread="t", assistant="openai", attempt=1, prompt=asking(text, f"r{n}")))
    working = asyncio.create_task(Worker(bus, engine).work())
    async with asyncio.timeout(10):
        await over.wait()
    working.cancel()
    await asyncio.wait([working])
    return [found[f"r{n}"] for n in range(len(texts))]


async def test_a_worker_hands_four_to_one_run_and_each_ends_for_itself(scripts: Scripts) -> None:
    found = await ended(scripts(), "one two", "[[fail=1]] a b", SILENT, "[[first=0.05 bad-utf8]] x")

    assert [(one.state, one.text, one.error) for one in found] == [
        (RunState.COMPLETED, "one two", None),
        (RunState.FAILED, "a ", "It was told to fail."),
        (RunState.FAILED, "", "The script wrote nothing; ask again, or in other words."),
        (RunState.COMPLETED, "caf\ufffd x", None),
    ]


async def test_a_worker_runs_one_batch_after_the_other(scripts: Scripts) -> None:
    found = await ended(scripts(), *(f"answer {n}" for n in range(6)), "[[exit=5]] late")

    assert [one.text for one in found[:4]] == [f"answer {n}" for n in range(4)]
    assert all(one.state is RunState.COMPLETED for one in found[:4])
    assert found[6].state is RunState.FAILED
    assert str(found[6].error).startswith("The script ended with exit code 5")
