# SPDX-License-Identifier: Apache-2.0
"""Write a log as static files (:mod:`chopmark.ledger.files`) that any web server can serve.

Files under ``tile/`` never change: the same bytes may be written again, other bytes are an error. The checkpoint comes
last, so that whoever reads it finds all that it promises. Partial files go once their full one is there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from chopmark.artifacts import read_file, write_file
from chopmark.errors import UndecidedError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.files import files
from chopmark.ledger.note import decode_note
from chopmark.ledger.ports import LogStore
from chopmark.ledger.static import CHECKPOINT, MAX_BUNDLE_BYTES, WITNESSED_CHECKPOINT


def export(store: LogStore, folder: Path, *, signed: bytes, witnessed: bytes | None) -> Checkpoint:
    """Write the log up to its *signed* checkpoint into *folder*; return that checkpoint.

    Raises:
        VerificationError: a file there holds other bytes than this log's: it is another log, or damaged.
        UndecidedError: the folder cannot be written.
    """
    checkpoint = _checkpoint(signed)
    sizes = {checkpoint.size}
    if witnessed is not None:
        sizes.add(_checkpoint(witnessed).size)
        if _checkpoint(witnessed) == checkpoint:
            signed = witnessed
    complete: list[Path] = []
    named: set[Path] = set()
    for size in sorted(sizes):
        for path, data, full in files(store, size):
            _write_once(folder / path, data)
            if full:
                complete.append(folder / f"{path}.p")
            else:
                named.add(folder / path)
    if witnessed is not None:
        write_file(folder / WITNESSED_CHECKPOINT, witnessed)
    write_file(folder / CHECKPOINT, signed)
    for partials in complete:
        _remove(partials, keep=named)
    return checkpoint


def _write_once(path: Path, data: bytes) -> None:
    if not path.exists():
        write_file(path, data)
    elif read_file(path, max_bytes=MAX_BUNDLE_BYTES) != data:
        raise VerificationError(f"{path}: holds other bytes than this log's", code="export-conflict")


def _remove(folder: Path, *, keep: set[Path]) -> None:
    """Remove the partial files in *folder* but those that a checkpoint which is served names."""
    try:
        if folder.is_dir() and not any(path.parent == folder for path in keep):
            shutil.rmtree(folder)
        elif folder.is_dir():
            for path in set(folder.iterdir()) - keep:
                path.unlink()
    except OSError as error:
        raise UndecidedError(f"{folder}: cannot be removed ({error.strerror})", code="not-written") from error


def _checkpoint(note: bytes) -> Checkpoint:
    return Checkpoint.decode(decode_note(note).text)
