# SPDX-License-Identifier: Apache-2.0
"""Remove partial files that nobody needs any more. C2SP tlog-tiles. A second face, for servers.

Each publication of a growing log leaves partial tiles and bundles; left alone they outweigh the log many times. A partial
file goes only when all of this is so:

1. its full file is there, whole, and begins with what stands in the partial one: readers fall back to it;
2. neither the published checkpoint nor the witnessed one names it.

Nothing here is signed or trusted: a forged checkpoint, or a listing that lags, makes it keep more or less rubbish and
never loses a hash or an entry. Other files are not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chopmark.errors import DecodeError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.merkle import HASH_BYTES
from chopmark.ledger.note import decode_note
from chopmark.ledger.ports import LogFiles, ObjectStore
from chopmark.ledger.rehash import TILE_BYTES
from chopmark.ledger.static import MAX_BUNDLE_BYTES, newest_note, witnessed_note
from chopmark.ledger.tiles import TILE_WIDTH, bundle_path, decode_bundle, tile_path, tile_shape

_PARTIAL: Final = re.compile(
    r"(?P<full>tile/(?P<kind>entries|[0-9]|[1-5][0-9]|6[0-3])/(?:x[0-9]{3}/){0,6}[0-9]{3})\.p/(?P<width>[1-9][0-9]{0,2})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was removed, or would be.

    Attributes:
        files: how many partial files.
        freed_bytes: what stood in them.
        kept: how many partial files stay.
        odd: those among them that do not begin their full file: one of the two is damaged. Look at them (fsck).
    """

    files: int
    freed_bytes: int
    kept: int
    odd: tuple[str, ...]


def collect(files: ObjectStore, *, apply: bool) -> Collected:
    """Remove the partial files that nobody needs.

    Args:
        apply: remove them; else only count.

    Raises:
        VerificationError: there is no checkpoint here, or what is served as one is none; nothing was removed.
        UndecidedError: something could not be read or removed; what was removed before stays so.
    """
    needed = set(_needed(files))
    removed = freed = kept = 0
    odd: list[str] = []
    for full, widths in sorted(_partials(files).items()):
        whole = _full(files, full)
        for path in (f"{full}.p/{width}" for width in sorted(widths)):
            if whole is None or path in needed:
                kept += 1
                continue
            length = _covered(files, path, whole)
            if length is None:
                kept += 1
                odd.append(path)
                continue
            if apply:
                files.remove(path)
            removed += 1
            freed += length
    return Collected(files=removed, freed_bytes=freed, kept=kept, odd=tuple(odd))


def _needed(files: LogFiles) -> Iterator[str]:
    """Yield the partial files that the served checkpoints name."""
    for note in (newest_note(files), witnessed_note(files)):
        if note is None:
            continue
        size = Checkpoint.decode(decode_note(note).text).size
        for level, full, width in tile_shape(size):
            yield tile_path(level, full, width)
        yield bundle_path(size // TILE_WIDTH, size % TILE_WIDTH)


def _partials(files: ObjectStore) -> dict[str, set[int]]:
    """Return full path -> widths of the partial files beside it; a name that is spelt otherwise is none."""
    found: dict[str, set[int]] = {}
    for name in files.names("tile/"):
        match = _PARTIAL.fullmatch(name)
        if match is not None and int(match["width"]) < TILE_WIDTH:
            found.setdefault(match["full"], set()).add(int(match["width"]))
    return found


def _full(files: LogFiles, path: str) -> bytes | None:
    """Return a full file, or None where it is not there or not whole."""
    data = files.find(path, max_bytes=MAX_BUNDLE_BYTES)
    if data is None:
        return None
    return data if _width(path, data) == TILE_WIDTH else None


def _covered(files: LogFiles, path: str, whole: bytes) -> int | None:
    """Return the length of a partial file that *whole* begins with; None where it does not."""
    data = files.find(path, max_bytes=MAX_BUNDLE_BYTES)
    if data is None:
        return 0  # somebody else removed it
    width = int(path.rpartition("/")[2])
    return len(data) if whole.startswith(data) and _width(path, data) == width else None


def _width(path: str, data: bytes) -> int | None:
    """Return how many entries or hashes a file holds; None where it is damaged."""
    if not path.startswith("tile/entries/"):
        return len(data) // HASH_BYTES if len(data) % HASH_BYTES == 0 and len(data) <= TILE_BYTES else None
    try:
        return len(decode_bundle(data))
    except DecodeError:
        return None
