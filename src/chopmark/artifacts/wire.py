# SPDX-License-Identifier: Apache-2.0
"""Manifest bytes -> :class:`Manifest`, strictly: RFC 8785 and nothing else."""

from __future__ import annotations

from chopmark import canonical
from chopmark.artifacts.model import BLOCK_SIZES, Digest, FileEntry, Manifest
from chopmark.errors import DecodeError

MAX_MANIFEST_BYTES = 8 * 1024 * 1024


class FileMember(canonical.Strict, frozen=True, kw_only=True):
    """A file as it stands in JSON."""

    name: str
    length: int
    sha256: str
    fsverity: dict[str, str]


class _Manifest(canonical.Strict, frozen=True, kw_only=True):
    v: int
    files: list[FileMember]


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        DecodeError: not canonical, an unknown version or member, a bad name, digest or length.
    """
    wire = canonical.decode_as(data, _Manifest, what="manifest", max_bytes=MAX_MANIFEST_BYTES, canonical=True)
    if wire.v != 1:
        raise DecodeError(f"manifest: version {wire.v} is not known here")
    return Manifest(files=tuple(entry_of(file) for file in wire.files))


def entry_of(file: FileMember) -> FileEntry:
    """Return what a member says.

    Raises:
        DecodeError: a bad length, digest or block size.
    """
    if file.length < 0 or sorted(file.fsverity) != sorted(str(size) for size in BLOCK_SIZES):
        raise DecodeError(f"manifest: {file.name[:80]!r} has a bad length or other block sizes than {BLOCK_SIZES}")
    return FileEntry(
        name=file.name,
        length=file.length,
        sha256=Digest.from_hex(file.sha256),
        fsverity={int(size): Digest.from_hex(digest) for size, digest in file.fsverity.items()},
    )


def member_of(entry: FileEntry) -> FileMember:
    """Return how a file stands in JSON."""
    fsverity = {str(size): digest.hex for size, digest in entry.fsverity.items()}
    return FileMember(name=entry.name, length=entry.length, sha256=entry.sha256.hex, fsverity=fsverity)
