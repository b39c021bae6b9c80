# SPDX-License-Identifier: Apache-2.0
"""Write a log as static files that any web server can serve. C2SP tlog-tiles.

    checkpoint             the newest signed checkpoint, with cosignatures where it has them
    witnessed-checkpoint   the newest one that a quorum cosigned, where there is one
    tile/<L>/<N>[.p/<W>]   tile/entries/<N>[.p/<W>]

Files under ``tile/`` never change: the same bytes may be written again, other bytes are an error. The checkpoint comes
last, so that whoever reads it finds all that it promises. Partial files go once their full one is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from chopmark.artifacts import read_file, write_file
from chopmark.errors import UndecidedError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.merkle import HASH_BYTES
from chopmark.ledger.note import decode_note
from chopmark.ledger.ports import LogStore
from chopmark.ledger.tiles import TILE_WIDTH, bundle_path, encode_bundle, tile_path, tile_shape

CHECKPOINT = "checkpoint"
WITNESSED_CHECKPOINT = "witnessed-checkpoint"
_MAX_FILE_BYTES = TILE_WIDTH * (2 + 65_535)


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
    for size in sorted(sizes):
        for path, data, full in _files(store, size):
            _write_once(folder / path, data)
            if full:
                complete.append(folder / f"{path}.p")
    if witnessed is not None:
        write_file(folder / WITNESSED_CHECKPOINT, witnessed)
    write_file(folder / CHECKPOINT, signed)
    for partial in complete:
        _remove(partial)
    return checkpoint


def _files(store: LogStore, size: int) -> Iterator[tuple[str, bytes, bool]]:
    """Yield path, content and whether it is full, for everything that a checkpoint of *size* promises."""
    for level, full, width in tile_shape(size):
        for index in range(full):
            yield tile_path(level, index), store.tile(level, index), True
        if width:
            yield tile_path(level, full, width), store.tile(level, full)[: width * HASH_BYTES], False
    for index in range(0, size, TILE_WIDTH):
        entries = store.entries(index, min(index + TILE_WIDTH, size))
        path = bundle_path(index // TILE_WIDTH, len(entries))
        yield path, encode_bundle(entries), len(entries) == TILE_WIDTH


def _write_once(path: Path, data: bytes) -> None:
    if not path.exists():
        write_file(path, data)
    elif read_file(path, max_bytes=_MAX_FILE_BYTES) != data:
        raise VerificationError(f"{path}: holds other bytes than this log's", code="export-conflict")


def _remove(folder: Path) -> None:
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        raise UndecidedError(f"{folder}: cannot be removed ({error.strerror})", code="not-written") from error


def _checkpoint(note: bytes) -> Checkpoint:
    return Checkpoint.decode(decode_note(note).text)
