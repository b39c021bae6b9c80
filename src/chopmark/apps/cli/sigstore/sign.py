# SPDX-License-Identifier: Apache-2.0
"""``sigstore sign`` and ``sigstore export``: make a bundle, and log its signature in a log of one's own."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from chopmark.apps.cli.hashing import check_folder_of
from chopmark.apps.cli.render import Answer, answers, dim, good

if TYPE_CHECKING:
    from chopmark.artifacts import Digest
    from chopmark.keys import PublicKey
    from chopmark.ledger import Included
    from chopmark.ledger.rekor import HashedRekord
    from chopmark.statements import Envelope
    from chopmark.statements.sigstore import Bundle

MAX_SIGNED_BYTES: Final = 1024 * 1024 * 1024
"""A key signs the file itself, which is held in memory for it."""
_MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024
_MAX_TOKEN_BYTES: Final = 16_384
_MAX_CERTIFICATE_BYTES: Final = 256 * 1024
TOKEN: Final = "SIGSTORE_ID_TOKEN"  # noqa: S105 - its name, which other clients read too

_path = click.Path(path_type=Path)
_ledger = click.option("--ledger", "logged", is_flag=True, help="Log the signature in the nearest log of your own.")
_tsa = click.option("--tsa", metavar="URL", help="Have the signature timestamped there (RFC 3161).")


@click.command()
@click.argument("file", type=_path)
@click.option("--key", help="A P-256 private key: a file, or a URI such as pkcs11:… or openbao:….")
@click.option("--certificate", type=_path, help="The key's certificate (PEM): verifiers then need no key.")
@_ledger
@_tsa
@click.option("--keyless", is_flag=True, help="Sign with a certificate that a Fulcio gives to the holder of a token.")
@click.option(
    "--trust-config", type=_path, help="With --keyless: which Fulcio, log and timestamp authority (ClientTrustConfig)."
)
@click.option(
    "--identity-token", type=_path, help=f"With --keyless: a file, mode 0600, with the token; default: ${TOKEN}."
)
@click.option("--out", type=_path, help="The bundle; default: FILE.sigstore.json.")
@click.pass_obj
@answers
def sign(
    start: Path,
    file: Path,
    key: str | None,
    certificate: Path | None,
    logged: bool,  # noqa: FBT001 - click passes it by name
    tsa: str | None,
    keyless: bool,  # noqa: FBT001
    trust_config: Path | None,
    identity_token: Path | None,
    out: Path | None,
) -> Answer:
    """Sign FILE; write a Sigstore bundle v0.3 beside it.

    With --ledger the signature becomes an entry of your log, and the bundle carries its proof. With --keyless certificate,
    log and timestamp are those of the Sigstore that --trust-config names.

    \b
    Example:
        chopmark sigstore sign model.onnx --key signer.pem --ledger
        chopmark sigstore sign model.onnx --keyless --trust-config sigstore.json --identity-token token
    """
    from chopmark.errors import UsageError

    target = out or file.with_name(file.name + ".sigstore.json")
    check_folder_of(target)
    if keyless:
        if trust_config is None or key or certificate or logged or tsa:
            hint = "--keyless takes --trust-config and --identity-token alone: it names log and timestamp authority"
            raise UsageError("--keyless with options of a key, or without --trust-config", hint=hint)
        return _keyless(file, trust_config, identity_token, target)
    if key is None or trust_config or identity_token:
        raise UsageError("no key to sign with", hint="give --key, or --keyless with --trust-config")
    if not logged:
        _check_loses_no_entry(target)
    bundle, record = _signed(file, key, certificate, target)
    return _written(file, _finish(bundle, record, target, start=start, logged=logged, tsa=tsa), target)


@click.command()
@click.argument("envelope", type=_path)
@click.option(
    "--key", "keys", type=_path, multiple=True, help="The public key that signed (PEM); default: those of trust.json."
)
@_ledger
@_tsa
@click.option("--out", type=_path, help="The bundle; default: ENVELOPE.sigstore.json.")
@click.pass_obj
@answers
def export(
    start: Path,
    envelope: Path,
    keys: tuple[Path, ...],
    logged: bool,  # noqa: FBT001 - click passes it by name
    tsa: str | None,
    out: Path | None,
) -> Answer:
    """Write the statement in ENVELOPE (DSSE, or an OMS bundle) as a Sigstore bundle, with its first P-256 signature.

    Nothing is signed anew. Other signatures stay where they are: a bundle has one.

    \b
    Example:
        chopmark sigstore export model.sig --key packager.pub --ledger
    """
    from dataclasses import replace

    from chopmark.apps.cli.ledger.rekor import read_signed, records_of
    from chopmark.statements import Signature

    target = out or envelope.with_name(envelope.name + ".sigstore.json")
    check_folder_of(target)
    records = records_of(start, envelope, keys)
    key, record = records.made[0]
    # Without a key id: a client in Go passes over a signature whose id is not the one that it would give the key.
    one = replace(read_signed(envelope), signatures=(Signature("", record.signature),))
    finished = _finish(_exported(envelope, one, key), record, target, start=start, logged=logged, tsa=tsa)
    data, lines = _written(envelope, finished, target, done="exported")
    left = [f"{other.keyid[:8]}: a bundle has one signature" for other, _ in records.made[1:]]
    left += records.passed_over
    return {**data, "left_out": left}, [*lines, *(dim(f"  left out: {line}") for line in left)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finished:
    """A bundle, and where its signature is logged; None where it is not."""

    bundle: Bundle
    included: Included | None


def _signed(file: Path, key: str, certificate: Path | None, target: Path) -> tuple[Bundle, HashedRekord]:
    """Return the signed bundle of *file*, and the leaf that logs it.

    A signature that stands in *target* already is kept: P-256 signs differently each time, and one signature is logged once.
    """
    from chopmark.apps.cli.wiring import load_key
    from chopmark.artifacts import Digest, read_file
    from chopmark.ledger.rekor import HashedRekord
    from chopmark.statements.sigstore import MessageSignature, bundle_of, read_certificates, verify_bundle

    chain = (
        (None,) if certificate is None else read_certificates(read_file(certificate, max_bytes=_MAX_CERTIFICATE_BYTES))
    )
    signer = load_key(key)
    data = _read(file)
    digest = Digest.of(data)
    before = _signature_in(target, digest, signer.public)
    content = MessageSignature(digest=digest, signature=before or signer.sign(data))
    bundle = bundle_of(content, signer.public, certificate=chain[0])
    made = verify_bundle(bundle, digest, signer.public)
    record = HashedRekord(
        digest=made.digest.value, signature=made.signature, verifier=made.verifier, certificate=made.certificate
    )
    return bundle, record


def _check_loses_no_entry(target: Path) -> None:
    """Check that no bundle with a log entry is replaced by one without.

    Raises:
        UsageError: ``entry-lost``.
    """
    from chopmark.artifacts import read_file
    from chopmark.errors import ChopmarkError, UsageError
    from chopmark.statements.sigstore import MAX_BUNDLE_BYTES, decode_bundle

    try:
        entries = decode_bundle(read_file(target, max_bytes=MAX_BUNDLE_BYTES)).entries
    except ChopmarkError:  # there is none, or something else
        return
    if entries:
        raise UsageError(
            f"{target}: holds the proof that its signature was logged, and would lose it",
            code="entry-lost",
            hint="add --ledger, name another --out, or remove it",
        )


def _signature_in(target: Path, digest: Digest, public: PublicKey) -> bytes | None:
    """Return the signature by *public* over what has *digest*, where the bundle *target* holds one."""
    from chopmark.artifacts import read_file
    from chopmark.errors import ChopmarkError
    from chopmark.statements.sigstore import MAX_BUNDLE_BYTES, MessageSignature, decode_bundle

    try:
        bundle = decode_bundle(read_file(target, max_bytes=MAX_BUNDLE_BYTES))
    except ChopmarkError:  # there is none, or something else
        return None
    content = bundle.content
    good = isinstance(content, MessageSignature) and public.verify_digest(content.signature, digest.value)
    return bundle.signature if good else None


def _read(file: Path) -> bytes:
    from chopmark.artifacts import read_file
    from chopmark.errors import DecodeError, UsageError

    hint = "sign its folder by digests, then export: chopmark sign FOLDER, chopmark sigstore export FOLDER.sig"
    if file.is_dir():
        raise UsageError(f"{file}: is a folder; a key signs one file", hint=hint)
    try:
        return read_file(file, max_bytes=MAX_SIGNED_BYTES)
    except DecodeError as error:
        raise UsageError(f"{error.message}: a key signs the whole file", code="too-large", hint=hint) from error


def _exported(path: Path, envelope: Envelope, key: PublicKey) -> Bundle:
    """Return the bundle of *envelope*; where *path* is a bundle already, its key hint or certificate stays."""
    from chopmark.apps.cli.ledger.rekor import MAX_ENVELOPE_BYTES
    from chopmark.artifacts import read_file
    from chopmark.errors import DecodeError
    from chopmark.statements.sigstore import KeyHint, bundle_of, decode_bundle

    try:
        material = decode_bundle(read_file(path, max_bytes=MAX_ENVELOPE_BYTES)).material
    except DecodeError:
        return bundle_of(envelope, key)
    if isinstance(material, KeyHint):
        return bundle_of(envelope, key, hint=material.hint)
    return bundle_of(envelope, key, certificate=material.leaf)


def _finish(
    bundle: Bundle, record: HashedRekord, target: Path, *, start: Path, logged: bool, tsa: str | None
) -> _Finished:
    """Add what was asked for: first the timestamp, so that nothing is logged in vain; then the log's proof.

    What is signed is in *target* before it is logged: a log that has no witnessed checkpoint yet is asked again.
    """
    from dataclasses import replace

    from chopmark.artifacts import write_file
    from chopmark.errors import UndecidedError
    from chopmark.statements.sigstore import Certificates, encode_bundle

    included = None
    if tsa is not None:
        from chopmark.apps.cli.sigstore.wiring import open_sigstore

        bundle = replace(bundle, timestamps=(open_sigstore().timestamp(bundle.signature, url=tsa),))
    if logged:
        from chopmark.apps.cli.ledger.rekor import log_here

        if isinstance(bundle.material, Certificates):
            record = replace(record, verifier=bundle.material.leaf, certificate=True)
        write_file(target, encode_bundle(bundle))
        try:
            entry, included = log_here(start, record.encode())
        except UndecidedError as error:
            hint = f"{target} has the signature, without its entry: when witnesses saw the log, run this again"
            raise UndecidedError(error.message, code=error.code, hint=hint, evidence=error.evidence) from error
        bundle = replace(bundle, entries=(entry.encode(),))
    return _Finished(bundle=bundle, included=included)


def _keyless(file: Path, trust_config: Path, token: Path | None, target: Path) -> Answer:
    from chopmark.apps.cli.sigstore.wiring import open_sigstore
    from chopmark.artifacts import hash_file, read_file, write_file
    from chopmark.statements.sigstore import decode_bundle

    client = open_sigstore()
    config = read_file(trust_config, max_bytes=_MAX_CONFIG_BYTES)
    digest = hash_file(file).sha256
    made = client.sign(digest, trust_config=config, token=_token(token))
    decode_bundle(made)
    write_file(target, made)
    data = {"ok": True, "bundle": str(target), "digest": str(digest), "log": None}
    return data, [good(f"{file} signed, keyless: {target}")]


def _token(path: Path | None) -> str:
    """Return the identity token: from a file that nobody else reads, or the environment; never from an argument."""
    from chopmark.artifacts import read_file
    from chopmark.errors import UsageError

    if path is None:
        text = os.environ.get(TOKEN, "")
        if not text:
            raise UsageError("no identity token", hint=f"--identity-token names a file with it, or set {TOKEN}")
        return text.strip()
    data = read_file(path, max_bytes=_MAX_TOKEN_BYTES)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UsageError(f"{path}: others may read this token", hint=f"chmod 600 {path}; get a new one")
    try:
        return data.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is no token") from error


def _written(file: Path, finished: _Finished, target: Path, *, done: str = "signed") -> Answer:
    from chopmark.artifacts import write_file
    from chopmark.statements.sigstore import encode_bundle

    write_file(target, encode_bundle(finished.bundle))
    log, lines = None, [good(f"{file} {done}: {target}")]
    if finished.included is not None:
        found = finished.included
        log = {"index": found.index, "size": found.checkpoint.size, "origin": found.checkpoint.origin}
        lines.append(f"  entry {found.index} of {found.checkpoint.size} in {found.checkpoint.origin}")
    return {"ok": True, "bundle": str(target), "log": log}, lines
