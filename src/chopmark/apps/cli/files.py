# SPDX-License-Identifier: Apache-2.0
"""``sign`` and ``verify``: files and folders, without a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.hashing import check_folder_of
from chopmark.apps.cli.render import Answer, answers, counted, good, say
from chopmark.errors import DecodeError, UsageError, VerificationError

if TYPE_CHECKING:
    from chopmark.artifacts import Manifest
    from chopmark.keys import PublicKey


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--key", type=click.Path(path_type=Path), required=True, help="A P-256 private key (PKCS#8 PEM, mode 0600)."
)
@click.option("--out", type=click.Path(path_type=Path), help="The bundle; default: FOLDER.sig beside it.")
@answers
def sign(folder: Path, key: Path, out: Path | None) -> Answer:
    """Sign the files of FOLDER so that stock tools verify them (OpenSSF Model Signing bundle).

    \b
    Example:
        chopmark sign model --key packager.pem
        model_signing verify key model --signature model.sig --public_key packager.pub
    """
    from chopmark.apps.cli.wiring import load_key
    from chopmark.artifacts import scan, write_file
    from chopmark.statements import build_oms

    manifest = scan(folder)
    bundle = out or folder.with_name(folder.name + ".sig")
    if bundle.resolve().is_relative_to(folder.resolve()):
        say("note: a bundle inside the folder would be a file of the package; it is better kept beside it")
    check_folder_of(bundle)
    write_file(bundle, build_oms(manifest, load_key(key), name=folder.name))
    data = {"ok": True, "bundle": str(bundle), "digest": str(manifest.digest)}
    return data, [good(f"{counted(len(manifest.files), 'file')} of {folder} signed: {bundle}")]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="The signer's public key (PEM).")
@click.option(
    "--signature", type=click.Path(path_type=Path), help="The bundle; default: FOLDER.sig or model.sig beside it."
)
@answers
def verify(folder: Path, key: Path, signature: Path | None) -> Answer:
    """Verify that FOLDER holds exactly the files that were signed.

    \b
    Example:
        chopmark verify packages/digits-1/package --key packages/digits-1/packager.pub
    """
    from chopmark.artifacts import read_file
    from chopmark.statements import verify_oms

    public = _public_key(key)
    bundle = read_file(signature or _beside(folder), max_bytes=8 * 1024 * 1024)
    manifest = _signed_files(folder)
    verify_oms(bundle, manifest, public)
    data = {"ok": True, "digest": str(manifest.digest), "files": len(manifest.files)}
    return data, [good(f"{folder}: {counted(len(manifest.files), 'file')}, exactly as signed"), f"  {manifest.digest}"]


def _public_key(path: Path) -> PublicKey:
    """Read the key to verify with; one that is none is a wrong call, and says nothing about the package."""
    from chopmark.artifacts import read_file
    from chopmark.keys import read_public_key

    try:
        return read_public_key(read_file(path, max_bytes=16_384))
    except DecodeError as error:
        hint = "name the signer's public key; `chopmark build package` leaves packager.pub beside the package"
        raise UsageError(f"{path}: {error.message}", hint=hint) from error


def _signed_files(folder: Path) -> Manifest:
    """Scan what is verified: a link in it is one more thing that was not signed, as an extra file is."""
    from chopmark.artifacts import NOT_REGULAR, scan

    try:
        return scan(folder)
    except UsageError as error:
        if error.code != NOT_REGULAR:
            raise
        raise VerificationError(
            error.message, code="oms-mismatch", hint="remove it, or get the package anew"
        ) from error


def _beside(folder: Path) -> Path:
    """Return the bundle beside *folder*: named after it, or as `build package` names it."""
    from chopmark.statements import OMS_FILE

    named = folder.with_name(folder.name + ".sig")
    return named if named.exists() else folder.with_name(OMS_FILE)
