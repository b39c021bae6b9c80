# SPDX-License-Identifier: Apache-2.0
"""What an artifact is: a digest, and a manifest that binds the name, length and digests of every file."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from chopmark import canonical
from chopmark.errors import DecodeError

DIGEST_BYTES = 32
MAX_FILES = 1_000_000
"""Of an artifact. A device reads a manifest of at most 8 MiB, which are about 25,000 files."""

BAD_NAME = "bad-name"
"""The code of the error about a name that an artifact cannot have."""

BLOCK_SIZES = (4096, 65536)
"""fs-verity block sizes, in bytes: 4,096 is what Android's kernel enforces, 65,536 what we read lazily."""

_PLAIN = re.compile(r"[!-.0-\[\]-~ ]+(/[!-.0-\[\]-~ ]+)*")
"""ASCII without control characters and backslashes, no part empty; nearly every name, at a tenth of the time."""
_DOTS = re.compile(r"(^|/)\.\.?(/|$)")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A SHA-256 digest. Written ``sha256:<hex>``; bare hex only in members that are named after the algorithm."""

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != DIGEST_BYTES:
            raise DecodeError("a SHA-256 digest has 32 bytes")

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the digest of *data*."""
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def from_hex(cls, text: str) -> Digest:
        """Read 64 lower-case hexadecimal digits.

        Raises:
            DecodeError: any other spelling.
        """
        if not _HEX.fullmatch(text):
            raise DecodeError(f"{text[:80]!r} is not a SHA-256 in lower-case hex")
        return cls(bytes.fromhex(text))

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``sha256:<hex>``.

        Raises:
            DecodeError: any other spelling.
        """
        if not text.startswith("sha256:"):
            raise DecodeError(f"{text[:80]!r} is not a digest like sha256:91c4…")
        return cls.from_hex(text.removeprefix("sha256:"))

    @property
    def hex(self) -> str:
        return self.value.hex()

    @property
    def short(self) -> str:
        """The first eight digits, for people; never compared."""
        return self.value.hex()[:8]

    def __str__(self) -> str:
        return f"sha256:{self.value.hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of an artifact.

    Attributes:
        name: NFC, ``/``-separated, relative, no ``.`` or ``..`` part.
        length: bytes.
        sha256: digest of the whole content.
        fsverity: block size in bytes -> what ``fsverity digest`` prints for it.
    """

    name: str
    length: int
    sha256: Digest
    fsverity: Mapping[int, Digest]

    def encode(self) -> bytes:
        """Return the RFC 8785 bytes of the file in a manifest; its name is one that :func:`check_file_name` accepts."""
        if not 0 <= self.length <= canonical.MAX_INTEGER or tuple(sorted(self.fsverity)) != BLOCK_SIZES:
            raise DecodeError(f"manifest: {self.name[:80]!r} has a bad length or other block sizes than {BLOCK_SIZES}")
        small, large = (self.fsverity[size].hex for size in BLOCK_SIZES)
        name = json.dumps(self.name, ensure_ascii=False)
        return (
            f'{{"fsverity":{{"4096":"{small}","65536":"{large}"}},'
            f'"length":{self.length},"name":{name},"sha256":"{self.sha256.hex}"}}'
        ).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Every file of a dataset, model or package, sorted by the UTF-8 bytes of its name.

    The digest of its canonical bytes is the **package digest**: unlike a hash over concatenated file digests it binds
    the names too, so that a file cannot be renamed into another's place.
    """

    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.files]
        for name in names:
            check_file_name(name)
        if [n.encode() for n in names] != sorted({n.encode() for n in names}):
            raise DecodeError("manifest: names are not sorted, or one stands twice")
        folders: set[str] = set()
        for name in names:
            folder = name.rpartition("/")[0]
            while folder and folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        if folders & set(names):
            raise DecodeError("manifest: a name is both a file and a folder")
        if not 0 < len(names) <= MAX_FILES:
            raise DecodeError(f"manifest: {len(names):,} files; 1 to {MAX_FILES:,} are allowed")

    def encode(self) -> bytes:
        """Return the RFC 8785 bytes that the package digest is taken over.

        Written by hand: for many files it is ten times as fast as the general encoder, whose result it is. Names hold no
        character that JSON could write in two ways.

        Raises:
            DecodeError: a length that JSON cannot hold exactly, or other block sizes than :data:`BLOCK_SIZES`.
        """
        return b'{"files":[%s],"v":1}' % b",".join([entry.encode() for entry in self.files])

    @property
    def digest(self) -> Digest:
        return Digest.of(self.encode())

    def file(self, name: str) -> FileEntry | None:
        """Return the entry called *name*."""
        return next((entry for entry in self.files if entry.name == name), None)


def check_file_name(name: str) -> None:
    """Accept a name that means the same file on every system.

    Raises:
        DecodeError: empty, absolute, not NFC, with ``.``, ``..``, an empty part, a backslash, a control or an unassigned character.
    """
    if _PLAIN.fullmatch(name) and len(name) <= 1024 and not _DOTS.search(name):
        return
    parts = name.split("/")
    bad = (
        not 0 < len(name.encode("utf-8", "surrogatepass")) <= 1024
        or any(part in ("", ".", "..") for part in parts)
        or any(char == "\\" or unicodedata.category(char).startswith("C") for char in name)
        or unicodedata.normalize("NFC", name) != name
    )
    if bad:
        raise DecodeError(
            f"manifest: {name[:80]!r} cannot name a file of an artifact",
            code=BAD_NAME,
            hint="relative names, NFC, parts separated by '/', no '..', no backslash",
        )
