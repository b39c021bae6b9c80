# SPDX-License-Identifier: Apache-2.0
"""Flat SHA-256 of many small files, in processes.

Of a file of 10 KB most of the time goes into calls that take the interpreter's lock and give it back, so that two threads
are slower than one. A process is forked only where this one has no other thread (a fork would copy their locks as they
are), and it does nothing but open, read, hash, and write forty bytes a file into memory that is shared. It judges nothing:
a file that is not small, cannot be read or changes meanwhile is left out, and whoever called does it again with care, and
says what is wrong.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import signal
import stat
import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from chopmark.artifacts.walk import FILE_FLAGS, Folder, Tree
from chopmark.errors import ChopmarkError

FROM_FILES: Final = 1000
"""Fewer are hashed before a process is worth its making."""

SMALL_BYTES: Final = 256 * 1024
"""Files from this length on are not small, and hash as fast in threads."""

_MAX_PROCESSES: Final = 64
_MAX_JOBS: Final = 8000
"""Their numbers, four bytes each, wait in one pipe: it holds 64 KiB."""
_RECORD: Final = struct.Struct("<Q32s")
_TOKEN: Final = struct.Struct("<I")
_COUNT: Final = struct.Struct("<QQ")
_TICK_S: Final = 0.1


class Found(NamedTuple):
    """A small file's length and SHA-256."""

    length: int
    sha256: bytes


class _Part(NamedTuple):
    """Files of one folder; *start* is the number of the first among all."""

    folder: Folder
    names: Sequence[str]
    start: int


def may_fork() -> bool:
    """Tell whether this process has one thread and no more, those of libraries included."""
    try:
        with os.scandir("/proc/self/task") as threads:
            return sum(1 for _ in threads) == 1
    except OSError:
        return False


def hash_small(
    tree: Tree, folders: Sequence[Folder], *, processes: int, on_progress: Callable[[int, int], None] | None
) -> list[Found | None]:
    """Hash the small files of *folders*; return what was found in their order, None where somebody has to look again.

    Args:
        processes: how many, this one included.
        on_progress: called in this process about ten times a second, with bytes and files.
    """
    return _Run(tree, folders, min(processes, _MAX_PROCESSES)).run(on_progress)


class _Run:
    def __init__(self, tree: Tree, folders: Sequence[Folder], processes: int) -> None:
        self._tree = tree
        self._parts: list[_Part] = []
        self._starts: list[int] = []
        total = 0
        for folder in folders:
            self._parts.append(_Part(folder, folder.names, total))
            self._starts.append(total)
            total += len(folder.names)
        self._total = total
        self._step = max(64, -(-total // _MAX_JOBS))
        self._processes = processes
        self._counts = _COUNT.size * processes
        self._shared = mmap.mmap(-1, self._counts + _RECORD.size * total)
        self._buffer = bytearray(SMALL_BYTES)

    def run(self, on_progress: Callable[[int, int], None] | None) -> list[Found | None]:
        tokens, write = os.pipe()
        children: list[int] = []
        try:
            try:
                for number in range(-(-self._total // self._step)):
                    os.write(write, _TOKEN.pack(number))
                for index in range(1, self._processes):
                    children.append(self._fork(index, tokens, write))  # noqa: PERF401 - each is known at once
            finally:
                os.close(write)
            self._work(0, tokens, on_progress)
            while children:
                os.waitpid(children[-1], 0)
                children.pop()
        except ChildProcessError:
            pass  # whoever embeds us has them waited for elsewhere; what they did not do, is done again
        finally:
            os.close(tokens)
            for child in children:
                with suppress(OSError):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
        return self._found()

    def _fork(self, index: int, tokens: int, write: int) -> int:
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            try:
                os.close(write)
                self._work(index, tokens, None, parent=parent)
            finally:  # whatever happened: nothing of the parent's is run here
                os._exit(0)
        return child

    def _work(
        self, index: int, tokens: int, on_progress: Callable[[int, int], None] | None, *, parent: int | None = None
    ) -> None:
        said = time.monotonic()
        bytes_done = files_done = 0
        while token := os.read(tokens, _TOKEN.size):
            if parent is not None and os.getppid() != parent:
                return
            at = _TOKEN.unpack(token)[0] * self._step
            end = min(at + self._step, self._total)
            while at < end:
                part = self._parts[bisect_right(self._starts, at) - 1]
                first = at - part.start
                names = part.names[first : first + end - at]
                bytes_done += self._hash(part.folder, names, at)
                at += len(names)
                files_done += len(names)
            _COUNT.pack_into(self._shared, index * _COUNT.size, bytes_done, files_done)
            if on_progress is not None and time.monotonic() - said >= _TICK_S:
                said = time.monotonic()
                on_progress(*self._done())

    def _hash(self, folder: Folder, names: Sequence[str], at: int) -> int:
        """Hash *names* and return their bytes; the first is number *at*."""
        shared, buffers, view = self._shared, (self._buffer,), memoryview(self._buffer)
        total, where = 0, self._counts + at * _RECORD.size - _RECORD.size
        try:
            with self._tree.opened(folder) as within:
                for name in names:
                    where += _RECORD.size
                    try:
                        descriptor = os.open(name, FILE_FLAGS, dir_fd=within)
                    except OSError:
                        continue
                    try:
                        before = os.fstat(descriptor)
                        if before.st_size >= SMALL_BYTES or not stat.S_ISREG(before.st_mode):
                            continue
                        got = os.readv(descriptor, buffers)
                        after = os.fstat(descriptor)
                    except OSError:
                        continue
                    finally:
                        os.close(descriptor)
                    # One descriptor is one file: what can differ is its length and its times.
                    if (
                        got == before.st_size == after.st_size
                        and before.st_mtime_ns == after.st_mtime_ns
                        and before.st_ctime_ns == after.st_ctime_ns
                    ):
                        _RECORD.pack_into(shared, where, got + 1, hashlib.sha256(view[:got]).digest())
                        total += got
        except ChopmarkError:
            pass  # the folder was replaced: all of it is looked at again
        return total

    def _done(self) -> tuple[int, int]:
        counts = [_COUNT.unpack_from(self._shared, i * _COUNT.size) for i in range(self._processes)]
        return sum(count[0] for count in counts), sum(count[1] for count in counts)

    def _found(self) -> list[Found | None]:
        records = _RECORD.iter_unpack(memoryview(self._shared)[self._counts :])
        return [Found(length - 1, digest) if length else None for length, digest in records]
