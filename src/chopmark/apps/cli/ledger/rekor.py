# SPDX-License-Identifier: Apache-2.0
"""``ledger rekor``: log signatures in a Rekor v2 log, or in a log of one's own so that Sigstore clients read the entry.

An entry lies beside its envelope: ``model.sig.1a2b3c4d.tle.json``, with the first of the key id that signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.lazy import lazy_group
from chopmark.apps.cli.render import Answer, answers, dim, good, say

if TYPE_CHECKING:
    from chopmark.keys import PublicKey
    from chopmark.ledger import Included, VerifierKey, WitnessPolicy
    from chopmark.ledger.place import LogPlace
    from chopmark.ledger.rekor import HashedRekord, LogEntry, Records
    from chopmark.statements import Envelope

MAX_ENVELOPE_BYTES = 8 * 1024 * 1024
_MAX_KEY_BYTES = 16_384
_MAX_POLICY_BYTES = 1024 * 1024
_READ_PATH = "/api/v2"
COMMANDS = {
    "append": ("rekor:append", "log the signatures of an envelope, and keep the verified entries"),
    "verify": ("rekor:verify", "verify the entries of an envelope offline"),
    "entry": ("rekor:entry", "an entry of one's own log, for Sigstore clients"),
}

_path = click.Path(path_type=Path)
_keys = click.option(
    "--key", "keys", type=_path, multiple=True, help="A public key that signed (PEM); default: those of trust.json."
)
_log_key = click.option(
    "--log-key", type=_path, help="The Rekor log's public key: PEM, or a vkey. Without it: the nearest log of your own."
)
_origin = click.option("--origin", help="The Rekor log's name in its checkpoints; default: --url without https://.")
_policy = click.option(
    "--policy", type=_path, help="Which witnesses are enough (C2SP tlog-policy); default: none asked."
)


@click.group(cls=lazy_group("chopmark.apps.cli.ledger", COMMANDS))
def rekor() -> None:
    """Rekor v2: log signatures there, and let Sigstore clients read what is logged here.

    \b
    Example:
        chopmark ledger rekor append model.sig --url https://rekor.example --log-key rekor.pub
        chopmark ledger rekor verify model.sig --log-key rekor.pub --origin rekor.example

    Rekor logs P-256 signatures: the digest of what was signed, the signature, the key. It has no ML-DSA and no pure Ed25519.
    """


@click.command()
@click.argument("envelope", type=_path)
@click.option("--url", help="The Rekor log's address. Without it: the nearest log of your own.")
@click.option("--files", help="Where its tiles are, an address or a folder; default: --url with /api/v2.")
@_log_key
@_origin
@_policy
@_keys
@click.pass_obj
@answers
def append(
    start: Path,
    envelope: Path,
    url: str | None,
    files: str | None,
    log_key: Path | None,
    origin: str | None,
    policy: Path | None,
    keys: tuple[Path, ...],
) -> Answer:
    """Log each P-256 signature of ENVELOPE (DSSE, or an OMS bundle), and write its verified entry beside it.

    What is in the log already keeps its place. Nothing is written that does not verify.

    \b
    Example:
        chopmark ledger rekor append model.sig --url https://rekor.example --log-key rekor.pub
        chopmark ledger rekor append model.sig --key packager.pub
    """
    from chopmark.artifacts import write_file
    from chopmark.errors import UsageError

    if (url is None) is not (log_key is None):
        hint = "what a log answers is verified before it is kept: give --url and --log-key together, or neither"
        raise UsageError("an address without a log key, or a key without an address", hint=hint)
    records = records_of(start, envelope, keys)
    if url is not None and log_key is not None:
        log = _theirs(log_key, origin or url.split("://", 1)[-1].rstrip("/"), policy)
        logged = _append_theirs(records, log, url=url, files=files or url.rstrip("/") + _READ_PATH)
    else:
        logged = _append_ours(records, start)
    for made in logged:
        write_file(_beside(envelope, made.key), made.entry.encode())
    return _answer(envelope, logged, records)


@click.command()
@click.argument("envelope", type=_path)
@click.option("--entry", type=_path, help="One entry; default: those beside ENVELOPE, one for each P-256 signature.")
@_log_key
@_origin
@_policy
@_keys
@click.pass_obj
@answers
def verify(
    start: Path,
    envelope: Path,
    entry: Path | None,
    log_key: Path | None,
    origin: str | None,
    policy: Path | None,
    keys: tuple[Path, ...],
) -> Answer:
    """Verify offline that the signatures of ENVELOPE are logged: signature, leaf, inclusion, log key, witnesses.

    \b
    Example:
        chopmark ledger rekor verify model.sig --log-key rekor.pub --origin rekor.example
        chopmark ledger rekor verify model.sig --key packager.pub
    """
    from chopmark.ledger.rekor import verify_entry

    records = records_of(start, envelope, keys)
    log = _ours(start) if log_key is None else _theirs(log_key, origin, policy)
    logged = []
    for key, record, read in _kept(envelope, records, entry):
        found = verify_entry(read, record.encode(), origin=log.origin, require=log.require, policy=log.policy)
        logged.append(_Made(key=key, entry=read, included=found))
    return _answer(envelope, logged, records)


@click.command()
@click.argument("index", type=int)
@click.option("--out", type=_path, help="Write it here; default: print it.")
@click.pass_obj
@answers
def entry(start: Path, index: int, out: Path | None) -> Answer:
    """Write entry INDEX of the nearest log of your own, a hashedrekord, as Sigstore clients read it.

    Such entries are made by `chopmark ledger rekor append` without --url.

    \b
    Example:
        chopmark ledger rekor entry 7 --out 7.tle.json
    """
    from chopmark.artifacts import write_file

    made, _ = _export(start, index)
    text = made.encode()
    if out is not None:
        write_file(out, text)
    data = {"ok": True, "index": index, "entry": text.decode()}
    return data, [good(f"entry {index}: {out}") if out else text.decode()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    """How a log is verified."""

    origin: str
    require: tuple[str | VerifierKey, ...]
    policy: WitnessPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A verified entry, and the key whose signature it logs."""

    key: PublicKey
    entry: LogEntry
    included: Included
    new: bool = False


