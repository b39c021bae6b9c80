# SPDX-License-Identifier: Apache-2.0
"""``sign`` and ``verify``: files and folders, without a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.hashing import check_folder_of
from chopmark.apps.cli.progress import progress_over
from chopmark.apps.cli.render import Answer, answers, counted, good, say
from chopmark.errors import DecodeError, UsageError

if TYPE_CHECKING:
    from chopmark.statements import OmsTrust

_MAX_CHAIN_BYTES = 1024 * 1024


_IGNORE = "A name in the folder that {}, with all below it; may be given more than once."


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--key",
    required=True,
    help="A P-256 private key: a file (PKCS#8 PEM, mode 0600), or a URI such as pkcs11:… or openbao:….",
)
@click.option("--out", type=click.Path(path_type=Path), help="The bundle; default: PATH.sig beside it.")
@click.option("--ignore", multiple=True, metavar="NAME", help=_IGNORE.format("is left out"))
@click.option("--progress", is_flag=True, help="Say how far it is, also where stderr is no terminal.")
@answers
def sign(path: Path, key: str, out: Path | None, ignore: tuple[str, ...], *, progress: bool) -> Answer:
    """Sign the folder or file PATH so that stock tools verify it (OpenSSF Model Signing bundle).

    \b
    Example:
        chopmark sign model --key packager.pem
        model_signing verify key model --signature model.sig --public_key packager.pub
    """
    from chopmark.apps.cli.wiring import load_key
    from chopmark.artifacts import write_file
    from chopmark.statements import default_bundle, sign_files
    from chopmark.statements.oms import check_key_outside

    place = out or default_bundle(path)
    check_folder_of(place)
    check_key_outside(path, Path(key.removeprefix("file:")), ignore)
    signer = load_key(key)
    with progress_over(path, asked=progress) as show:
        signed = sign_files(path, signer, out=place, ignore=ignore, on_progress=show)
    write_file(place, signed.bundle)
    for name in signed.left_out:
        say(f"note: {name} is there and not signed")
    data = {
        "ok": True,
        "bundle": str(place),
        "root": str(signed.root),
        "files": signed.files,
        "left_out": list(signed.left_out),
    }
    return data, [good(f"{counted(signed.files, 'file')} of {path} signed: {place}")]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(), help="The signer's public key (PEM; P-256, P-384 or P-521).")
@click.option(
    "--certificate-chain", type=click.Path(path_type=Path), help="Certificates of the authorities that you trust (PEM)."
)
@click.option(
    "--signature",
    type=click.Path(path_type=Path),
    help="The bundle; default: PATH.sig or model.sig beside it, or in it.",
)
@click.option("--ignore", multiple=True, metavar="NAME", help=_IGNORE.format("may be there unsigned"))
@click.option("--progress", is_flag=True, help="Say how far it is, also where stderr is no terminal.")
@answers
def verify(
    path: Path,
    key: str | None,
    certificate_chain: Path | None,
    signature: Path | None,
    ignore: tuple[str, ...],
    *,
    progress: bool,
) -> Answer:
    """Verify that the folder or file PATH is exactly what was signed.

    \b
    Example:
        chopmark verify packages/digits-1/package --key packages/digits-1/packager.pub
        chopmark verify model --certificate-chain ca.pem --signature model/model.sig
    """
    from chopmark.statements import verify_files

    trusted = _trusted(key, certificate_chain)
    with progress_over(path, asked=progress) as show:
        found = verify_files(path, trusted, signature=signature, ignore=ignore, on_progress=show)
    for name in found.unsigned:
        say(f"note: {name} is not signed, and was not looked at")
    number = len(found.listing.files)
    data = {
        "ok": True,
        "root": str(found.listing.root),
        "files": number,
        "signature": str(found.signature),
        "signer": found.signer,
        "unsigned": list(found.unsigned),
    }
    what = counted(number, "file")
    return data, [good(f"{path}: {what}, exactly as signed by {found.signer}"), f"  root {found.listing.root}"]


def _trusted(key: str | None, chain: Path | None) -> OmsTrust:
    """Return whose signature counts; what is no key is a wrong call, and says nothing about the model."""
    from chopmark.artifacts import read_file
    from chopmark.statements import OmsKey

    if chain is not None and key is None:
        from chopmark.clock import SystemClock
        from chopmark.statements.oms.certificates import OmsAuthorities

        return OmsAuthorities.read(read_file(chain, max_bytes=_MAX_CHAIN_BYTES), now=SystemClock().now())
    if key is None or chain is not None:
        raise UsageError("whose signature?", hint="name one: --key KEY.pub, or --certificate-chain ca.pem")
    if not key:
        raise UsageError("the name of the key is empty", hint="name a file; is a variable not set?")
    if "-----BEGIN " in key:  # not repeated: it may be a private one
        raise UsageError("the text of a key does not name one", hint="write it to a file, and name that")
    try:
        return OmsKey.read(read_file(Path(key), max_bytes=16_384))
    except DecodeError as error:
        hint = "name the signer's public key; `chopmark build package` leaves packager.pub beside the package"
        raise UsageError(f"{key}: {error.message}", hint=hint) from error
