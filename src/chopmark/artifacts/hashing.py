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
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

from chopmark.artifacts.blocktree import LEAF_BLOCK_BYTES, block_hashes, fsverity_digest
from chopmark.artifacts.forked import FROM_FILES, hash_small, may_fork
from chopmark.artifacts.large import PART_BYTES, LargeFile
from chopmark.artifacts.leaves import has_leaves, write_leaves
from chopmark.artifacts.model import BLOCK_SIZES, Digest, FileEntry, Manifest
from chopmark.artifacts.pool import Crew, Stopped, Worker, read_ahead
from chopmark.artifacts.resume import HashState
from chopmark.artifacts.walk import Folder, Tree, changed, identity, listed, open_file, unreadable

CHUNK_BYTES: Final = 256 * 1024
"""What is read at once, and so the size of a worker's buffer."""

_AHEAD_BYTES: Final = 512 * 1024
"""What is read ahead at once, in turns with the worker's own buffer: less is slower, more takes memory."""

_AHEAD_FROM_BYTES: Final = 256 * CHUNK_BYTES
"""From this length on it pays to read in one thread and to hash in another."""

_BATCH_FILES: Final = 32
_BATCHES_PER_WORKER: Final = 16
"""Few files at once where there are few: the last batches keep all workers busy."""

Progress = Callable[[int, int], None]
"""Is told the bytes and the files that are done so far."""


class FlatDigest(NamedTuple):
    """A file's name, its length in bytes, and its SHA-256: what stock tools sign."""

    name: str
    length: int
    sha256: Digest


E = TypeVar("E", FlatDigest, FileEntry)


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
        return (_one(path, path.name, _Flat(), workers=workers, on_progress=on_progress),)
    with Tree(path, skip=skip) as tree:
        folders = listed(tree)
        processes = workers or len(os.sched_getaffinity(0))
        if processes == 1 or sum(len(folder.names) for folder in folders) < FROM_FILES or not may_fork():
            return tuple(_in_tree(tree, folders, _Flat(), workers=workers, on_progress=on_progress))
        return tuple(_in_processes(tree, folders, processes, on_progress=on_progress))


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
        made = _in_tree(tree, listed(tree), _Full(on_file=on_file), workers=workers, on_progress=on_progress)
    return Manifest(files=tuple(made))


def manifest_of(
    path: Path,
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
    state: HashState | None = None,
    leaves: Path | None = None,
) -> Manifest:
    """Return the manifest of the file *path*, or of all files below the folder *path*.

    Args:
        workers, on_progress: as for :func:`scan`.
        state: what need not be hashed again, and where to remember what was.
        leaves: a folder for the leaves of each file, ``<name>.leaves``.

    Raises:
        UsageError, VerificationError, DecodeError: as for :func:`scan`.
        UndecidedError: the leaves or the state cannot be written.
    """
    how = _Full(state=state, leaves=leaves)
    return Manifest(files=tuple(_hashed(path, how, workers=workers, on_progress=on_progress)))


def hash_bytes(name: str, data: bytes) -> FileEntry:
    """Return the manifest entry of *data* under *name*."""
    return _entry(name, memoryview(data))[0]


def hash_file(path: Path, *, name: str | None = None) -> FileEntry:
    """Return the manifest entry of a regular file.

    Raises:
        UsageError: missing, unreadable, a symbolic link or no regular file.
        VerificationError: ``file-changed``.
    """
    return _one(path, name or path.name, _Full(), workers=None, on_progress=None)


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


class _How(Protocol[E]):
    """What is made of a file, and what is done with it once it is sure that it did not change meanwhile."""

    buffer_bytes: int

    def hash(self, worker: Worker, file: _Opened) -> E: ...

    def done(self, entry: E, file: _Opened) -> None: ...


def _hashed(path: Path, how: _How[E], *, workers: int | None, on_progress: Progress | None) -> list[E]:
    if path.is_symlink() or not path.is_dir():
        return [_one(path, path.name, how, workers=workers, on_progress=on_progress)]
    with Tree(path) as tree:
        return _in_tree(tree, listed(tree), how, workers=workers, on_progress=on_progress)


def _in_processes(
    tree: Tree, folders: Sequence[Folder], processes: int, *, on_progress: Progress | None
) -> list[FlatDigest]:
    """Hash the small files in processes, and what they left out in threads."""
    found = hash_small(tree, folders, processes=processes, on_progress=on_progress)
    made: list[FlatDigest] = []
    left: list[Folder] = []
    at = 0
    for folder in folders:
        here = found[at : at + len(folder.names)]
        at += len(folder.names)
        prefix = folder.prefix
        made += [
            FlatDigest(prefix + n, f.length, Digest(f.sha256)) for n, f in zip(folder.names, here, strict=True) if f
        ]
        if again := [name for name, f in zip(folder.names, here, strict=True) if f is None]:
            left.append(replace(folder, names=again))
    if left:
        done_bytes, done_files = sum(entry.length for entry in made), len(made)
        more = on_progress and (lambda got, files: on_progress(done_bytes + got, done_files + files))
        made += _in_tree(tree, left, _Flat(), workers=processes, on_progress=more)
    elif on_progress is not None:
        on_progress(sum(entry.length for entry in made), len(made))
    made.sort(key=attrgetter("name"))
    return made