def records_of(start: Path, envelope: Path, keys: tuple[Path, ...]) -> Records:
    """Return what of the file *envelope* can be logged; say what cannot."""
    from chopmark.apps.cli.wiring import Site
    from chopmark.artifacts import read_file
    from chopmark.keys import read_public_key
    from chopmark.ledger.rekor import record_signatures

    signed = read_signed(envelope)
    if keys:
        known = [read_public_key(read_file(path, max_bytes=_MAX_KEY_BYTES)) for path in keys]
    else:
        known = [key for owner in Site.at(start).trust.owners.values() for key in owner.keys]
    return record_signatures(signed.message, ((s.keyid, s.sig) for s in signed.signatures), known)


def read_signed(path: Path) -> Envelope:
    """Return the envelope in a file: DSSE, or an OMS bundle.

    Raises:
        DecodeError: neither.
    """
    from chopmark.artifacts import read_file
    from chopmark.errors import DecodeError
    from chopmark.statements import decode_envelope, decode_oms

    data = read_file(path, max_bytes=MAX_ENVELOPE_BYTES)
    try:
        return decode_envelope(data)
    except DecodeError as first:
        try:
            return decode_oms(data)
        except DecodeError:
            raise first from None


def _kept(envelope: Path, records: Records, entry: Path | None) -> Iterator[tuple[PublicKey, HashedRekord, LogEntry]]:
    """Yield what to verify: the file *entry* for the signature that it is about, or for each signature the file beside it."""
    from chopmark.artifacts import read_file
    from chopmark.errors import VerificationError
    from chopmark.ledger.rekor import MAX_LOG_ENTRY_BYTES, LogEntry

    if entry is not None:
        read = LogEntry.decode(read_file(entry, max_bytes=MAX_LOG_ENTRY_BYTES))
        about = [(key, record) for key, record in records.made if record.encode() == read.body]
        for key, record in about or records.made[:1]:  # about none of them: verifying says so
            yield key, record, read
        return
    for key, record in records.made:
        path = _beside(envelope, key)
        if not path.exists():
            hint = "chopmark ledger rekor append writes it"
            raise VerificationError(
                f"{path}: no entry for the signature of {key.keyid[:8]}", code="not-logged", hint=hint
            )
        yield key, record, LogEntry.decode(read_file(path, max_bytes=MAX_LOG_ENTRY_BYTES))


def _ours(start: Path) -> _Log:
    from chopmark.apps.cli.ledger.wiring import LogSite

    return _log_of(LogSite.at(start).place)


def _log_of(place: LogPlace) -> _Log:
    return _Log(origin=place.origin, require=place.require, policy=place.policy)


