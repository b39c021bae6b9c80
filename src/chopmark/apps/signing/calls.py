# SPDX-License-Identifier: Apache-2.0
"""``chopmark.sign`` and ``chopmark.verify``, and what they return."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chopmark.artifacts import Digest, read_file, write_file
from chopmark.errors import DecodeError, UsageError
from chopmark.keys import PublicKey, Signer
from chopmark.statements import OmsKey, OmsTrust, default_bundle, sign_files, verify_files
from chopmark.statements.oms import check_key_outside

if TYPE_CHECKING:
    from chopmark.trust import TrustPolicy

_MAX_PEM_BYTES = 1024 * 1024
_PEM = "-----BEGIN "


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A bundle that was written.

    Attributes:
        path: what was signed.
        bundle: where the bundle is.
        files: how many files it lists.
        root: the digest by which stock tools name the model; it does not bind names.
        left_out: what is there and was not signed, relative to *path*.
    """

    path: Path
    bundle: Path
    files: int
    root: Digest
    left_out: tuple[str, ...]

    def _repr_html_(self) -> str:
        rows = [("signed", self.path), ("bundle", self.bundle), ("files", f"{self.files:,}"), ("root", self.root)]
        return _table([*rows, *(("not signed", name) for name in self.left_out)])


@dataclass(frozen=True, kw_only=True)
class Verified:
    """Files that are exactly those that somebody signed. There is no other kind: a failed verification raises.

    Attributes:
        path: what was verified.
        signature: the bundle that says so.
        signer: who signed, for people.
        files: name -> SHA-256 of each file, as it was read. A single file is called ``.`` or by its name.
        root: the digest by which stock tools name the model; it does not bind names.
        unsigned: what the caller chose to ignore and is there, relative to *path*.
    """

    path: Path
    signature: Path
    signer: str
    files: dict[str, Digest]
    root: Digest
    unsigned: tuple[str, ...]

    def _repr_html_(self) -> str:
        rows = [("verified", self.path), ("signed by", self.signer), ("files", f"{len(self.files):,}")]
        rows += [("root", self.root), ("bundle", self.signature)]
        return _table([*rows, *(("not signed", name) for name in self.unsigned)])


def sign(
    path: str | Path, *, key: str | Path | Signer, out: str | Path | None = None, ignore: Collection[str] = ()
) -> Signed:
    """Sign the folder or file *path*, and write the bundle.

    Args:
        key: a private P-256 key: its file (PKCS#8 PEM, mode 0600), or a signer that is open already.
        out: where the bundle goes; beside *path* and named after it otherwise.
        ignore: names in the folder that are left out, with all below them.

    Raises:
        UsageError: nothing to sign, a link in the folder, a key that stock tools do not know.
        VerificationError: a file changed while it was read.
        UndecidedError: the key is not here, or the bundle cannot be written.
    """
    from chopmark.apps.signing.wiring import open_key

    path = Path(path)
    place = default_bundle(path) if out is None else Path(out)
    if not place.parent.is_dir():
        raise UsageError(f"{place}: there is no folder {place.parent}", hint=f"make it first: mkdir -p {place.parent}")
    if not isinstance(key, Signer):
        signer = open_key(key)
        check_key_outside(path, Path(str(key).removeprefix("file:")), _names(ignore))
    else:
        signer = key
    signed = sign_files(path, signer, out=place, ignore=_names(ignore))
    write_file(place, signed.bundle)
    return Signed(path=path, bundle=place, files=signed.files, root=signed.root, left_out=signed.left_out)


def verify(
    path: str | Path,
    *,
    key: str | bytes | Path | PublicKey | None = None,
    trust: str | bytes | Path | PublicKey | TrustPolicy | None = None,
    signature: str | Path | None = None,
    ignore: Collection[str] = (),
) -> Verified:
    """Check that the folder or file *path* is exactly what was signed, and return what was found.

    Args:
        key: the signer's public key (P-256, P-384 or P-521): a file, PEM text, or a key of ours.
        trust: whom to believe, instead of *key*. A key, as there; certificates of authorities (a file, or PEM text), for
            bundles that carry a certificate; a folder in a workspace, or its trust policy: then a key counts whose owner
            holds a role that may sign such a bundle about its subject (``packager``) and needs one owner.
        signature: the bundle; looked for beside *path* and in it otherwise.
        ignore: names in the folder that may be there unsigned, with all below them.

    Raises:
        VerificationError: it is not; ``code`` says what is wrong (``oms-altered``, ``oms-unsigned`` …) and ``evidence``
            names the files.
        UsageError: no key and no trust, or something that cannot be read.
    """
    if (key is None) == (trust is None):
        raise UsageError("whose signature?", hint="name one: key=…, or trust=…")
    believed = _key(key) if key is not None else _trust(trust)
    place = None if signature is None else Path(signature)
    found = verify_files(Path(path), believed, signature=place, ignore=_names(ignore))
    return Verified(
        path=Path(path),
        signature=found.signature,
        signer=found.signer,
        files={name: Digest(digest) for name, digest in found.listing.files.items()},
        root=found.listing.root,
        unsigned=found.unsigned,
    )


def _names(ignore: Collection[str]) -> Collection[str]:
    """Return *ignore*; one name is one name, and not its letters, each of which would be a name too."""
    return (ignore,) if isinstance(ignore, str) else ignore


def _trust(trust: object) -> OmsTrust:
    from chopmark.trust import TrustPolicy

    if isinstance(trust, TrustPolicy):
        return _policy(trust)
    if isinstance(trust, str | Path) and not _is_pem(trust) and Path(trust).is_dir():
        from chopmark.apps.signing.wiring import workspace_trust

        return _policy(workspace_trust(Path(trust)))
    if isinstance(trust, str | bytes | Path) and b"BEGIN CERTIFICATE" in (pem := _pem(trust)):
        from chopmark.apps.signing.wiring import clock
        from chopmark.statements.oms.certificates import OmsAuthorities

        return OmsAuthorities.read(pem, now=clock().now())
    return _key(trust)


def _policy(trust: TrustPolicy) -> OmsTrust:
    from chopmark.statements.oms.roles import OmsRoles

    return OmsRoles(trust)


def _key(key: object) -> OmsKey:
    if isinstance(key, PublicKey):
        return OmsKey.from_public(key)
    if not isinstance(key, str | bytes | Path):
        raise UsageError(f"a {type(key).__name__} is no key", hint="a file, PEM text, or a PublicKey")
    try:
        return OmsKey.read(_pem(key))
    except DecodeError as error:
        raise UsageError(f"{error.message}", hint="name the signer's public key") from error


def _pem(source: str | bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str) and _is_pem(source):
        return source.encode()
    return read_file(Path(source), max_bytes=_MAX_PEM_BYTES)


def _is_pem(source: str | Path) -> bool:
    return isinstance(source, str) and _PEM in source


def _table(rows: Iterable[tuple[str, object]]) -> str:
    """Return *rows* as an HTML table; what stands in them may come from whoever made the files."""
    cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"
