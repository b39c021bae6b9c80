# SPDX-License-Identifier: Apache-2.0
"""Files of leaves: ``<name>.leaves`` in a folder of their own, 32 bytes for each block of 64 KiB, and nothing else."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from chopmark.artifacts.blocktree import LEAF_BLOCK_BYTES, LEAVES_SUFFIX, check_leaves
from chopmark.artifacts.files import make_folder, read_file
from chopmark.artifacts.model import DIGEST_BYTES, FileEntry
from chopmark.errors import ChopmarkError, UndecidedError


def read_leaves(folder: Path, entry: FileEntry) -> bytes:
    """Return the leaves of *entry*.

    Raises:
        UsageError: there are none.
        VerificationError: ``leaves-altered``, or longer than they can be.
    """
    blocks = -(-entry.length // LEAF_BLOCK_BYTES)
    leaves = read_file(_place(folder, entry.name), max_bytes=blocks * DIGEST_BYTES)
    check_leaves(entry, leaves)
    return leaves


def has_leaves(folder: Path, entry: FileEntry) -> bool:
    """Tell whether the leaves of *entry* are there, and right."""
    try:
        read_leaves(folder, entry)
    except ChopmarkError:
        return False
    return True


def write_leaves(folder: Path, name: str, leaves: bytes) -> None:
    """Replace the leaves of the file *name*; not synced: leaves that are lost or damaged are found out, and made again.

    Raises:
        UndecidedError: ``not-written``.
    """
    path = _place(folder, name)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        make_folder(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(leaves)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UndecidedError(
            f"{path}: cannot be written ({error.strerror})",
            code="not-written",
            hint="free some space, or check who owns the folder",
        ) from error


def _place(folder: Path, name: str) -> Path:
    return folder / (name + LEAVES_SUFFIX)