def _theirs(log_key: Path, origin: str | None, policy: Path | None) -> _Log:
    """Return a Rekor log by its key: PEM with a name from elsewhere, or a vkey, which holds the name."""
    from chopmark.artifacts import read_file
    from chopmark.errors import DecodeError, UsageError
    from chopmark.keys import read_public_key
    from chopmark.ledger import VerifierKey, WitnessPolicy
    from chopmark.ledger.rekor import rekor_key

    data = read_file(log_key, max_bytes=_MAX_KEY_BYTES)
    if data.startswith(b"-----BEGIN"):
        if origin is None:
            raise UsageError(f"{log_key}: a key without a name", hint="name the log: --origin rekor.example")
        key = rekor_key(origin, read_public_key(data))
    else:
        try:
            key = VerifierKey.decode(data.decode("utf-8").strip())
        except UnicodeDecodeError as error:
            raise DecodeError(f"{log_key}: neither a PEM nor a vkey") from error
        key = rekor_key(key.name, key.public)
    none = b"quorum none\n"
    witnesses = WitnessPolicy.parse(none if policy is None else read_file(policy, max_bytes=_MAX_POLICY_BYTES))
    return _Log(origin=key.name, require=(key,), policy=witnesses)


def _append_theirs(records: Records, log: _Log, *, url: str, files: str) -> list[_Made]:
    from chopmark.apps.cli.ledger.wiring import open_log_files, open_rekor
    from chopmark.ledger import VerifierKey
    from chopmark.ledger.rekor import submit

    (log_key,) = (key for key in log.require if isinstance(key, VerifierKey))
    client, read = open_rekor(url), open_log_files(files)
    made = []
    for key, record in records.made:
        say(f"asking {log.origin}; it answers with its next checkpoint …")
        done = submit(record, client, read, key=log_key, policy=log.policy)
        made.append(_Made(key=key, entry=done.entry, included=done.included, new=done.new))
    return made


def _append_ours(records: Records, start: Path) -> list[_Made]:
    from chopmark.apps.cli.ledger.wiring import LogSite

    log = LogSite.at(start).ledger
    before = log.checkpoint.size
    indices = log.append([record.encode() for _, record in records.made])
    made = []
    for (key, _), index in zip(records.made, indices, strict=True):
        exported, found = _export(start, index)
        made.append(_Made(key=key, entry=exported, included=found, new=index >= before))
    return made


def log_here(start: Path, leaf: bytes) -> tuple[LogEntry, Included]:
    """Have *leaf* in the nearest log of one's own, where it may stand already; return its entry, verified.

    Witnesses that have an address are asked.

    Raises:
        UsageError: there is no such log.
        UndecidedError: ``not-witnessed-yet``: it is logged, and too few witnesses saw it.
    """
    from contextlib import suppress

    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.errors import Refused
    from chopmark.ledger.feed import feed

    site = LogSite.at(start)
    (index,) = site.ledger.append([leaf])
    if site.place.policy.quorum != "none":
        with suppress(Refused):  # no quorum now: the export says what is missing
            feed(site.ledger, site.place.policy, site.witnesses())
    return _export(start, index)


def _export(start: Path, index: int) -> tuple[LogEntry, Included]:
    """Return an entry of the nearest log of one's own, verified as anybody else would."""
    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.ledger import LineKind, VerifierKey
    from chopmark.ledger.feed import feed
    from chopmark.ledger.rekor import from_proof, verify_entry

    site = LogSite.at(start)
    if site.place.policy.quorum == "none":
        feed(site.ledger, site.place.policy, {})  # asks nobody: the log's own signatures are enough
    log = _log_of(site.place)
    leaf = site.ledger.entry(index)
    key = next(key for key in map(VerifierKey.decode, site.place.require) if key.kind is LineKind.ED25519)
    made = from_proof(site.ledger.prove(index), leaf, key=key)
    return made, verify_entry(made, leaf, origin=log.origin, require=log.require, policy=log.policy)


def _beside(envelope: Path, key: PublicKey) -> Path:
    return envelope.with_name(f"{envelope.name}.{key.keyid[:8]}.tle.json")


def _answer(envelope: Path, logged: list[_Made], records: Records) -> Answer:
    found = [
        {
            "key": made.key.keyid,
            "index": made.included.index,
            "size": made.included.checkpoint.size,
            "origin": made.included.checkpoint.origin,
            "witnesses": list(made.included.cosigned_by),
            "new": made.new,
        }
        for made in logged
    ]
    lines = [
        good(
            f"{envelope}: the signature of {made.key.keyid[:8]} is entry {made.included.index} of"
            f" {made.included.checkpoint.size} in {made.included.checkpoint.origin};"
            f" witnessed by {', '.join(made.included.cosigned_by) or 'nobody'}"
        )
        for made in logged
    ]
    data = {"ok": True, "entries": found, "not_logged": list(records.passed_over)}
    return data, [*lines, *(dim(f"  not logged: {line}") for line in records.passed_over)]
