"""`hubbub doctor` says in a sentence what was broken here for real, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubbub import config, doctor
from hubbub.doctor import Finding, Level, machine
from support.command import hubbub
from support.process import ROOT, missing
from support.redis import redis_server
from support.server import serving, settings

SAMPLE = "your-256-bit-secret-change-me-please"
NO_DOTENV = Path("/nonexistent")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    """A home that was served, and is not now."""
    async with serving(tmp_path / "home"):
        pass
    return tmp_path / "home"


def examine(home: Path, *, dotenv: Path = NO_DOTENV, **flags: Any) -> list[Finding]:
    return doctor.examine(lambda: settings(home, **flags), dotenv)


def complaints(home: Path, **more: Any) -> list[tuple[str, str, str]]:
    """What is to be done, said in one sentence each."""
    found = [(one.level.value, one.about, one.sentence) for one in examine(home, **more) if one.level.counts]
    assert all("\n" not in sentence for _, _, sentence in found)
    return found


def one_complaint(home: Path, level: str, about: str, **more: Any) -> str:
    """The only thing that is to be done."""
    [(was, of, sentence)] = complaints(home, **more)
    assert (was, of) == (level, about), sentence
    return sentence


def notes(home: Path, **more: Any) -> list[str]:
    return [one.sentence for one in examine(home, **more) if one.level is Level.NOTE]


def files(home: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in home.rglob("*") if file.is_file()}


def test_a_healthy_installation_is_all_fine_and_stays_as_it_was(home: Path) -> None:
    before = files(home)

    found = examine(home)

    assert {one.level for one in found} == {Level.FINE}, found
    assert files(home) == before


def test_where_there_is_nothing_yet_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    home = tmp_path / "home"

    assert complaints(home) == []
    assert notes(home) == [f"There are no data in {home} yet; the first start makes them."]
    assert not home.exists()


# Files


def test_a_home_that_others_can_look_into(home: Path) -> None:
    home.chmod(0o755)

    assert one_complaint(home, "unsafe", "home").endswith(f"can look into {home} (mode 755): chmod 700 {home}")


@AS_ROOT
@pytest.mark.parametrize("what", [".", "hubbub.db"])
def test_data_of_somebody_else(home: Path, what: str) -> None:
    os.chown(home / what, 12345, -1)

    assert "belongs to the user 12345 and you are root" in one_complaint(home, "wrong", "home")


def test_a_home_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "home").touch()

    assert "is no directory" in one_complaint(
        tmp_path / "home", "wrong", "home", store="memory", log_dir=tmp_path / "l"
    )


@pytest.mark.parametrize("name", ["secret.key", "secret.key.old"])
def test_a_key_that_others_can_read(home: Path, name: str) -> None:
    shutil.copy(home / "secret.key", home / name) if name.endswith("old") else None
    (home / name).chmod(0o640)

    assert f"Others on this machine can read the token key {home / name}" in one_complaint(home, "unsafe", "key")


@pytest.mark.parametrize("key", [b"short", SAMPLE.encode(), b"a" * 64])
def test_a_key_in_the_file_that_could_be_guessed(home: Path, key: bytes) -> None:
    (home / "secret.key").write_bytes(key)

    assert f"The key in {home / 'secret.key'} is too short, or a sample" in one_complaint(home, "unsafe", "key")


def test_a_key_in_the_settings_that_could_be_guessed(home: Path) -> None:
    found = doctor.examine(lambda: loaded(home, JWT_SECRET_KEY=SAMPLE), NO_DOTENV)

    [sentence] = [one.sentence for one in found if one.level.counts]
    assert sentence == "JWT_SECRET_KEY is a sample that anybody could guess; unset it to have a key made."


def loaded(home: Path, **environ: str) -> config.Settings:
    return config.load({"home": home, "port": 0, "tcp_port": 0}, environ, NO_DOTENV)


def test_a_short_key_in_the_settings_leaves_the_rest_to_be_looked_at_later(home: Path) -> None:
    found = doctor.examine(lambda: loaded(home, JWT_SECRET_KEY="short"), NO_DOTENV)

    [sentence] = [one.sentence for one in found if one.level.counts]
    assert sentence.startswith("JWT_SECRET_KEY: expected at least 32 bytes; leave it unset to have a key made.")
    assert "short" not in sentence


def test_secrets_in_dotenv_that_others_can_read(home: Path, tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("HUBBUB_PORT=0\nOPENAI_API_KEY=sk-canary\nJWT_SECRET_KEY=\n")
    dotenv.chmod(0o644)

    sentence = one_complaint(home, "unsafe", "dotenv", dotenv=dotenv)

    assert sentence == f"Others on this machine can read OPENAI_API_KEY in {dotenv} (mode 644): chmod 600 {dotenv}"
    dotenv.chmod(0o600)
    assert complaints(home, dotenv=dotenv) == []
    dotenv.write_text("HUBBUB_PORT=0\n")
    dotenv.chmod(0o644)
    assert complaints(home, dotenv=dotenv) == []


@pytest.mark.parametrize("name", ["DATABASE_URI", "MONGO_URL", "REDIS_URL", "HUBBUB_TOKEN"])
def test_an_address_may_hold_a_password(home: Path, tmp_path: Path, name: str) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"{name}=redis://ann:canary@localhost\n")
    dotenv.chmod(0o644)

    assert name in one_complaint(home, "unsafe", "dotenv", dotenv=dotenv)


def test_logs_that_others_can_read(home: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)

    assert one_complaint(home, "unsafe", "logs", log_dir=logs).endswith(f"(mode 755): chmod 700 {logs}")
    (home / "logs").mkdir(mode=0o755)  # nobody gets there through a home that is closed to them
    assert complaints(home) == []


def test_an_audit_log_that_cannot_be_written(home: Path) -> None:
    (home / "logs" / "audit.log").mkdir(parents=True)

    sentence = one_complaint(home, "wrong", "audit")

    assert sentence == f"Nobody can sign in, as it cannot be noted in {home / 'logs' / 'audit.log'}: Is a directory."


# The network


@pytest.fixture
def admin(home: Path) -> None:
    """Somebody can sign in, and let others in."""
    with contextlib.closing(sqlite3.connect(home / "hubbub.db")) as db, db:
        db.execute("INSERT INTO accounts VALUES ('alice', 'alice', '', 1, 0, 1, 1)")


def test_passwords_that_would_cross_a_network_in_the_clear(home: Path, admin: None) -> None:
    sentence = one_complaint(home, "unsafe", "tls", host="0.0.0.0")

    assert "in the clear" in sentence
    assert "--behind-proxy" in sentence
    assert complaints(home, host="0.0.0.0", behind_proxy=True) == []


@pytest.mark.parametrize("setting", ["guests", "registration"])
def test_doors_that_are_open_to_everybody(home: Path, admin: None, setting: str) -> None:
    sentence = one_complaint(home, "unsafe", setting, behind_proxy=True, **{setting: "on"})

    assert f"HUBBUB_{setting.upper()}=off" in sentence


def certificate(directory: Path, *names: str, days: int = 90) -> dict[str, Path]:
    """One that signed itself, as the settings that name it."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    extra = ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)] if names else []
    openssl("req", "-x509", *NEW_KEY, "-keyout", key, "-out", cert, "-days", days, "-subj", "/CN=hubbub", *extra)
    key.chmod(0o600)
    return {"tls_cert": cert, "tls_key": key}


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments: object) -> None:
    if shutil.which("openssl") is None:
        missing("There is no openssl")
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def test_a_good_certificate_is_fine(home: Path, tmp_path: Path) -> None:
    tls = certificate(tmp_path, "chat.example.com", "www.example.com")

    found = [one.sentence for one in examine(home, **tls) if one.about == "certificate"]

    assert found == ["The certificate is for chat.example.com, www.example.com and good for 90 days."]
    assert complaints(home, **tls) == []


