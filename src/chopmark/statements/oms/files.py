# SPDX-License-Identifier: Apache-2.0
"""Sign and verify what lies on a disk: a folder, or one file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chopmark.artifacts import NOT_REGULAR, Digest, Progress, digests, read_file
from chopmark.errors import DecodeError, UsageError
from chopmark.keys import Signer
from chopmark.statements.oms.build import check_signer, root_of, sign_listing
from chopmark.statements.oms.check import SINGLE, OmsTrust, check_files, open_oms
from chopmark.statements.oms.model import LEFT_OUT, MAX_BUNDLE_BYTES, OMS_FILE, Listing, OmsFailure, malformed, refused


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFiles:
    """A bundle that was made.

    Attributes:
        bundle: its bytes.
        files: how many it lists.
        root: the digest by which stock tools name the model.
        left_out: what is there and was not signed, relative to the folder.
    """

    bundle: bytes
    files: int
    root: Digest
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFiles:
    """Files that are exactly those that somebody signed.

    Attributes:
        signature: the bundle.
        signer: for people.
        listing: what was signed, and compared.
        unsigned: what the caller chose to ignore, relative to the folder, where it is there.
    """

    signature: Path
    signer: str
    listing: Listing
    unsigned: tuple[str, ...]


def default_bundle(path: Path) -> Path:
    """Return where the bundle of *path* is written: beside it, and named after it."""
    return beside(path, _named(path) + ".sig")


def find_bundle(path: Path) -> Path:
    """Return the bundle of *path*: beside it and named after it, or called ``model.sig``, there or in the folder.

    Raises:
        UsageError: none of these is there.
    """
    places = list(
        dict.fromkeys([default_bundle(path), beside(path, OMS_FILE), *([path / OMS_FILE] if path.is_dir() else [])])
    )
    for place in places:
        if os.path.lexists(place):
            return place
    raise UsageError(
        f"{path}: no bundle beside it", hint=f"name it: --signature …; looked for {', '.join(map(str, places))}"
    )


def beside(path: Path, name: str) -> Path:
    """Return *name* in the folder that *path* is in, also where *path* is ``.`` or ends in ``..``."""
    return path.with_name(name) if path.name not in {"", ".."} else Path(os.path.realpath(path)).with_name(name)


def sign_files(
    path: Path, signer: Signer, *, out: Path, ignore: Collection[str] = (), on_progress: Progress | None = None
) -> SignedFiles:
    """Return a bundle over the files at *path*, to be written to *out*.

    Args:
        out: where in the folder, if it is in it, no file is signed.
        ignore: names, relative to the folder, that are left out with all below them.
        on_progress: as for :func:`chopmark.artifacts.digests`.

    Raises:
        UsageError: nothing to sign, a link in the folder, a key of another algorithm.
        DecodeError: a name that a file of a model cannot have.
        VerificationError: a file changed while it was read.
    """
    check_signer(signer)
    _check_there(path)
    if not path.is_dir():
        files = {SINGLE: _hashed(path, on_progress=on_progress)[_named(path)]}
        return SignedFiles(
            bundle=sign_listing(files, signer, subject=_named(path)), files=1, root=root_of(files), left_out=()
        )
    own = _inside(path, out)
    skip = sorted({*_ignored(ignore), *LEFT_OUT, *own})
    files = _hashed(path, skip, on_progress=on_progress)
    return SignedFiles(
        bundle=sign_listing(files, signer, subject=_named(path), ignored=skip),
        files=len(files),
        root=root_of(files),
        left_out=tuple(name for name in skip if name not in own and os.path.lexists(path / name)),
    )


def check_key_outside(path: Path, key: Path, ignore: Collection[str] = ()) -> None:
    """Check that the file of a private *key* is not among the files at *path*: what is signed is handed on.

    Raises:
        UsageError: ``key-inside``.
    """
    if not path.is_dir() or not key.is_file():
        return
    left_out = {*_ignored(ignore), *LEFT_OUT}
    for name in _inside(path, key):
        if not any(name == skipped or name.startswith(skipped + "/") for skipped in left_out):
            raise UsageError(
                f"{path}: holds the private key {name}, which would be signed and handed on with the model",
                code="key-inside",
                hint=f"move it out of the folder, or leave it out: --ignore {shlex.quote(name)}",
            )


def verify_files(
    path: Path,
    trust: OmsTrust,
    *,
    signature: Path | None = None,
    ignore: Collection[str] = (),
    on_progress: Progress | None = None,
) -> VerifiedFiles:
    """Check that the files at *path* are exactly those that somebody whom *trust* believes signed.

    Args:
        signature: the bundle; looked for by :func:`find_bundle` otherwise. It is no file of the model.
        ignore: names, relative to the folder, that may be there unsigned, with all below them.
        on_progress: as for :func:`chopmark.artifacts.digests`.

    Raises:
        VerificationError: they are not; ``code`` is one of :class:`OmsFailure`.
        DecodeError: no bundle, or a name that a file of a model cannot have.
        UsageError: something cannot be read.
    """
    _check_there(path)
    place = signature or find_bundle(path)
    signed = open_oms(_read(place), trust)
    listing = signed.listing
    skip = frozenset({*_ignored(ignore), *_inside(path, place)}) if path.is_dir() else frozenset()
    if path.is_dir() and SINGLE in listing.files:
        raise refused(OmsFailure.MISSING_FILES, "signed over a single file", hint="name the file itself")
    try:
        here = _hashed(path, skip - _covering(listing, skip), on_progress=on_progress)
    except UsageError as error:
        if error.code != NOT_REGULAR:
            raise
        raise refused(OmsFailure.LINK, error.message, hint="remove it, or get the package anew") from error
    if SINGLE in listing.files:
        here = {SINGLE: here[_named(path)]}
    check_files(listing, here, single=_named(path))
    there = tuple(sorted(name for name in _ignored(ignore) if os.path.lexists(path / name)))
    return VerifiedFiles(signature=place, signer=signed.signer, listing=listing, unsigned=there)


def _read(place: Path) -> bytes:
    try:
        return read_file(place, max_bytes=MAX_BUNDLE_BYTES)
    except DecodeError as error:
        raise malformed(OmsFailure.TOO_LARGE, f"{place}: more than the {MAX_BUNDLE_BYTES:,} bytes allowed") from error


def _check_there(path: Path) -> None:
    if not os.path.lexists(path):
        raise UsageError(f"{path}: no such file or folder", hint="check the path")
    if path.is_symlink():
        raise UsageError(f"{path}: is a symbolic link", hint="name the file or folder that it points to")


def _hashed(path: Path, skip: Collection[str] = (), *, on_progress: Progress | None = None) -> dict[str, bytes]:
    """Return name -> SHA-256 of the file *path*, or of the files below the folder *path* without *skip*."""
    return {found.name: found.sha256.value for found in digests(path, skip=skip, on_progress=on_progress)}


def _named(path: Path) -> str:
    """Return the name of what *path* names: of ``.`` and ``..`` too."""
    return path.name if path.name not in {"", ".."} else Path(os.path.realpath(path)).name


def _inside(folder: Path, file: Path) -> tuple[str, ...]:
    """Return the name of *file* in *folder*, if it is in it."""
    place = os.path.realpath(file.parent) + os.sep + file.name
    top = os.path.realpath(folder) + os.sep
    return (place.removeprefix(top),) if place.startswith(top) else ()


def _ignored(names: Collection[str]) -> frozenset[str]:
    """Return *names* as they stand in listings.

    Raises:
        UsageError: one that leaves the folder, or is a pattern.
    """
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or any(char in name for char in "*?["):
            raise UsageError(
                f"--ignore {name}: no name in the folder", hint="relative to the folder; no '..', no pattern"
            )
    return frozenset(str(PurePosixPath(name)) for name in names)


def _covering(listing: Listing, skip: frozenset[str]) -> frozenset[str]:
    """Return what of *skip* was signed, or has something signed below it: what is signed is never ignored."""
    return frozenset(s for s in skip if any(name == s or name.startswith(s + "/") for name in listing.files))
