# SPDX-License-Identifier: Apache-2.0
"""Names and flat SHA-256 of the files below a folder, on all cores, with little memory."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from chopmark.artifacts import NOT_REGULAR, check_file_name
from chopmark.errors import UsageError, VerificationError

_CHUNK_BYTES: Final = 1024 * 1024
_BATCH: Final = 256
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def names_below(folder: Path, *, skip: Collection[str] = ()) -> list[str]:
    """Return the relative names of all regular files below *folder*, sorted by code point.

    Args:
        skip: names, relative to *folder*, that are not looked at, nor anything below them.

    Raises:
        UsageError: no such folder, or something in it that is neither a folder nor a regular file.
        DecodeError: a name that an artifact cannot have.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder", hint="check the path, and that it is no symbolic link")
    found, pending = [], [""]
    while pending:
        prefix = pending.pop()
        try:
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    if name in skip:
                        continue
                    if not (name.isascii() and name.isprintable() and "\\" not in name):
                        check_file_name(name)
                    if entry.is_file(follow_symlinks=False):
                        found.append(name)
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(name + "/")
                    else:
                        raise UsageError(
                            f"{folder / name}: is a link or a special file; an artifact holds regular files only",
                            code=NOT_REGULAR,
                            hint="copy the file itself into the folder",
                        )
        except OSError as error:
            raise UsageError(
                f"{folder / prefix}: cannot be read ({error.strerror})", hint="check who may read it"
            ) from error
    return sorted(found)


def digests_of(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Return name -> SHA-256 of the files *names* below *folder*.

    Raises:
        UsageError: one is missing, cannot be read, or is no regular file.
        VerificationError: one changed while it was read.
    """
    batches = iter(
        [names[at : at + _BATCH] for at in range(0, len(names), _BATCH)]
        if len(names) > _BATCH
        else [[n] for n in names]
    )
    found: dict[str, bytes] = {}
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        workers = min(os.cpu_count() or 1, len(names), 16)
        with ThreadPoolExecutor(workers) as pool:
            for part in pool.map(lambda _: _hash_batches(root, batches, folder), range(workers)):
                found.update(part)
    finally:
        os.close(root)
    return found


def _hash_batches(root: int, batches: Iterator[Sequence[str]], folder: Path) -> dict[str, bytes]:
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    found = {}
    for batch in batches:
        for name in batch:
            try:
                found[name] = _hash(root, name, buffer)
            except OSError as error:
                raise UsageError(f"{folder / name}: cannot be read ({error.strerror})") from error
    return found


def _hash(root: int, name: str, buffer: memoryview) -> bytes:
    descriptor = os.open(name, _FLAGS, dir_fd=root)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise UsageError(f"{name}: is no regular file", code=NOT_REGULAR)
        flat, length = hashlib.sha256(), 0
        while size := os.readv(descriptor, [buffer]):
            flat.update(buffer[:size])
            length += size
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_mtime_ns, before.st_ctime_ns, length) != (after.st_mtime_ns, after.st_ctime_ns, after.st_size):
        raise VerificationError(f"{name}: changed while it was read", hint="hash it again when nothing writes to it")
    return flat.digest()