def test_a_certificate_that_is_not_there(home: Path, tmp_path: Path) -> None:
    tls = certificate(tmp_path, "chat.example.com")
    tls["tls_cert"].unlink()

    assert "No such file or directory" in one_complaint(home, "wrong", "certificate", **tls)


def test_a_certificate_with_the_key_of_another(home: Path, tmp_path: Path) -> None:
    tls = certificate(tmp_path, "chat.example.com")
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", tls["tls_key"])

    assert "KEY_VALUES_MISMATCH" in one_complaint(home, "wrong", "certificate", **tls)


def test_a_private_key_that_others_can_read(home: Path, tmp_path: Path) -> None:
    tls = certificate(tmp_path, "chat.example.com")
    tls["tls_key"].chmod(0o644)

    assert one_complaint(home, "unsafe", "certificate", **tls).endswith(f"chmod o-rwx {tls['tls_key']}")


@pytest.mark.parametrize(("days", "count"), [(13, 1), (15, 0)])
def test_a_certificate_that_expires_within_fourteen_days(home: Path, tmp_path: Path, days: int, count: int) -> None:
    found = complaints(home, **certificate(tmp_path, "chat.example.com", days=days))

    assert len(found) == count
    assert all(f"expires in {days} days" in sentence for _, _, sentence in found)


