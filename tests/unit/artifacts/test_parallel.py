# SPDX-License-Identifier: Apache-2.0
"""Whatever the number of threads, and wherever files are cut into parts: the same digests."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from chopmark.artifacts import digests, hash_bytes, hashing, manifest_of, scan, size_of
from chopmark.artifacts.hashing import CHUNK_BYTES
from chopmark.artifacts.large import PART_BYTES
from chopmark.artifacts.pool import Crew, read_ahead
from chopmark.errors import UsageError

WORKERS = (1, 2, 3, 8)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(
    "length", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 70_000]
)
def test_one_file(tmp_path, length, workers):
    data = os.urandom(length)
    (tmp_path / "a").write_bytes(data)
    expected = hash_bytes("a", data)
    assert manifest_of(tmp_path / "a", workers=workers).files == (expected,)
    (flat,) = digests(tmp_path / "a", workers=workers)
    assert (flat.name, flat.length, flat.sha256) == ("a", length, expected.sha256)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_file_that_is_read_ahead(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(hashing, "_AHEAD_FROM_BYTES", 2 * CHUNK_BYTES)
    data = os.urandom(5 * CHUNK_BYTES + 3)
    (tmp_path / "a").write_bytes(data)
    assert digests(tmp_path / "a", workers=workers)[0].sha256.value == hashlib.sha256(data).digest()


@pytest.mark.parametrize("workers", WORKERS)
def test_a_folder_of_many_sizes(tmp_path, workers):
    sizes = [0, 1, 10_000, CHUNK_BYTES, 2 * CHUNK_BYTES + 1, PART_BYTES + 1]
    content = {f"{n % 7}/{n:03}": os.urandom(sizes[n % len(sizes)] if n < 12 else n) for n in range(200)}
    for name, data in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    told = []
    manifest = scan(tmp_path, workers=workers, on_progress=lambda *done: told.append(done))
    assert manifest.files == tuple(hash_bytes(name, content[name]) for name in sorted(content))
    assert [(f.name, f.length, f.sha256) for f in digests(tmp_path, workers=workers)] == [
        (f.name, f.length, f.sha256) for f in manifest.files
    ]
    assert told[-1] == size_of(tmp_path) == (sum(map(len, content.values())), 200)
    assert told == sorted(told)


def test_names_are_sorted_by_their_bytes(tmp_path):
    for name in ("a/b", "a.b", "é", "z", "\U0001f600", "ﬁ"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [file.name for file in digests(tmp_path)]
    assert names == sorted(names, key=str.encode)


def test_the_first_error_stops_the_others():
    crew, done = Crew(2, jobs=100, buffer_bytes=1), []

    def work(_, job):
        if job == 3:
            raise UsageError("three")
        done.append(job)
        if job > 3:
            threading.Event().wait(0.01)

    with pytest.raises(UsageError, match="three"):
        crew.run(range(100), work)
    assert len(done) < 99


def test_an_interrupt_leaves_no_thread_behind(tmp_path):
    for number in range(50):
        (tmp_path / str(number)).write_bytes(bytes(CHUNK_BYTES))

    def interrupted(*_):
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path, workers=2, on_progress=interrupted)
    assert threading.active_count() == before


def test_whoever_stops_listening_stops_the_reader(tmp_path):
    (tmp_path / "a").write_bytes(bytes(10))
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    before = threading.active_count()
    chunks = read_ahead(descriptor, (bytearray(2), bytearray(2)))
    assert bytes(next(chunks)) == b"\0\0"
    chunks.close()
    assert threading.active_count() == before
    os.close(descriptor)


def test_a_reader_that_fails_says_so(tmp_path):
    descriptor = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="Bad file descriptor"):
        list(read_ahead(descriptor, (bytearray(2), bytearray(2))))
    os.close(descriptor)
