# SPDX-License-Identifier: Apache-2.0
"""Hash one large file on all cores, reading it once.

The SHA-256 of the whole is sequential: one thread takes the chunks in order. The leaves of the block trees are not: the
other threads take them, chunk by chunk, and so does the first whenever it is ahead. All digests are of the same bytes,
whatever is done to the file meanwhile. Of the 4 KiB tree only the second level is kept, so that a file of 100 GB needs
6 MB for it, and 50 MB for the leaves of 64 KiB.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from chopmark.artifacts.blocktree import block_hashes, fsverity_digest
from chopmark.artifacts.model import BLOCK_SIZES, Digest, FileEntry

PART_BYTES: Final = 4 * 1024 * 1024
"""What one job hashes: a multiple of the 512 KiB that a block of 4 KiB full of hashes stands for."""

_Job = tuple[int, bytearray, int]
SMALL, LARGE = BLOCK_SIZES


class LargeFile:
    """One file of more than 4 KiB, while it is hashed: shorter ones have no second level."""

    def __init__(self, descriptor: int, *, helpers: int, on_part: Callable[[int], None]) -> None:
        """Prepare.

        Args:
            helpers: further threads; 0 where other files keep the cores busy.
            on_part: called with the bytes of each part that was read; raises to stop.
        """
        self._descriptor = descriptor
        self._on_part = on_part
        self._helpers = helpers
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._error: Exception | None = None
        self._hashes: dict[int, tuple[bytes, bytes]] = {}
        for _ in range(2 * helpers + 1):
            self._free.put(bytearray(PART_BYTES))

    def hash(self, name: str) -> tuple[FileEntry, bytes]:
        """Return the entry of the file under *name*, and its leaves of 64 KiB.

        Raises:
            OSError: it cannot be read.
        """
        threads = [threading.Thread(target=self._help, daemon=True) for _ in range(self._helpers)]
        for thread in threads:
            thread.start()
        try:
            length, flat = self._read()
            while (job := self._next_job()) is not None:
                self._hash_part(job)
        finally:
            for _ in threads:
                self._jobs.put(None)
            for thread in threads:
                thread.join()
        self._check()
        parts = [self._hashes[at] for at in sorted(self._hashes)]
        second, leaves = b"".join(part[0] for part in parts), b"".join(part[1] for part in parts)
        fsverity = {SMALL: fsverity_digest(second, length, SMALL), LARGE: fsverity_digest(leaves, length, LARGE)}
        return FileEntry(name=name, length=length, sha256=flat, fsverity=fsverity), leaves

    def _read(self) -> tuple[int, Digest]:
        flat, at = hashlib.sha256(), 0
        while True:
            buffer = self._buffer()
            got = self._fill(buffer, at)
            if not got:
                return at, Digest(flat.digest())
            self._jobs.put((at, buffer, got))
            # Only this thread gives buffers out again: this one stays as it is until its bytes are in the digest.
            flat.update(memoryview(buffer)[:got])
            at += got
            self._on_part(got)

    def _fill(self, buffer: bytearray, at: int) -> int:
        """Read the whole of *buffer*, or what is left: parts begin where blocks do."""
        view, got = memoryview(buffer), 0
        while got < PART_BYTES and (more := os.preadv(self._descriptor, (view[got:],), at + got)):
            got += more
        return got

    def _buffer(self) -> bytearray:
        """Return a buffer that nobody needs; hash a part oneself rather than wait for one."""
        while self._free.empty() and (job := self._next_job()) is not None:
            self._hash_part(job)
        buffer = self._free.get()
        self._check()
        return buffer

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _next_job(self) -> _Job | None:
        with suppress(Empty):
            return self._jobs.get_nowait()
        return None

    def _hash_part(self, job: _Job) -> None:
        at, buffer, got = job
        part = memoryview(buffer)[:got]
        second = block_hashes(memoryview(block_hashes(part, SMALL)), SMALL)
        self._hashes[at] = second, block_hashes(part, LARGE)
        self._free.put(buffer)

    def _help(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._hash_part(job)
        except Exception as error:  # noqa: BLE001 - it is raised where the file is read
            self._error = error
            self._free.put(bytearray())  # wakes it
