# SPDX-License-Identifier: Apache-2.0
"""``hash``, ``sign`` and ``verify``: files and folders, without a workspace."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, columns, good, say


@click.command("hash")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--manifest", type=click.Path(path_type=Path), help="Also write the manifest to this file.")
@answers
def hash_(path: Path, manifest: Path | None) -> Answer:
    """Print the digest of the file or folder PATH: the package digest, and each file's.

    \b
    Example:
        chopmark hash packages/digits-1/package
    """
    from chopmark.artifacts import Manifest, hash_file, scan, write_file

    found = scan(path) if path.is_dir() else Manifest(files=(hash_file(path),))
    if manifest is not None:
        write_file(manifest, found.encode())
    data = {
        "ok": True,
        "digest": str(found.digest),
        "files": [{"name": f.name, "length": f.length, "sha256": f.sha256.hex} for f in found.files],
    }
    rows = [(f.name, f"{f.length:,} B", str(f.sha256)) for f in found.files]
    return data, [f"{found.digest}  {path}", *columns(rows, indent="  ")]


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
    write_file(bundle, build_oms(manifest, load_key(key), name=folder.name))
    data = {"ok": True, "bundle": str(bundle), "digest": str(manifest.digest)}
    return data, [good(f"{len(manifest.files)} files of {folder} signed: {bundle}")]


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
    from chopmark.artifacts import read_file, scan
    from chopmark.keys import read_public_key
    from chopmark.statements import verify_oms

    manifest = scan(folder)
    bundle = read_file(signature or _beside(folder), max_bytes=8 * 1024 * 1024)
    verify_oms(bundle, manifest, read_public_key(read_file(key, max_bytes=16_384)))
    data = {"ok": True, "digest": str(manifest.digest), "files": len(manifest.files)}
    return data, [good(f"{folder}: all {len(manifest.files)} files are as signed"), f"  {manifest.digest}"]


def _beside(folder: Path) -> Path:
    """Return the bundle beside *folder*: named after it, or as `build package` names it."""
    from chopmark.statements import OMS_FILE

    named = folder.with_name(folder.name + ".sig")
    return named if named.exists() else folder.with_name(OMS_FILE)
