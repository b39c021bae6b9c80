# SPDX-License-Identifier: Apache-2.0
"""Hash files: the flat SHA-256 alone (:func:`digests`), or with the fs-verity digests in the same pass (:func:`scan`).

Every file is read once, with ``read`` and never through a mapping: a file that is cut short while it is mapped ends the
process. Workers take files from one list, so that all cores stay busy; each has one buffer, so that memory stays flat.
A file that changes while it is read (its size, its times) is an error: ``file-changed``. One that is replaced changes too:
the old one loses its name, which its ctime tells.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from chopmark.artifacts.blocktree import BlockTree
from chopmark.artifacts.model import BLOCK_SIZES, Digest, FileEntry, Manifest
from chopmark.artifacts.pool import Crew, Stopped, Worker, read_ahead
from chopmark.artifacts.walk import Folder, Tree, changed, listed, open_file, unreadable

CHUNK_BYTES: Final = 128 * 1024
"""What is read at once, and so the size of a worker's buffer."""

_AHEAD_FROM_BYTES: Final = 64 * CHUNK_BYTES
"""From this length on it pays to read in one thread and to hash in another."""

_BATCH_FILES: Final = 32
_BATCHES_PER_WORKER: Final = 16
"""Few files at once where there are few: the last batches keep all workers busy."""

Progress = Callable[[int, int], None]
"""Is told the bytes and the files that are done so far."""


@dataclass(frozen=True, slots=True)
class FlatDigest:
    """A file's name, its length in bytes, and its SHA-256: what stock tools sign."""

    name: str
    length: int
    sha256: Digest


E = TypeVar("E", FlatDigest, FileEntry)

_Hash = Callable[[Worker, str, int, int], E]
"""Hashes the file of a descriptor, which had a length when it was opened, under a name."""


def digests(
    path: Path, *, skip: Collection[str] = (), workers: int | None = None, on_progress: Progress | None = None
) -> tuple[FlatDigest, ...]:
    """Return name, length and SHA-256 of the file *path*, or of every file below the folder *path*, sorted by name.

    Args:
        skip: names in the folder, relative, that are not looked at, nor anything below them.
        workers: threads; None for one on each core.
        on_progress: called in this thread about ten times a second.

    Raises:
        UsageError: missing, unreadable, a link or special file, no file at all, or more than an artifact can have.
        VerificationError: ``file-changed``, ``name-collision``.
        DecodeError: a name that an artifact cannot have.
    """
    if path.is_symlink() or not path.is_dir():
        return (_one(path, path.name, _flat, workers=workers, on_progress=on_progress),)
    with Tree(path, skip=skip) as tree:
        return tuple(_in_tree(tree, _flat, workers, on_progress, None))


def scan(
    folder: Path,
    *,
    workers: int | None = None,
    on_file: Callable[[FileEntry], None] | None = None,
    on_progress: Progress | None = None,
) -> Manifest:
    """Return the manifest of all files below *folder*.

    Args:
        workers: threads; None for one on each core.
        on_file: called for each file, in no order and from other threads than this.
        on_progress: called in this thread about ten times a second.

    Raises:
        UsageError: no such folder, a link or special file in it, no file at all, or more than an artifact can have.
        VerificationError: ``file-changed``, ``name-collision``.
        DecodeError: a name that an artifact cannot have.
    """
    with Tree(folder) as tree:
        return Manifest(files=tuple(_in_tree(tree, _full, workers, on_progress, on_file)))


def hash_bytes(name: str, data: bytes) -> FileEntry:
    """Return the manifest entry of *data* under *name*."""
    return _entry(name, iter([memoryview(data)]))


def hash_file(path: Path, *, name: str | None = None) -> FileEntry:
    """Return the manifest entry of a regular file.

    Raises:
        UsageError: missing, unreadable, a symbolic link or no regular file.
        VerificationError: ``file-changed``.
    """
    return _one(path, name or path.name, _full, workers=None, on_progress=None)


def _one(path: Path, name: str, how: _Hash[E], *, workers: int | None, on_progress: Progress | None) -> E:
    made: list[E] = []
    crew = Crew(workers, buffer_bytes=CHUNK_BYTES, jobs=1)
    descriptor, before = open_file(path)

    def work(worker: Worker, _: str) -> None:
        made.append(_checked(worker, _Opened(name, path, "", descriptor, before), how))

    try:
        crew.run([name], work, on_progress=on_progress)
    finally:
        os.close(descriptor)
    return made[0]