def _one(path: Path, name: str, how: _How[E], *, workers: int | None, on_progress: Progress | None) -> E:
    made: list[E] = []
    crew = Crew(workers, jobs=1, buffer_bytes=how.buffer_bytes)
    descriptor, before = open_file(path)

    def work(worker: Worker, file: _Opened) -> None:
        made.append(_checked(worker, file, how))

    try:
        crew.run([_Opened(name, path, "", descriptor, before)], work, on_progress=on_progress)
    finally:
        os.close(descriptor)
    return made[0]


def _in_tree(
    tree: Tree, folders: Sequence[Folder], how: _How[E], *, workers: int | None, on_progress: Progress | None
) -> list[E]:
    made: list[E] = []
    crew = Crew(workers, jobs=sum(len(folder.names) for folder in folders), buffer_bytes=how.buffer_bytes)
    path = tree.path

    def work(worker: Worker, batch: tuple[Folder, Sequence[str]]) -> None:
        folder, names = batch
        where = path / folder.prefix
        with tree.opened(folder) as within:
            for name in names:
                if crew.stopped:
                    raise Stopped
                full = folder.prefix + name
                descriptor, before = open_file(name, within=within, folder=where)
                try:
                    made.append(_checked(worker, _Opened(full, path, full, descriptor, before), how))
                finally:
                    os.close(descriptor)

    crew.run(_batches(folders, len(crew.workers)), work, on_progress=on_progress)
    made.sort(key=attrgetter("name"))  # the order of code points is that of UTF-8 bytes
    return made


def _checked(worker: Worker, file: _Opened, how: _How[E]) -> E:
    try:
        entry = how.hash(worker, file)
        after = os.fstat(file.descriptor)
    except OSError as error:
        raise unreadable(file.path, error) from error
    if entry.length != after.st_size or identity(file.before) != identity(after):
        raise changed(file.path)
    how.done(entry, file)
    worker.done_files += 1
    return entry


def _batches(folders: Sequence[Folder], workers: int) -> Iterator[tuple[Folder, Sequence[str]]]:
    files = sum(len(folder.names) for folder in folders)
    size = max(1, min(_BATCH_FILES, files // (workers * _BATCHES_PER_WORKER)))
    for folder in folders:
        for at in range(0, len(folder.names), size):
            yield folder, folder.names[at : at + size]


class _Flat:
    """SHA-256 only."""

    buffer_bytes = CHUNK_BYTES

    def hash(self, worker: Worker, file: _Opened) -> FlatDigest:
        got = os.readv(file.descriptor, (worker.buffer,))
        worker.done_bytes += got
        if got < CHUNK_BYTES and got == file.before.st_size:
            return FlatDigest(file.name, got, Digest(hashlib.sha256(worker.view[:got]).digest()))
        hasher, total = hashlib.sha256(worker.view[:got]), got
        for chunk in _chunks(worker, file):
            hasher.update(chunk)
            total += len(chunk)
        return FlatDigest(file.name, total, Digest(hasher.digest()))

    def done(self, entry: FlatDigest, file: _Opened) -> None:
        """Nothing is remembered."""


class _Full:
    """SHA-256 and the block trees; leaves, state and callback where there are any."""

    buffer_bytes = PART_BYTES

    def __init__(
        self,
        *,
        state: HashState | None = None,
        leaves: Path | None = None,
        on_file: Callable[[FileEntry], None] | None = None,
    ) -> None:
        self._state = state
        self._leaves = leaves
        self._on_file = on_file

    def hash(self, worker: Worker, file: _Opened) -> FileEntry:
        known = self._state.known(file.name, file.before) if self._state else None
        if self._state and known and (self._leaves is None or has_leaves(self._leaves, known)):
            self._state.take()
            worker.done_bytes += known.length
            return known
        if file.before.st_size < PART_BYTES:
            got = os.readv(file.descriptor, (worker.buffer,))
            entry, leaves = _entry(file.name, worker.view[:got])
            worker.done_bytes += got
        else:
            entry, leaves = LargeFile(file.descriptor, helpers=worker.crew.spare, on_part=partial(_count, worker)).hash(
                file.name
            )
        if self._leaves is not None:
            write_leaves(self._leaves, file.name, leaves)
        return entry

    def done(self, entry: FileEntry, file: _Opened) -> None:
        if self._state:
            self._state.keep(entry, file.before)
        if self._on_file is not None:
            self._on_file(entry)


def _count(worker: Worker, got: int) -> None:
    worker.done_bytes += got
    if worker.crew.stopped:
        raise Stopped


def _chunks(worker: Worker, file: _Opened) -> Iterator[memoryview]:
    """Yield the rest of a file; each chunk is overwritten by the next."""
    ahead = file.before.st_size >= _AHEAD_FROM_BYTES and worker.crew.spare
    two = (worker.buffer, bytearray(_AHEAD_BYTES if ahead else 0))
    for chunk in read_ahead(file.descriptor, two) if ahead else _read(worker, file.descriptor):
        yield chunk
        _count(worker, len(chunk))


def _read(worker: Worker, descriptor: int) -> Iterator[memoryview]:
    while got := os.readv(descriptor, (worker.buffer,)):
        yield worker.view[:got]


def _entry(name: str, data: memoryview) -> tuple[FileEntry, bytes]:
    """Return the entry of *data*, and its leaves of 64 KiB."""
    hashes = {size: block_hashes(data, size) for size in BLOCK_SIZES}
    entry = FileEntry(
        name=name,
        length=len(data),
        sha256=Digest(hashlib.sha256(data).digest()),
        fsverity={size: fsverity_digest(leaves, len(data), size) for size, leaves in hashes.items()},
    )
    return entry, hashes[LEAF_BLOCK_BYTES]
