"""A real MongoDB for the tests of its store."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hubbub.stores.mongo import MongoStore

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import mongod

Nodes = tuple[MongoStore, MongoStore]


@pytest.fixture(scope="session")
def mongo() -> Iterator[mongod.Mongod]:
    """A replica set of one server."""
    with mongod.replica_set() as (server,):
        yield server


@pytest.fixture
async def nodes(mongo: mongod.Mongod) -> AsyncIterator[Nodes]:
    """Two nodes on one empty database."""
    mongod.wipe(mongo, "nodes")
    made = MongoStore(mongod.uri([mongo]), "nodes"), MongoStore(mongod.uri([mongo]), "nodes")
    for node in made:
        await node.open()
    yield made
    for node in made:
        await node.close()
