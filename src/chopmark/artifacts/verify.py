# SPDX-License-Identifier: Apache-2.0
"""Check a whole file by its block tree: every block on whichever core is free, with no digest that has to wait for another."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Final

from chopmark.artifacts.blocktree import LEAF_BLOCK_BYTES, block_hashes, fsverity_digest
from chopmark.artifacts.model import FileEntry
from chopmark.artifacts.pool import Crew, Worker
from chopmark.artifacts.walk import changed, identity, open_file, unreadable
from chopmark.errors import VerificationError

_PART_BYTES: Final = 16 * LEAF_BLOCK_BYTES
"""What one job reads and hashes: it stays in the cache of the core that does."""


def verify_tree(path: Path, entry: FileEntry, *, workers: int | None = None) -> None:
    """Check that *path* is the file that *entry* describes, by its fs-verity digest for blocks of 64 KiB.

    That digest names the length and binds every byte as SHA-256 of the whole does, and is taken on all cores. It says what
    the file was while it was read: whoever can write it may change it afterwards.

    Args:
        workers: threads; None for one on each core.

    Raises:
        UsageError: missing, unreadable, a link, or no regular file.
        VerificationError: ``file-altered``; ``file-changed`` while it was read.
    """
    descriptor, before = open_file(path)
    try:
        if before.st_size != entry.length:
            raise _altered(path, entry, f"has {before.st_size:,} bytes and not {entry.length:,}")
        leaves = _leaves(descriptor, entry.length, workers)
        if identity(before) != identity(os.fstat(descriptor)):
            raise changed(path)
    except OSError as error:
        raise unreadable(path, error) from error
    finally:
        os.close(descriptor)
    found = fsverity_digest(leaves, entry.length, LEAF_BLOCK_BYTES)
    if not hmac.compare_digest(found.value, entry.fsverity[LEAF_BLOCK_BYTES].value):
        raise _altered(path, entry, "differs from the manifest")


def _leaves(descriptor: int, length: int, workers: int | None) -> bytes:
    starts = range(0, length, _PART_BYTES)
    parts: dict[int, bytes] = {}

    def work(worker: Worker, at: int) -> None:
        wanted = min(_PART_BYTES, length - at)
        got = 0
        while got < wanted and (more := os.preadv(descriptor, (worker.view[got:wanted],), at + got)):
            got += more
        parts[at] = block_hashes(worker.view[:got], LEAF_BLOCK_BYTES)

    Crew(workers, jobs=len(starts), buffer_bytes=_PART_BYTES).run(starts, work)
    return b"".join(parts[at] for at in starts)


def _altered(path: Path, entry: FileEntry, why: str) -> VerificationError:
    return VerificationError(
        f"{path}: {why}",
        code="file-altered",
        hint="get the file anew",
        evidence={"file": entry.name, "wanted": str(entry.fsverity[LEAF_BLOCK_BYTES])},
    )
