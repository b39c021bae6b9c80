# SPDX-License-Identifier: Apache-2.0
"""Read and write whole files so that a reader never sees half of one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from chopmark.artifacts.walk import open_regular
from chopmark.errors import DecodeError, UndecidedError, UsageError, foreign

TEMPORARY: Final = ".*.tmp"
"""What a write that was killed leaves beside the file."""


def read_file(path: Path, *, max_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        UsageError: missing, unreadable, a symbolic link or no regular file.
        DecodeError: longer than *max_bytes*.
    """
    with os.fdopen(open_regular(path), "rb") as file, foreign(UsageError, f"{path}: cannot be read", code="usage"):
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise DecodeError(f"{path}: more than the {max_bytes:,} bytes allowed")
    return data


def read_secret(path: Path, *, what: str, max_bytes: int) -> bytes:
    """Return the content of a file that its owner alone may read: a key, a PIN, a token.

    Args:
        what: what it is called in errors.

    Raises:
        UsageError: as :func:`read_file`, or others may read it (``secret-open``), or longer than *max_bytes*.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            hint = f"chmod 600 {path}; consider it known to them"
            raise UsageError(f"{path}: others may read this {what}", code="secret-open", hint=hint)
        with foreign(UsageError, f"{path}: cannot be read", code="usage"):
            data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise UsageError(f"{path}: is no {what}: more than {max_bytes:,} bytes")
    return data


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace *path* by *data*: temporary file, fsync, rename, fsync of the folder.

    After a return the bytes survive a crash; before it, the old file stands.

    Raises:
        UndecidedError: the disk is full or the folder cannot be written; nothing was replaced.
    """
    # Not after the file itself: the longest name that a file can have must be possible.
    temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        make_folder(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise UndecidedError(
            f"{path}: cannot be written ({error.strerror})",
            code="not-written",
            hint="free some space, or check who owns the folder",
        ) from error


def make_folder(folder: Path) -> None:
    """Make *folder* and what is missing above it, so that their names survive a crash."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