def test_a_certificate_that_has_expired(home: Path, tmp_path: Path) -> None:
    tls = certificate(tmp_path, "chat.example.com")
    expire(tmp_path, tls)

    assert one_complaint(home, "wrong", "certificate", **tls).endswith("has expired; put a newer one in its place.")


def expire(directory: Path, tls: dict[str, Path]) -> None:
    """Sign it anew, for a month of the past."""
    (directory / "index.txt").touch()
    (directory / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=x\n[x]\ndatabase={directory}/index.txt\nnew_certs_dir={directory}\nrand_serial=yes\n"
        "default_md=sha256\npolicy=p\ncopy_extensions=copy\n[p]\ncommonName=supplied\n"
    )
    request, san = directory / "request.pem", "subjectAltName=DNS:chat.example.com"
    openssl("req", "-new", "-key", tls["tls_key"], "-subj", "/CN=hubbub", "-addext", san, "-out", request)
    when = ("-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
    signed = ("-config", directory / "ca.cnf", "-keyfile", tls["tls_key"], "-in", request, "-out", tls["tls_cert"])
    openssl("ca", "-selfsign", "-batch", "-notext", *signed, *when)


def test_a_certificate_for_another_name_and_for_none(home: Path, admin: None, tmp_path: Path) -> None:
    tls = certificate(tmp_path, "chat.example.com")
    other = one_complaint(home, "wrong", "certificate", host="talk.example.com", **tls)
    none = one_complaint(home, "wrong", "certificate", **certificate(tmp_path))

    assert complaints(home, host="chat.example.com", **tls | certificate(tmp_path, "chat.example.com")) == []
    assert "is not for the name talk.example.com" in other
    assert "names no host (subjectAltName)" in none


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that a program which says nothing has."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.mark.parametrize("setting", ["port", "tcp_port"])
def test_a_port_that_another_program_has(home: Path, taken: int, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.network, "ANSWER_S", 0.05)

    sentence = one_complaint(home, "wrong", "ports", **{setting: taken})

    flag = "--" + setting.replace("_", "-")
    assert sentence == f"Another program has port {taken} on 127.0.0.1; choose another with {flag}."


def test_ports_that_cannot_be_had(home: Path, admin: None) -> None:
    same = one_complaint(home, "wrong", "ports", port=8000, tcp_port=8000)
    elsewhere = one_complaint(home, "wrong", "ports", host="192.0.2.1", port=8000, behind_proxy=True)

    assert "cannot both have port 8000" in same
    assert "(Cannot assign requested address)" in elsewhere


@pytest.mark.parametrize("encrypted", [False, True])
async def test_the_server_that_runs_here_is_no_stranger(tmp_path: Path, encrypted: bool) -> None:
    tls = certificate(tmp_path, "chat.example.com") if encrypted else {}
    async with serving(tmp_path / "home", **tls) as house:
        at = {"port": house.port, "tcp_port": house.tcp_port, **tls}

        here = await asyncio.to_thread(examine, tmp_path / "home", **at)
        moved = await asyncio.to_thread(notes, tmp_path / "home", **tls)
        async with serving(tmp_path / "other"):
            other = await asyncio.to_thread(complaints, tmp_path / "third", **at)

    assert [one.sentence for one in here if one.about == "ports"] == [
        f"This Hubbub is running and has port {port} on 127.0.0.1." for port in (house.port, house.tcp_port)
    ]
    assert not [one for one in here if one.level.counts]
    assert moved == [f"A server is running on the data in {tmp_path / 'home'}, at other ports than these settings say."]
    assert [sentence.partition(" port")[0] for _, _, sentence in other] == ["Another Hubbub, on other data, has"] * 2


async def test_a_running_server_that_cannot_use_its_data(tmp_path: Path) -> None:
    async with serving(tmp_path / "home") as house:
        with contextlib.closing(sqlite3.connect(tmp_path / "home" / "hubbub.db")) as db, db:
            db.execute("DROP TABLE threads")

        found = await asyncio.to_thread(complaints, tmp_path / "home", port=house.port, tcp_port=house.tcp_port)

    [(level, about, sentence)] = found
    assert (level, about) == ("wrong", "ports")
    assert sentence.startswith("The server is running, but cannot use its data: ")


# The data


def test_a_database_that_is_damaged(home: Path) -> None:
    path = home / "hubbub.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * 4096 + whole[8192:])
    page = one_complaint(home, "wrong", "database")
    path.write_bytes(b"this is no database " * 1000)
    all_of_it = one_complaint(home, "wrong", "database")

    assert page.startswith(f"The database {path} is damaged (")
    assert page.endswith("put a backup in place with `hubbub restore FILE`.")
    assert "file is not a database" in all_of_it


def test_a_database_of_a_newer_version(home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / "hubbub.db")) as db:
        db.execute("PRAGMA user_version = 99")

    assert "written by a newer Hubbub (schema 99" in one_complaint(home, "wrong", "database")


