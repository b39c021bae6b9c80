# SPDX-License-Identifier: Apache-2.0
"""One change of a log as one object: every file that the change puts, so that whoever finds it half done can finish it.

    chopmark-staging/v1
    tile/0/000.p/5 160         the path of a file, a space, how many bytes it has; sorted by path
    tile/entries/000.p/5 710
                               an empty line; then the bytes of all files, one after the other

Pure. The same change makes the same bytes on every machine. What is read back was hashed by the caller first, against the
digest that stands beside the log's size; :func:`decode_staging` is strict none the less.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chopmark.errors import DecodeError
from chopmark.ledger.merkle import MAX_SIZE
from chopmark.ledger.tiles import TILE_WIDTH, Integration, bundle_path, tile_path

STAGING: Final = "staging/"
MAX_STAGING_BYTES: Final = 1024**3
_MAGIC: Final = b"chopmark-staging/v1"
_PATH: Final = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/){0,4}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_STAGED: Final = re.compile(r"staging/[0-9]{1,19}-([0-9]{1,19})-[0-9a-f]{64}")
_LINE: Final = re.compile(r"(\S{1,80}) ([1-9][0-9]{0,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName:
    """What the path of a tile or bundle says.

    Attributes:
        level: of a tile; None of a bundle.
        width: 256 of a full one.
    """

    level: int | None
    index: int
    width: int


def file_name(path: str) -> FileName | None:
    """Return what *path* names; None where it is no tile's and no bundle's only spelling."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    level = None if match[1] == "entries" else int(match[1])
    index, width = int(match[2].replace("/", "").replace("x", "")), int(match[3] or TILE_WIDTH)
    own = bundle_path(index, width) if level is None else tile_path(level, index, width)
    return FileName(level=level, index=index, width=width) if own == path and width <= TILE_WIDTH else None


def staging_path(start: int, size: int, root: bytes) -> str:
    """Return where the change from *start* to *size* entries with *root* is staged; only one change has this name."""
    return f"{STAGING}{start}-{size}-{root.hex()}"


def staged_size(path: str) -> int:
    """Return how many entries the log has after the change that is staged at *path*; more than any log where it is no such path."""
    match = _STAGED.fullmatch(path)
    return int(match[1]) if match else MAX_SIZE + 1


def files_of(integration: Integration) -> dict[str, bytes]:
    """Return path and content of every file that *integration* puts."""
    tiles = {tile_path(tile.level, tile.index, len(tile.hashes)): tile.encode() for tile in integration.tiles}
    bundles = {bundle_path(each.index, len(each.entries)): each.encode() for each in integration.bundles}
    return tiles | bundles


def encode_staging(files: Mapping[str, bytes]) -> bytes:
    """Return *files* as one object."""
    paths = sorted(files)
    lines = [_MAGIC, *(f"{path} {len(files[path])}".encode() for path in paths), b"", b""]
    return b"\n".join(lines) + b"".join(files[path] for path in paths)


def decode_staging(data: bytes) -> dict[str, bytes]:
    """Read a staged change.

    Raises:
        DecodeError: not one, cut short, with a path that is no tile's or bundle's, or in another order.
    """
    head, blank, body = data.partition(b"\n\n")
    magic, *lines = head.split(b"\n")
    if magic != _MAGIC or not blank:
        raise DecodeError("staging object: not one")
    files: dict[str, bytes] = {}
    at, last = 0, ""
    for line in lines:
        match = _LINE.fullmatch(line.decode("ascii", errors="replace"))
        if match is None or file_name(match[1]) is None or match[1] <= last:
            raise DecodeError("staging object: a line that names no file of a log, or stands in the wrong place")
        last, end = match[1], at + int(match[2])
        files[last] = body[at:end]
        at = end
    if at != len(body):
        raise DecodeError("staging object: cut short, or with bytes too many")
    return files
