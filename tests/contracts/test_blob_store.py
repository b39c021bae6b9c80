# SPDX-License-Identifier: Apache-2.0
"""The port BlobStore: bytes by their digest, durable once put returns."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from chopmark.adapters.blobs.folder import FolderBlobs
from chopmark.artifacts import Digest
from chopmark.errors import ChopmarkError, UndecidedError, VerificationError
from simulators.crash import at_once, killed_everywhere


@pytest.fixture
def store(tmp_path):
    return FolderBlobs(tmp_path / "blobs")


def stored(tmp_path, digest):
    return tmp_path / "blobs" / digest.hex[:2] / digest.hex[2:]


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 100_000], ids=["empty", "one", "many"])
def test_what_was_put_is_got(store, data):
    digest = store.put(data)
    assert digest == Digest.of(data)
    assert store.put(data) == digest
    assert store.get(digest) == data


def test_what_was_not_put_is_missing(store):
    with pytest.raises(UndecidedError) as missing:
        store.get(Digest.of(b"never put"))
    assert missing.value.code == "missing"
    assert missing.value.hint


def test_bytes_that_were_altered_are_not_returned(store, tmp_path):
    digest = store.put(b"weights")
    for other in (b"weightz", b"", b"weights and more"):
        stored(tmp_path, digest).write_bytes(other)
        with pytest.raises(VerificationError) as altered:
            store.get(digest)
        assert altered.value.code == "blob-altered"


def test_a_link_is_not_followed(store, tmp_path):
    digest = store.put(b"weights")
    path = stored(tmp_path, digest)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ChopmarkError):
        store.get(digest)


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    (tmp_path / "blobs").write_bytes(b"")
    with pytest.raises(UndecidedError) as undecided:
        FolderBlobs(tmp_path / "blobs").put(b"x")
    assert undecided.value.code == "not-written"


def test_many_writers_of_one_blob_agree(store):
    data = os.urandom(200_000)
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: store.put(data), range(16)))
    assert digests == {Digest.of(data)}
    assert all(at_once([lambda: store.get(store.put(data)) == data] * 3))


def test_a_put_that_is_killed_leaves_the_blob_whole_or_missing(store, tmp_path):
    data = os.urandom(50_000)
    digest = Digest.of(data)
    for _ in killed_everywhere(lambda: store.put(data)):
        if stored(tmp_path, digest).exists():
            assert store.get(digest) == data
        else:
            with pytest.raises(UndecidedError):
                store.get(digest)
        stored(tmp_path, digest).unlink(missing_ok=True)
    assert store.get(digest) == data