def test_a_copy_that_waits_to_be_restored(home: Path) -> None:
    shutil.copy(home / "hubbub.db", home / "hubbub.db.incoming")

    assert complaints(home) == []
    assert notes(home)[0].startswith("A restored copy of the data waits")


def test_an_installation_that_nobody_can_sign_in_to(home: Path) -> None:
    nobody = one_complaint(home, "wrong", "accounts", guests="off", registration="off")
    with contextlib.closing(sqlite3.connect(home / "hubbub.db")) as db, db:
        db.execute("INSERT INTO accounts VALUES ('alice', 'alice', '', 0, 0, 1, 1)")
        db.execute("INSERT INTO accounts VALUES ('bob', 'bob', '', 1, 1, 1, 1)")
    no_admin = one_complaint(home, "wrong", "accounts", guests="off")

    assert nobody == "Guests are off and nobody has an account: `hubbub user add NAME --admin` makes the first."
    assert no_admin.endswith("who could let others in: `hubbub user admin NAME` makes somebody one.")
    assert complaints(home, guests="on") == []


def test_a_store_that_forgets(home: Path) -> None:
    assert "everything is forgotten" in notes(home, store="memory")[0]


# The machine


def test_a_limit_of_open_files_below_a_thousand_connections(home: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        sentence = one_complaint(home, "wrong", "files")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert "may have 1,024 files open, too few for 1,000 connections" in sentence


def test_a_disk_that_is_nearly_full(home: Path) -> None:
    mounted = [
        "unshare",
        "-r",
        "-m",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=64m tmpfs "{home}" && chmod 700 "{home}" && "$@"',
    ]
    command = [sys.executable, "-m", "hubbub", "doctor", "--home", str(home), "--port", "0", "--tcp-port", "0"]
    if subprocess.run([*mounted, "sh", "true"], check=False, capture_output=True).returncode:
        missing("Mounting a small file system is not permitted")

    done = subprocess.run([*mounted, "sh", *command], cwd=ROOT, check=False, capture_output=True, text=True)

    assert f"wrong   There are only 64 MB (100%) left on the disk of {home}" in done.stdout


def test_a_page_that_was_not_built(home: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src" / "hubbub", tmp_path / "src" / "hubbub", ignore=shutil.ignore_patterns("web"))
    command = [sys.executable, "-m", "hubbub", "doctor", "--home", str(home), "--port", "0", "--tcp-port", "0"]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}

    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, env=environ)
    without = subprocess.run([*command, "--no-web"], cwd=tmp_path, check=False, capture_output=True, env=environ)

    assert (done.returncode, without.returncode) == (1, 0)
    assert done.stdout.startswith("wrong   The web page is not built")


