"""`hubbub worker` as somebody types it."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import httpx2
import pytest

from hubbub import workers as roof
from hubbub.buses.redis import RedisBus
from hubbub.core.nouns import Prompt, Task, new_id
from hubbub.workers import Workers
from support.command import hubbub
from support.redis import redis_server
from support.server import settings
from support.workers import working


async def test_without_redis_it_says_in_a_sentence_what_to_set(tmp_path: Path) -> None:
    code, out, err = await hubbub("worker", cwd=tmp_path)

    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "REDIS_URL" in err


@pytest.mark.parametrize(
    ("arguments", "url", "said"),
    [
        (("--engines", "gpt"), "redis://127.0.0.1:1", "There is no engine 'gpt' here; there are demo, script."),
        ((), "http://:s3cret@127.0.0.1:1", "REDIS_URL is not an address of Redis"),
    ],
)
async def test_what_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], url: str, said: str
) -> None:
    code, out, err = await hubbub("worker", *arguments, cwd=tmp_path, environ={"REDIS_URL": url})

    assert (code, out) == (2, "")
    assert said in err
    assert "s3cret" not in err


async def test_a_server_whose_answers_nobody_could_write_does_not_start(tmp_path: Path) -> None:
    environ = {"HUBBUB_WORKER": "0", "HUBBUB_HOME": str(tmp_path)}
    code, _, err = await hubbub("serve", "--port", "0", "--tcp-port", "0", cwd=tmp_path, environ=environ)

    assert code == 2
    assert "REDIS_URL" in err


async def test_a_server_without_redis_does_not_pay_for_it() -> None:
    code = "import sys, hubbub.app, hubbub.asgi, hubbub.cli.worker; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    modules = (await process.communicate())[0].decode().split()

    assert "hubbub.workers" in modules
    assert not {"redis", "hubbub.buses.redis", "hubbub.workers_http"} & set(modules)


async def test_it_says_how_it_is(tmp_path: Path) -> None:
    name = new_id()
    async with redis_server() as redis, working(redis.url, name, tmp_path / "log", None, "--engines", "demo") as worker:
        well = await worker.health()
        await redis.kill()
        async with asyncio.timeout(10):
            while (ill := await worker.health())["status"] == "ok":  # noqa: ASYNC110 - the worker is asked
                await asyncio.sleep(0.02)
        async with httpx2.AsyncClient(trust_env=False) as http:
            alive = await http.get(f"http://127.0.0.1:{worker.port}/healthz")
            counted = await http.get(f"http://127.0.0.1:{worker.port}/metrics")
            stats = await http.get(f"http://127.0.0.1:{worker.port}/api/stats")
        code = await worker.stop()

    assert (well["status"], well["checks"], well["engines"]) == ("ok", {"redis": "ok"}, {"demo": {"writing": 0}})
    assert ill["status"] == "degraded"
    assert re.fullmatch(r"Redis at 127.0.0.1:\d+ cannot be used: it cannot be reached\.", ill["checks"]["redis"])
    assert (alive.status_code, alive.text) == (200, "ok")
    assert (counted.status_code, stats.status_code) == (200, 200)
    assert "hubbub_" in counted.text
    assert code == 0
    assert "Traceback" not in worker.said


class Slow:
    """Writes `text`, and then nothing for ever."""

    name = "slow"
    batch = 4
    at_once = 1

    def __init__(self, text: str) -> None:
        self.text = text
        self.closed = asyncio.Event()

    async def answer(self, prompts):  # type: ignore[no-untyped-def]
        try:
            if self.text:
                yield 0, self.text
            await asyncio.Event().wait()
        finally:
            self.closed.set()


@pytest.mark.parametrize(("text", "attempt"), [("", 1), ("word", 0)])
async def test_what_it_cannot_finish_it_hands_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, attempt: int
) -> None:
    monkeypatch.setattr(roof, "FINISH_S", 0.05)
    name, engine = new_id(), Slow(text)
    lost: list[str] = []
    async with redis_server() as redis:
        bus = RedisBus(redis.url, name)
        await bus.open()
        bus.listen(lambda event: None, lost.append)
        worker = settings(tmp_path, redis_url=redis.url, redis_tasks_queue_name=name, worker_port=0)
        async with Workers(worker, engine=engine) as workers:
            prompt = Prompt(run="r", assistant="openai", turns=())
            await bus.put(Task(run="r", thread="t", assistant="openai", attempt=1, prompt=prompt))
            async with asyncio.timeout(5):
                while (now := bus.so_far("r")) is None or now.text != text:  # noqa: ASYNC110 - a word over Redis
                    await asyncio.sleep(0.005)
        assert engine.closed.is_set()
        assert not workers.workers["demo"].writing
        async with asyncio.timeout(5):
            if attempt:  # nothing was shown: the same attempt, by somebody else
                [lease] = await bus.take("demo", 4, 0.0)
                assert lease.task.attempt == attempt
            else:
                while not lost:  # noqa: ASYNC110 - a word over Redis
                    await asyncio.sleep(0.005)
                progress = bus.so_far("r")
                assert progress is not None
                assert (progress.text, progress.lost) == (text, True)
        await bus.close()
