# SPDX-License-Identifier: Apache-2.0
"""``sigstore verify``: a file against its bundle, by a key or by an identity, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from chopmark.apps.cli.render import Answer, answers, good, moment

if TYPE_CHECKING:
    from chopmark.artifacts import Digest
    from chopmark.ledger import Included
    from chopmark.ledger.rekor import LogEntry
    from chopmark.statements.sigstore import Bundle, Signed

_MAX_KEY_BYTES: Final = 16_384
_path = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=_path)
@click.option("--bundle", type=_path, help="The bundle; default: FILE.sigstore.json.")
@click.option(
    "--trusted-root", type=_path, help="Whom to believe: the trusted_root.json of whoever runs log and Fulcio."
)
@click.option("--key", type=_path, help="The signer's public key (PEM).")
@click.option("--identity", help="Without --key: who signed, as the certificate says it: an e-mail address or URI.")
@click.option("--issuer", help="With --identity: who vouches for it: the address of the OpenID Connect issuer.")
@click.option("--unlogged", is_flag=True, help="With --key: accept a bundle without a log entry.")
@answers
def verify(
    file: Path,
    bundle: Path | None,
    trusted_root: Path | None,
    key: Path | None,
    identity: str | None,
    issuer: str | None,
    unlogged: bool,  # noqa: FBT001 - click passes it by name
) -> Answer:
    """Verify that FILE was signed, and that the signature is logged. Nothing is looked up in the network.

    With --key the signature and the proof of the log entry are verified here. With --identity and --issuer Sigstore's own
    library decides: certificate, time, log entry, signature.

    \b
    Example:
        chopmark sigstore verify model.onnx --trusted-root trusted_root.json --key signer.pub
        chopmark sigstore verify model.onnx --trusted-root root.json --identity ci@acme.example --issuer https://id.acme.example
    """
    from chopmark.artifacts import hash_file, read_file
    from chopmark.errors import UsageError
    from chopmark.statements.sigstore import MAX_BUNDLE_BYTES, decode_bundle

    if (key is None) is (identity is None) or (identity is None) is not (issuer is None) or (unlogged and key is None):
        hint = "--key signer.pub, or --identity with --issuer; --unlogged goes with --key"
        raise UsageError("whose signature is it to be?", hint=hint)
    if trusted_root is None and not unlogged:
        hint = "chopmark sigstore trusted-root writes it for a log of yours; for another, ask whoever runs it"
        raise UsageError("no --trusted-root: which log is believed?", hint=hint)
    data = read_file(bundle or file.with_name(file.name + ".sigstore.json"), max_bytes=MAX_BUNDLE_BYTES)
    read = decode_bundle(data)
    digest = hash_file(file).sha256
    if key is not None:
        return _by_key(file, digest, read, key=key, root=None if unlogged and not read.entries else trusted_root)
    return _by_identity(file, digest, data, who=(identity or "", issuer or ""), root=trusted_root)


def _by_key(file: Path, digest: Digest, bundle: Bundle, *, key: Path, root: Path | None) -> Answer:
    from chopmark.artifacts import read_file
    from chopmark.errors import DecodeError, UsageError
    from chopmark.keys import read_public_key
    from chopmark.statements.sigstore import verify_bundle

    try:
        public = read_public_key(read_file(key, max_bytes=_MAX_KEY_BYTES))
    except DecodeError as error:  # a wrong call: it says nothing about the file
        raise UsageError(f"{key}: {error.message}", hint="name the signer's public key (PEM)") from error
    signed = verify_bundle(bundle, digest, public)
    included = None if root is None else _logged(bundle, signed, root)
    lines = [good(f"{file}: signed by {public.keyid[:8]}{_what(signed.predicate_type)}")]
    log = None
    if included is not None:
        checkpoint = included.checkpoint
        log = {"index": included.index, "size": checkpoint.size, "origin": checkpoint.origin}
        lines.append(f"  entry {included.index} of {checkpoint.size} in {checkpoint.origin}")
    else:
        lines.append("  not looked for in any log")
    data = {"ok": True, "digest": str(digest), "key": public.keyid, "predicate_type": signed.predicate_type, "log": log}
    return data, lines


def _by_identity(file: Path, digest: Digest, bundle: bytes, *, who: tuple[str, str], root: Path | None) -> Answer:
    from chopmark.apps.cli.sigstore.wiring import open_sigstore
    from chopmark.artifacts import read_file
    from chopmark.errors import UsageError
    from chopmark.ledger.rekor import MAX_ROOT_BYTES, TrustedRoot
    from chopmark.statements.sigstore.ports import Identity

    if root is None:
        raise UsageError("no --trusted-root")
    trusted = read_file(root, max_bytes=MAX_ROOT_BYTES)
    TrustedRoot.decode(trusted)
    subject, issuer = who
    found = open_sigstore().verify(
        digest, bundle, trusted_root=trusted, identity=Identity(subject=subject, issuer=issuer)
    )
    data = {
        "ok": True,
        "digest": str(digest),
        "identity": subject,
        "issuer": issuer,
        "certified": found.valid_from,
        "predicate_type": found.predicate_type,
        "log": {"index": found.index},
    }
    lines = [
        good(f"{file}: signed by {subject}{_what(found.predicate_type)}"),
        f"  says {issuer}; certificate of {moment(found.valid_from)}; log entry {found.index}",
    ]
    return data, lines


def _logged(bundle: Bundle, signed: Signed, root: Path) -> Included:
    """Check that the signature is logged; of several entries, those of trusted logs all have to prove it."""
    from chopmark.artifacts import read_file
    from chopmark.errors import VerificationError
    from chopmark.ledger.rekor import MAX_ROOT_BYTES, HashedRekord, TrustedRoot

    trusted = TrustedRoot.decode(read_file(root, max_bytes=MAX_ROOT_BYTES))
    if not bundle.entries:
        hint = "chopmark sigstore sign --ledger logs it; --unlogged does without"
        raise VerificationError("the bundle has no log entry", code="not-logged", hint=hint)
    leaf = HashedRekord(
        digest=signed.digest.value, signature=signed.signature, verifier=signed.verifier, certificate=signed.certificate
    ).encode()
    entries = [_entry(data) for data in bundle.entries]
    known = [entry for entry in entries if trusted.knows(entry)] or entries[:1]  # none: verifying says so
    first, *_ = [trusted.verify(entry, leaf) for entry in known]
    return first


def _entry(data: bytes) -> LogEntry:
    from chopmark.errors import DecodeError
    from chopmark.ledger.rekor import LogEntry

    try:
        return LogEntry.decode(data)
    except DecodeError as error:
        hint = "entries of Rekor v2 and of logs of ours are read; for one of Rekor v1: cosign verify-blob --key"
        raise DecodeError(error.message, hint=hint) from error


def _what(predicate_type: str) -> str:
    return f", in a statement {predicate_type}" if predicate_type else ""
