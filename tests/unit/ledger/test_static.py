# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from chopmark.adapters.blobs.logfiles import FolderLog
from chopmark.errors import DecodeError, VerificationError
from chopmark.ledger import Checkpoint, leaf_hash, verify_consistency, verify_inclusion
from chopmark.ledger.static import StaticLog, newest_note
from unit.ledger.kit import make_ledger

SIZE = 256 * 256 + 256 + 3


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    ledger = make_ledger(folder)
    ledger.append([b"%d" % n for n in range(SIZE)])
    ledger.export(folder / "files")
    return ledger, folder / "files"


def opened(exported) -> StaticLog:
    ledger, folder = exported
    return StaticLog(FolderLog(folder), ledger.checkpoint)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 256), (255, 257), (65_535, SIZE), (SIZE - 3, SIZE), (7, 7)])
def test_entries(exported, start, end):
    assert list(opened(exported).entries(start, end)) == [b"%d" % n for n in range(start, end)]


def test_proofs(exported):
    log = opened(exported)
    for index in (0, 255, 65_536, SIZE - 1):
        path = log.prove_inclusion(index)
        verify_inclusion(leaf_hash(b"%d" % index), index, SIZE, path, log.checkpoint.root)
    old = exported[0].prove_consistency(256, SIZE)
    assert log.prove_consistency(256) == old
    root = exported[0]._root_at(256)
    verify_consistency(256, root, SIZE, log.checkpoint.root, old)


def test_a_smaller_checkpoint_reads_the_same_files(exported):
    ledger, folder = exported
    smaller = Checkpoint(origin=ledger.origin, size=300, root=ledger._root_at(300))
    entries = list(StaticLog(FolderLog(folder), smaller).entries(0, 300))  # its partial tiles are gone; full ones serve
    assert entries == [b"%d" % n for n in range(300)]


@pytest.mark.parametrize(
    "name", ["tile/0/000", "tile/0/257.p/3", "tile/1/000", "tile/2/000.p/1", "tile/entries/257.p/3"]
)
def test_a_file_that_was_altered_or_removed(exported, name):
    path = exported[1] / name
    good = path.read_bytes()
    touched = 255 if name.startswith("tile/0") or "entries" in name else 3
    try:
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(VerificationError) as caught:
            list(opened(exported).entries(touched, SIZE))
        assert caught.value.code == "log-altered"
        path.unlink()
        with pytest.raises(VerificationError) as caught:
            list(opened(exported).entries(touched, SIZE))
        assert caught.value.code == "log-incomplete"
    finally:
        path.write_bytes(good)


def test_files_that_are_too_long_and_a_log_without_a_checkpoint(exported, tmp_path):
    with pytest.raises(VerificationError) as caught:
        newest_note(FolderLog(tmp_path))
    assert caught.value.code == "log-incomplete"
    (tmp_path / "checkpoint").write_bytes(bytes(2**20 + 1))
    with pytest.raises(DecodeError):
        newest_note(FolderLog(tmp_path))
    assert newest_note(FolderLog(exported[1])) == (exported[1] / "checkpoint").read_bytes()
