"""Nodes of this version and of one that comes after it, side by side on one MongoDB and one Redis.

The later version is this one with what later versions have: more kinds of news, more fields in what is said and queued,
a field more in the database, and the step that leads there.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from random import Random

import httpx2
import pytest

import hubbub
from hubbub.stores import mongo_schema
from support.cluster import cluster
from support.people import People
from support.talkers import FramedClient
from support.witness import LOBBY

LATER = "99.0.0"

NEWS = """class Weather(News, frozen=True, kw_only=True, tag="weather"):
    sky: str


class Alive(News,"""
TOLD = """self.tell(news.Weather(node=self.node, sky="blue"))
            self.tell(news.Alive(mood="fine", node=self.node,"""

CHANGES = {
    "__init__.py": [(f'__version__ = "{hubbub.__version__}"', f'__version__ = "{LATER}"')],
    "core/news.py": [
        ("class Alive(News,", NEWS),
        ("    count: int\n", '    count: int\n    mood: str = ""\n'),
        ("AnyNews = ", "AnyNews = Weather | "),
    ],
    "hub/others.py": [("self.tell(news.Alive(node=self.node,", TOLD)],
    "core/nouns.py": [('    engine: str = "demo"\n', '    engine: str = "demo"\n    tone: str = ""\n')],
    "hub/runs.py": [("            task = Task(\n", '            task = Task(\n                tone="calm",\n')],
    "stores/mongo_rows.py": [
        ('        "text": message.text,\n', '        "text": message.text,\n        "mood": "",\n')
    ],
    "stores/mongo_schema.py": [
        ('{"destination": _TEXT,', '{"mood": _TEXT, "destination": _TEXT,'),
        ("= (_house,)", "= (_house, _house)"),
    ],
}
"""What is written where, and what is written there instead."""


def later_version(place: Path) -> Path:
    """This version, changed."""
    ours = Path(hubbub.__file__).parent
    shutil.copytree(ours, place / "hubbub", ignore=shutil.ignore_patterns("web", "__pycache__"))
    for name, changes in CHANGES.items():
        file = place / "hubbub" / name
        text = file.read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
            text = text.replace(old, new)
        file.write_text(text)
    return place


@pytest.mark.timeout(180)
async def test_nodes_are_brought_to_a_later_version_one_after_the_other_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = later_version(tmp_path / "later")
    chance = Random("versions")
    async with cluster(tmp_path) as nodes, httpx2.AsyncClient() as http:
        people = People(nodes)
        async with people.there():
            for node in (*nodes.nodes, None):
                people.all_say(2)
                people.ask(chance, 6)
                chatter = asyncio.create_task(people.chatter(chance))
                try:
                    if node is not None:
                        assert await node.stop() == 0
                        node.environ["PYTHONPATH"] = str(later)
                        await node.start()
                finally:
                    chatter.cancel()
                await people.level()
                await everybody_sees_everybody(people)
            with monkeypatch.context() as patch:
                patch.setattr(mongo_schema, "STEPS", mongo_schema.STEPS * 2)
                await people.judged()
        versions = [(await http.get(f"http://127.0.0.1:{node.port}/health")).json()["version"] for node in nodes.nodes]
        assert versions == [LATER] * 3
        assert "word_not_understood" in nodes.said  # and nothing worse
        assert "Traceback" not in nodes.said

        last = nodes.nodes[-1]
        await last.stop()
        del last.environ["PYTHONPATH"]
        with pytest.raises(AssertionError, match=r"written by a newer Hubbub \(schema 2, this one knows 1\)"):
            await last.start()


async def everybody_sees_everybody(people: People) -> None:
    """Whoever is connected to one node is online on each."""
    names = {one.name for one in people.talkers}
    for number, node in enumerate(people.cluster.nodes):
        async with await FramedClient.open(node.tcp_port) as client:
            await client.hello(f"{people.mark}-looks-{number}", threads=[LOBBY])
            async with asyncio.timeout(10):
                while not names <= set((await client.ask("who"))["online"]):  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.05)
