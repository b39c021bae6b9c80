# SPDX-License-Identifier: Apache-2.0
"""Step 14: a package on disk is exactly what its manifest lists, and what is read of it is what was hashed.

:func:`open_package` copies every file into sealed memory and compares there; :func:`check_package` only compares. The
model stays sealed for as long as it runs; of the other files, which may be thousands, only what was read back is kept. Both
start from the names: one file more or less is already a refusal. fs-verity digests are not compared here, since the
SHA-256 of every byte is.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from chopmark.artifacts import (
    Digest,
    FileEntry,
    Manifest,
    decode_manifest,
    file_names,
    open_regular,
    read_file,
)
from chopmark.channel import Release
from chopmark.device import tidy
from chopmark.device.ports import Sealed, SealedMemory
from chopmark.errors import ChopmarkError, DecodeError, Refused, UsageError

ENVELOPE: Final = "envelope.json"
MANIFEST: Final = "manifest.json"
FILES: Final = "files"
MAX_ENVELOPE_BYTES: Final = 4 * 1024 * 1024
MAX_MANIFEST_BYTES: Final = 8 * 1024 * 1024

_BESIDE: Final = frozenset({".sig", ".md", ".txt"})
"""What may be called ``model`` in a package and is not the model: signatures and prose."""


class Package:
    """A package in memory. Close it to give the memory back.

    Attributes:
        model: the model itself, sealed.
    """

    def __init__(self, manifest: Manifest, model: Sealed, others: Mapping[str, bytes]) -> None:
        self.manifest = manifest
        self.model = model
        self._model_name = model_file(manifest).name
        self._others = others

    def read(self, name: str) -> bytes:
        """Return the file *name* of the package.

        Raises:
            UsageError: the package has no such file.
        """
        if name == self._model_name:
            return self.model.read()
        if name not in self._others:
            names = sorted({self._model_name, *self._others})
            raise UsageError(f"the package has no file {name[:80]!r}", hint=", ".join(names)[:200])
        return self._others[name]

    def close(self) -> None:
        """Give the memory back."""
        self.model.close()
        self._others = {}


def model_file(manifest: Manifest) -> FileEntry:
    """Return the one file at the top of a package that is called ``model.…``.

    Raises:
        Refused: ``package-incomplete``: none, or several.
    """
    found = [
        entry
        for entry in manifest.files
        if "/" not in entry.name and entry.name.startswith("model.") and Path(entry.name).suffix not in _BESIDE
    ]
    if len(found) != 1:
        raise Refused("package-incomplete", f"{len(found)} files of the package are called model.…; one is needed")
    return found[0]


def read_envelope(slot: Path) -> bytes:
    """Return the envelope in a slot, as it is.

    Raises:
        Refused: ``package-incomplete``: missing; ``package-altered``: no file that can be read.
    """
    return _read(slot / ENVELOPE, MAX_ENVELOPE_BYTES)


def read_manifest(slot: Path, release: Release) -> Manifest:
    """Return the manifest in a slot, if it is the one that *release* names.

    Raises:
        Refused: ``package-incomplete``, ``package-altered``.
    """
    return checked_manifest(_read(slot / MANIFEST, MAX_MANIFEST_BYTES), release)


def checked_manifest(data: bytes, release: Release) -> Manifest:
    """Return the manifest, if *data* are the bytes that *release* names.

    Raises:
        Refused: ``package-altered``.
    """
    found = Digest.of(data)
    if len(data) != release.manifest_length or not hmac.compare_digest(found.value, release.manifest.value):
        raise Refused(
            "package-altered",
            "the manifest is not the one that was approved",
            evidence={"file": MANIFEST, "wanted": str(release.manifest), "got": str(found)},
        )
    try:
        return decode_manifest(data)
    except DecodeError as error:
        raise Refused("package-altered", error.message) from error


def open_package(slot: Path, manifest: Manifest, memory: SealedMemory) -> Package:
    """Copy the package in *slot* into sealed memory, if it is exactly what *manifest* lists.

    Raises:
        Refused: ``package-incomplete``, ``package-altered``.
        UndecidedError: no memory that can be sealed.
    """
    folder = slot / FILES
    _check_names(folder, manifest)
    model = model_file(manifest)
    others: dict[str, bytes] = {}
    for entry in manifest.files:
        if entry != model:
            with closing(_copy(folder, entry, memory)) as sealed:
                others[entry.name] = sealed.read()
    return Package(manifest, _copy(folder, model, memory), others)


def check_package(slot: Path, manifest: Manifest) -> None:
    """Check that the package in *slot* is exactly what *manifest* lists, without keeping it.

    Raises:
        Refused: ``package-incomplete``, ``package-altered``.
    """
    folder = slot / FILES
    _check_names(folder, manifest)
    for entry in manifest.files:
        length, digest = file_digest(folder / entry.name)
        _check(folder, entry, length, digest)


def file_digest(path: Path) -> tuple[int, Digest]:
    """Return length and SHA-256 of a file, without the block trees of a manifest: this is done at every poll.

    Raises:
        Refused: ``package-altered``: missing, a link, or not to be read.
    """
    with os.fdopen(_open(path), "rb") as file:
        try:
            digest = Digest(hashlib.file_digest(file, "sha256").digest())
            return file.tell(), digest
        except OSError as error:
            raise Refused("package-altered", f"{path.name}: cannot be read ({error.strerror})") from error


def _check_names(folder: Path, manifest: Manifest) -> None:
    wanted = {entry.name for entry in manifest.files}
    try:
        found = set(file_names(folder)) if folder.is_dir() else set()
    except (ChopmarkError, OSError) as error:
        raise Refused("package-altered", f"the package holds what no package may hold: {error}"[:300]) from error
    if wanted - found:
        missing = min(wanted - found)
        raise Refused("package-incomplete", f"{missing} is missing", evidence={"file": missing})
    if found - wanted:
        more = min(found - wanted)
        raise Refused("package-altered", f"{more} is not in the manifest", evidence={"file": more})


def _copy(folder: Path, entry: FileEntry, memory: SealedMemory) -> Sealed:
    descriptor = _open(folder / entry.name)
    try:
        sealed, digest = memory.copy(entry.name, descriptor, max_bytes=entry.length)
    finally:
        os.close(descriptor)
    try:
        _check(folder, entry, sealed.length, Digest(digest))
    except BaseException:
        sealed.close()
        raise
    return sealed


def _check(folder: Path, entry: FileEntry, length: int, digest: Digest) -> None:
    if length == entry.length and hmac.compare_digest(digest.value, entry.sha256.value):
        return
    if length > entry.length:
        digest = file_digest(folder / entry.name)[1]  # all of it: only a part was copied
    raise Refused(
        "package-altered",
        f"{entry.name} differs from the manifest",
        evidence={"file": entry.name, "wanted": str(entry.sha256), "got": str(digest)},
    )


def _open(path: Path) -> int:
    try:
        return open_regular(path)
    except UsageError as error:
        raise Refused("package-altered", error.message) from error


def _read(path: Path, max_bytes: int) -> bytes:
    if tidy.is_missing(path):
        raise Refused("package-incomplete", f"{path.name} is missing", evidence={"file": path.name})
    try:
        return read_file(path, max_bytes=max_bytes)
    except (UsageError, DecodeError) as error:
        raise Refused("package-altered", error.message) from error
