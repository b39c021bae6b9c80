# SPDX-License-Identifier: Apache-2.0
"""Whole files: never half of one, never a link, never more than allowed."""

from __future__ import annotations

import os
import stat

import pytest

from chopmark.artifacts import read_file, sync_folder, write_file
from chopmark.errors import DecodeError, UndecidedError, UsageError
from simulators.crash import killed_everywhere


def test_what_is_written_is_read_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "folder" / "state.json"
    for data in (b"one", b"", b"two" * 1000):
        write_file(path, data)
        assert read_file(path, max_bytes=len(data)) == data
    assert list(path.parent.iterdir()) == [path]
    sync_folder(tmp_path)


def test_the_mode_is_set_before_a_byte_is_written(tmp_path):
    write_file(tmp_path / "key", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_longer_than_allowed(tmp_path):
    write_file(tmp_path / "a", b"12345")
    with pytest.raises(DecodeError):
        read_file(tmp_path / "a", max_bytes=4)


@pytest.mark.parametrize("name", ["missing", "folder", "link", "file/below"])
def test_what_is_not_a_regular_file(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(UsageError):
        read_file(tmp_path / name, max_bytes=10)


def test_a_link_is_replaced_and_its_target_is_left_alone(tmp_path):
    (tmp_path / "target").write_bytes(b"keep")
    (tmp_path / "link").symlink_to("target")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"keep"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch, call):
    write_file(tmp_path / "a", b"old")

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UndecidedError) as undecided:
        write_file(tmp_path / "a", b"new")
    assert undecided.value.code == "not-written"
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UndecidedError):
        write_file(tmp_path / "file" / "below", b"x")


def test_killed_anywhere_the_old_or_the_new_file_stands(tmp_path):
    path = tmp_path / "state.json"
    old, new = b"old" * 50_000, b"new" * 50_000
    write_file(path, old)
    for _ in killed_everywhere(lambda: write_file(path, new)):
        assert path.read_bytes() in (old, new)
    assert path.read_bytes() == new
