"""The key that signs tokens: made once, for its owner only, whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NoReturn

import pytest

from hubbub.hub import auth
from hubbub.hub.auth import load_key


def test_it_is_made_at_the_first_start_and_found_at_the_next(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    first = load_key(path)

    assert len(first) == 32
    assert load_key(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret.key"]


def test_on_a_full_disk_nothing_is_left_that_a_later_start_would_trip_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "secret.key"
    with monkeypatch.context() as disk:
        disk.setattr(auth.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            load_key(path)

    assert list(tmp_path.iterdir()) == []
    assert len(load_key(path)) == 32


def test_of_two_that_start_at_once_both_use_the_same_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.key"
    fsync = auth.os.fsync

    def overtaken(file: int) -> None:
        fsync(file)
        monkeypatch.undo()
        load_key(path)

    monkeypatch.setattr(auth.os, "fsync", overtaken)
    mine = load_key(path)

    assert mine == load_key(path)
