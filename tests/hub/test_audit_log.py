"""The record of who came in and who changed whose rights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import structlog

from hubbub.process import audit_log


def test_each_event_is_a_line_for_its_owner_only(tmp_path: Path) -> None:
    audit = audit_log(tmp_path / "logs")

    audit("login", user="ann", address="192.0.2.1")
    audit("login_failed", user="b\nob\x1b[2J", address="")

    file = tmp_path / "logs" / "audit.log"
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first["event"], first["user"], first["address"]) == ("login", "ann", "192.0.2.1")
    assert first["time"].endswith("Z")
    assert (second["user"], "address" in second) == ("b\nob\x1b[2J", False)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_who_signs_in_is_not_kept_out_by_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    audit = audit_log(tmp_path)
    (tmp_path / "audit.log").symlink_to("/dev/full")

    with structlog.testing.capture_logs() as logged:
        audit("login", user="ann")

    assert [(line["event"], json.loads(line["said"])) for line in logged] == [
        ("audit_not_written", {"event": "login", "user": "ann"})
    ]


def test_nor_by_a_directory_nobody_can_write_in(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")

    with structlog.testing.capture_logs() as logged:
        audit_log(tmp_path / "logs")("login", user="ann")

    assert [line["event"] for line in logged] == ["audit_not_written"]
    assert os.listdir(tmp_path) == ["logs"]
