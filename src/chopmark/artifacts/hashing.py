# SPDX-License-Identifier: Apache-2.0
"""Hash files once: the flat SHA-256 and the fs-verity digests in one pass.

fs-verity: leaves are SHA-256 of zero-padded blocks; each level packs hashes into zero-padded blocks; the digest is
SHA-256 of a 256-byte descriptor that names size, block size and root (Linux, Documentation/filesystems/fsverity.rst).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from chopmark.artifacts.model import BLOCK_SIZES, DIGEST_BYTES, Digest, FileEntry, Manifest, check_file_name
from chopmark.errors import UsageError, VerificationError

CHUNK_BYTES = 1024 * 1024
NOT_REGULAR: Final = "not-regular"
"""The code of the error about a link or a special file inside a folder."""


class BlockTree:
    """The fs-verity digest of a stream, for one block size."""

    def __init__(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self._length = 0
        self._rest = b""
        self._leaves = bytearray()

    def update(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._length += len(data)
        data = self._rest + data
        size = self.block_bytes
        whole = len(data) - len(data) % size
        for at in range(0, whole, size):
            self._leaves += hashlib.sha256(data[at : at + size]).digest()
        self._rest = data[whole:]

    def digest(self) -> Digest:
        """Return what ``fsverity digest --block-size`` prints for the bytes so far."""
        size = self.block_bytes
        level = bytes(self._leaves)
        if self._rest:
            level += hashlib.sha256(self._rest.ljust(size, b"\0")).digest()
        while len(level) > DIGEST_BYTES:
            level = b"".join(
                hashlib.sha256(level[at : at + size].ljust(size, b"\0")).digest() for at in range(0, len(level), size)
            )
        root = level or bytes(DIGEST_BYTES)
        descriptor = struct.pack(
            "<BBBBIQ64s32s144s", 1, 1, size.bit_length() - 1, 0, 0, self._length, root.ljust(64, b"\0"), b"", b""
        )
        return Digest.of(descriptor)


def hash_bytes(name: str, data: bytes) -> FileEntry:
    """Return the manifest entry of *data* under *name*."""
    return _entry(name, iter([data]))


def hash_file(path: Path, *, name: str | None = None) -> FileEntry:
    """Return the manifest entry of a regular file.

    Raises:
        UsageError: missing, unreadable, a symbolic link or no regular file.
        VerificationError: it changed while it was read.
    """
    descriptor = open_regular(path)
    try:
        before = os.fstat(descriptor)
        entry = _entry(name or path.name, iter(lambda: os.read(descriptor, CHUNK_BYTES), b""))
        after = os.fstat(descriptor)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or entry.length != after.st_size:
        raise VerificationError(f"{path}: changed while it was read", hint="hash it again when nothing writes to it")
    return entry


def scan(folder: Path, *, on_file: Callable[[FileEntry], None] | None = None) -> Manifest:
    """Return the manifest of all files below *folder*.

    Args:
        on_file: called after each file, for progress.

    Raises:
        UsageError: no such folder, a symbolic link, a device or socket in it, or no file at all.
        VerificationError: a file changed while it was read.
        DecodeError: a name that an artifact cannot have.
    """
    names = sorted(file_names(folder), key=lambda name: name.encode())
    if not names:
        raise UsageError(f"{folder}: holds no file", hint="name the folder with the files themselves")
    entries = []
    for name in names:
        entries.append(hash_file(folder / name, name=name))
        if on_file is not None:
            on_file(entries[-1])
    return Manifest(files=tuple(entries))


def file_names(folder: Path) -> Iterator[str]:
    """Yield the relative name of each regular file below *folder*, in no order.

    Raises:
        UsageError: *folder* is missing or is a link; something below it cannot be read, or is neither a folder nor a
            regular file.
        DecodeError: a name that an artifact cannot have.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder", hint="check the path, and that it is no symbolic link")
    pending = [""]
    while pending:
        prefix = pending.pop()
        for entry in _entries(folder / prefix):
            name = prefix + entry.name
            check_file_name(name)
            if entry.is_dir(follow_symlinks=False):
                pending.append(name + "/")
            elif entry.is_file(follow_symlinks=False):
                yield name
            else:
                raise UsageError(
                    f"{folder / name}: is a link or a special file; an artifact holds regular files only",
                    code=NOT_REGULAR,
                    hint="copy the file itself into the folder",
                )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({error.strerror})", hint="check who may read it") from error


def open_regular(path: Path) -> int:
    """Open *path* for reading and return its descriptor, never following a final symbolic link.

    Raises:
        UsageError: missing, unreadable, a link, or no regular file.
    """
    try:
        # NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"{path}: is a symbolic link", hint="name the file that it points to") from error
        hint = "check the path, and who may read it"
        raise UsageError(f"{path}: cannot be read ({error.strerror})", hint=hint) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{path}: is not a regular file", hint="name a file")
    return descriptor


def _entry(name: str, chunks: Iterator[bytes]) -> FileEntry:
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