class _Opened(NamedTuple):
    """A file that is being read: its *place* below *base* on this disk, its *name* in the artifact."""

    name: str
    base: Path
    place: str
    descriptor: int
    before: os.stat_result

    @property
    def path(self) -> Path:
        return self.base / self.place


def _checked(worker: Worker, file: _Opened, how: _Hash[E]) -> E:
    try:
        entry = how(worker, file.name, file.descriptor, file.before.st_size)
        after = os.fstat(file.descriptor)
    except OSError as error:
        raise unreadable(file.path, error) from error
    if entry.length != after.st_size or identity(file.before) != identity(after):
        raise changed(file.path)
    worker.done_files += 1
    return entry


def _in_tree(
    tree: Tree,
    how: _Hash[E],
    workers: int | None,
    on_progress: Progress | None,
    on_file: Callable[[E], None] | None,
) -> list[E]:
    folders = listed(tree)
    made: list[E] = []
    crew = Crew(workers, buffer_bytes=CHUNK_BYTES, jobs=sum(len(folder.names) for folder in folders))

    def work(worker: Worker, batch: tuple[Folder, Sequence[str]]) -> None:
        folder, names = batch
        path = tree.path
        where = path / folder.prefix
        with tree.opened(folder) as within:
            for name in names:
                if crew.stopped:
                    raise Stopped
                descriptor, before = open_file(name, within=within, folder=where)
                full = folder.prefix + name
                try:
                    entry = _checked(worker, _Opened(full, path, full, descriptor, before), how)
                finally:
                    os.close(descriptor)
                made.append(entry)
                if on_file is not None:
                    on_file(entry)

    crew.run(_batches(folders, len(crew.workers)), work, on_progress=on_progress)
    made.sort(key=attrgetter("name"))  # the order of code points is that of UTF-8 bytes
    return made


def identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return what changes when a file does: device and number, length, the times of its content and of its metadata."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _batches(folders: Sequence[Folder], workers: int) -> Iterator[tuple[Folder, Sequence[str]]]:
    files = sum(len(folder.names) for folder in folders)
    size = max(1, min(_BATCH_FILES, files // (workers * _BATCHES_PER_WORKER)))
    for folder in folders:
        for at in range(0, len(folder.names), size):
            yield folder, folder.names[at : at + size]


def _flat(worker: Worker, name: str, descriptor: int, length: int) -> FlatDigest:
    got = os.readv(descriptor, (worker.buffer,))
    if got < CHUNK_BYTES and got == length:
        worker.done_bytes += got
        return FlatDigest(name, got, Digest(hashlib.sha256(worker.view[:got]).digest()))
    hasher = hashlib.sha256(worker.view[:got])
    total = got
    for chunk in _chunks(worker, descriptor, length):
        hasher.update(chunk)
        total += len(chunk)
    return FlatDigest(name, total, Digest(hasher.digest()))


def _full(worker: Worker, name: str, descriptor: int, length: int) -> FileEntry:
    return _entry(name, _chunks(worker, descriptor, length))


def _chunks(worker: Worker, descriptor: int, length: int) -> Iterator[memoryview]:
    """Yield the rest of a file; each chunk is overwritten by the next."""
    crew = worker.crew
    ahead = length >= _AHEAD_FROM_BYTES and crew.spare
    chunks = read_ahead(descriptor, CHUNK_BYTES) if ahead else _read(worker, descriptor)
    for chunk in chunks:
        if crew.stopped:
            raise Stopped
        yield chunk
        worker.done_bytes += len(chunk)


def _read(worker: Worker, descriptor: int) -> Iterator[memoryview]:
    while got := os.readv(descriptor, (worker.buffer,)):
        yield worker.view[:got]


def _entry(name: str, chunks: Iterator[memoryview]) -> FileEntry:
    flat = hashlib.sha256()
    trees = {size: BlockTree(size) for size in BLOCK_SIZES}
    length = 0
    for chunk in chunks:
        length += len(chunk)
        flat.update(chunk)
        for tree in trees.values():
            tree.update(chunk)
    return FileEntry(
        name=name,
        length=length,
        sha256=Digest(flat.digest()),
        fsverity={size: tree.digest() for size, tree in trees.items()},
    )
