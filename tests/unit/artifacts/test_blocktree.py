# SPDX-License-Identifier: Apache-2.0
"""Leaves and single blocks: what is given out was checked, and only what was touched is read."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from chopmark.artifacts import (
    BLOCK_SIZES,
    LEAF_BLOCK_BYTES,
    check_leaves,
    hash_file,
    manifest_of,
    read_leaves,
    verify_blocks,
)
from chopmark.errors import UsageError, VerificationError

LENGTHS = [0, 1, LEAF_BLOCK_BYTES, LEAF_BLOCK_BYTES * 5 + 17, LEAF_BLOCK_BYTES * 2048 + 1]


@contextmanager
def file_of(folder, length):
    """A file, its descriptor, its entry and its leaves."""
    path = folder / "model.bin"
    path.write_bytes(os.urandom(min(length, 6 * LEAF_BLOCK_BYTES)) + bytes(max(0, length - 6 * LEAF_BLOCK_BYTES)))
    entry = manifest_of(path, leaves=folder / "leaves").files[0]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield path, descriptor, entry, read_leaves(folder / "leaves", entry)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("length", LENGTHS)
def test_leaves_lead_to_the_digest_and_blocks_to_the_file(tmp_path, length):
    with file_of(tmp_path, length) as (path, descriptor, entry, leaves):
        assert len(leaves) == -(-length // LEAF_BLOCK_BYTES) * 32
        assert entry == hash_file(path)
        pieces = list(verify_blocks(descriptor, entry, leaves, [range(length)]))
        assert b"".join(piece for _, piece in pieces) == path.read_bytes()
        assert all(len(piece) <= LEAF_BLOCK_BYTES for _, piece in pieces)


@pytest.mark.parametrize(
    "wanted", [range(0), range(5, 9), range(65530, 65541), range(65536, 131072), range(200_000, 327_697)]
)
def test_a_part_is_the_part(tmp_path, wanted):
    with file_of(tmp_path, LENGTHS[3]) as (path, descriptor, entry, leaves):
        pieces = list(verify_blocks(descriptor, entry, leaves, [wanted]))
        assert b"".join(piece for _, piece in pieces) == path.read_bytes()[wanted.start : wanted.stop]
        assert [at for at, _ in pieces] == [
            max(wanted.start, at) for at in range(wanted.start // 65536 * 65536, wanted.stop, 65536) if wanted
        ]


def test_only_what_is_touched_is_read(tmp_path, monkeypatch):
    with file_of(tmp_path, LENGTHS[3]) as (_, descriptor, entry, leaves):
        read = []
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, count, at: read.append(at) or real(fd, count, at))
        list(verify_blocks(descriptor, entry, leaves, [range(70_000, 70_001), range(65536 * 4, 65536 * 4 + 1)]))
        assert read == [65536, 65536 * 4]


@pytest.mark.parametrize("wanted", [range(-1, 2), range(LENGTHS[3] + 1), range(5, 2), range(0, 10, 2)])
def test_what_is_not_in_the_file(tmp_path, wanted):
    with file_of(tmp_path, LENGTHS[3]) as (_, descriptor, entry, leaves), pytest.raises(UsageError):
        list(verify_blocks(descriptor, entry, leaves, [wanted]))


def test_a_disk_that_fails(tmp_path):
    with file_of(tmp_path, 10) as (path, _, entry, leaves):
        writer = os.open(path, os.O_WRONLY)
        with pytest.raises(UsageError, match="cannot be read"):
            list(verify_blocks(writer, entry, leaves, [range(1)]))
        os.close(writer)


def test_leaves_of_another_file(tmp_path):
    with file_of(tmp_path, 10) as (_, _, entry, leaves):
        for other in (b"", leaves + leaves, bytes(32), leaves[:-1]):
            with pytest.raises(VerificationError) as caught:
                check_leaves(entry, other)
            assert caught.value.code == "leaves-altered"


@pytest.mark.skipif(shutil.which("fsverity") is None, reason="there is no fsverity program here to compare with")
@pytest.mark.parametrize("length", [0, 1, 4096, 4097, 65537, 4096 * 128 + 1, 4_194_304, 9_000_001])
def test_what_the_fsverity_program_prints(tmp_path, length):
    path = tmp_path / "a"
    path.write_bytes(os.urandom(length))
    entry = hash_file(path)
    for block in BLOCK_SIZES:
        printed = subprocess.run(
            ["fsverity", "digest", f"--block-size={block}", "--compact", path],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert printed.strip() == entry.fsverity[block].hex