def test_a_library_that_can_damage_a_database() -> None:
    old, new = ([one.level for one in machine.versions(version)] for version in ("3.51.2", "3.51.3"))

    assert (old, new) == ([Level.WRONG], [Level.FINE])


# The settings, and how it is said


def test_settings_that_do_nothing_and_settings_that_do_not_exist(home: Path) -> None:
    idle = doctor.examine(lambda: loaded(home, HUBBUB_OPENAI_STRICT_LOCK="1"), NO_DOTENV)
    unknown = doctor.examine(lambda: loaded(home, HUBBUB_PROT="1"), NO_DOTENV)

    assert [one.sentence for one in idle if one.level is not Level.FINE] == [
        "HUBBUB_OPENAI_STRICT_LOCK is set but has no effect yet: the OpenAI doors come later."
    ]
    assert "There is no setting HUBBUB_PROT (environment). Did you mean HUBBUB_PORT?" in unknown[0].sentence
    assert unknown[0].level is Level.WRONG


async def test_what_it_says_is_a_line_each_and_its_exit_code_is_whether_there_is_something_to_do(home: Path) -> None:
    ports = ("--port", "0", "--tcp-port", "0", "--home", home)
    well = await hubbub("doctor", *ports)
    _, verbose, _ = await hubbub("doctor", "--verbose", *ports)
    (home / "secret.key").chmod(0o644)
    code, said, err = await hubbub("doctor", *ports)
    json_code, as_json, _ = await hubbub("doctor", "--json", *ports)

    assert well[0] == 0
    assert well[1].startswith("All is well; ")
    assert verbose.count("\nfine    ") == verbose.count("\n") - 3
    lines = said.splitlines()
    assert (code, err, len(lines)) == (1, "", 3)
    assert lines[0].startswith("unsafe  Others on this machine can read the token key ")
    assert lines[1:] == ["", "One thing is to be done."]
    document = json.loads(as_json)
    assert json_code == 1
    assert document["ok"] is False
    assert document["findings"][0] == {"level": "unsafe", "about": "key", "sentence": lines[0][8:]}


async def test_a_redis_that_cannot_be_used_or_is_overheard(home: Path) -> None:
    async with redis_server(password="right") as redis:
        well = [one.sentence for one in examine(home, redis_url=redis.url) if one.about == "redis"]
        wrong = redis.url.replace("right", "wrong")
        refused = one_complaint(home, "wrong", "redis", redis_url=wrong)
    away = one_complaint(home, "wrong", "redis", redis_url=redis.url)
    far = complaints(home, redis_url="redis://:right@redis.invalid:6379/0")
    nobody = one_complaint(home, "wrong", "redis", worker=False)
    nonsense = one_complaint(home, "wrong", "redis", redis_url="http://:right@there")

    assert well == [f"Redis at 127.0.0.1:{redis.port} answers."]
    assert refused.endswith("it refuses the password.")
    assert away.endswith("it cannot be reached.")
    assert [(level, about) for level, about, _ in far] == [("unsafe", "redis"), ("wrong", "redis")]
    assert "HUBBUB_WORKER is off" in nobody
    assert "REDIS_URL is not an address" in nonsense
    assert not [said for said in (*well, refused, away, nonsense, *(s for _, _, s in far)) if "right" in said]
