# SPDX-License-Identifier: Apache-2.0
"""Steps 5 to 9 of the device's procedure: from a timestamp to what is assigned here. Pure; fetches nothing.

    timestamp (5) -> snapshot (6) -> logged (7) -> targets, status (8) -> channel_file (9)

Each function takes bytes from a server that may lie and what the device remembers, and returns what the next step needs,
or raises the failure of its own step. Who calls them commits the ratchets: after 8 what 2 to 8 taught, after 9 the rest.

Every TUF object is checked as a stock client does (signature threshold, length, hash, version, expiry) and then
further: owners are counted for targets.json and the status, and the status is as old as its ``issued`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.channel.model import ChannelFile, Status
from chopmark.channel.wire import decode_assignments, decode_status, extension_of
from chopmark.errors import ChopmarkError, DecodeError, Refused, VerificationError
from chopmark.ledger import Checkpoint, WitnessPolicy, check_growth, verify_proof
from chopmark.statements import publication_leaf
from chopmark.trust import TrustedRoot, TrustPolicy, count_signed

MAX_TIMESTAMP_BYTES = 16_384
MAX_SNAPSHOT_BYTES = 2_000_000
MAX_TARGETS_BYTES = 5_000_000
MAX_STATUS_BYTES = 1_000_000
MAX_PROOF_BYTES = 262_144
STATUS = "status"

_Signed = TypeVar("_Signed", Timestamp, Snapshot, Targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampMeta:
    """What a verified timestamp says: its version, and which snapshot is the newest."""

    version: int
    snapshot: MetaFile


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotMeta:
    """What a verified snapshot says.

    Attributes:
        digest: of its bytes; the ledger leaf of the publication is made of it.
        files: ``targets``, ``status`` and the channel -> version, length, hashes.
    """

    digest: Digest
    version: int
    files: Mapping[str, MetaFile]


@dataclass(frozen=True, slots=True)
class LogHead:
    """The newest head of a ledger that was seen: size in entries, root hash."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A publication that is proven to be in a ledger."""

    origin: str
    index: int
    head: LogHead
    witnesses: tuple[str, ...]


def timestamp(root: TrustedRoot, data: bytes, *, last: int, now: datetime) -> TimestampMeta:
    """Step 5: signature, version, expiry.

    Args:
        last: version of the newest timestamp seen; 0 for none.

    Raises:
        Refused: ``channel-untrusted``, ``channel-rollback``, ``channel-expired``.
    """
    signed = _open(root, "timestamp", data, Timestamp, refusal="channel-untrusted", max_bytes=MAX_TIMESTAMP_BYTES)
    if signed.version < last:
        raise Refused(
            "channel-rollback",
            f"timestamp {signed.version} is served; {last} was seen",
            evidence={"seen": last, "served": signed.version},
        )
    if signed.expires <= now:
        raise Refused("channel-expired", f"the timestamp expired at {signed.expires:%Y-%m-%d %H:%M}Z")
    return TimestampMeta(version=signed.version, snapshot=signed.snapshot_meta)


def snapshot(
    root: TrustedRoot, named: TimestampMeta, data: bytes, *, last: Mapping[str, int], channel: str, now: datetime
) -> SnapshotMeta:
    """Step 6: the snapshot that the timestamp names, going back in nothing.

    Args:
        last: ``snapshot``, ``targets``, ``status`` and the channel -> newest version seen.

    Raises:
        Refused: ``channel-mixed`` (another snapshot than named, or files missing in it), ``channel-untrusted``,
            ``channel-rollback``.
    """
    _check_named("snapshot", named.snapshot, data, hashes_required=False)
    signed = _open(root, "snapshot", data, Snapshot, refusal="channel-untrusted", max_bytes=MAX_SNAPSHOT_BYTES)
    if signed.version != named.snapshot.version:
        raise Refused("channel-mixed", f"snapshot {signed.version} is served; {named.snapshot.version} is named")
    if signed.expires <= now:
        raise Refused("channel-expired", f"the snapshot expired at {signed.expires:%Y-%m-%d %H:%M}Z", step=6)
    files: dict[str, MetaFile] = {}
    for role in ("targets", STATUS, channel):
        meta = signed.meta.get(f"{role}.json")
        if meta is None or "sha256" not in (meta.hashes or {}):
            raise Refused("channel-mixed", f"the snapshot does not name {role}.json by SHA-256")
        files[role] = meta
    for role, version in {"snapshot": signed.version, **{r: m.version for r, m in files.items()}}.items():
        if version < last.get(role, 0):
            # The status has a name of its own for going back: step 8.
            code = "status-rollback" if role == STATUS else "channel-rollback"
            raise Refused(
                code,
                f"{role} {version} is served; {last[role]} was seen",
                evidence={"seen": last[role], "served": version, "file": role},
            )
    return SnapshotMeta(digest=Digest.of(data), version=signed.version, files=files)


def logged(trust: TrustPolicy, snap: SnapshotMeta, proof: bytes, *, seen: Mapping[str, LogHead]) -> Logged:
    """Step 7: the publication stands in a ledger that enough witnesses saw and that did not shrink or fork.

    Args:
        seen: origin -> newest head seen.

    Raises:
        Refused: ``log-unproven``, ``log-unwitnessed``, ``log-rollback``, ``log-fork``.
    """
    leaf = publication_leaf(snap.digest)
    failure: Refused | None = None
    try:
        policy = WitnessPolicy.parse(trust.witness_policy)
    except DecodeError as error:
        raise Refused("log-unproven", error.message) from error
    for log in (log for log in trust.logs if log.active):  # nothing new stands in a frozen one
        try:
            included = verify_proof(proof, leaf, origin=log.origin, require=log.require, policy=policy)
        except Refused as error:
            # The name nearest to success is the one worth showing.
            failure = error if failure is None or error.code == "log-unwitnessed" else failure
            continue
        except ChopmarkError as error:
            raise Refused("log-unproven", error.message, evidence=error.evidence) from error
        if (last := seen.get(log.origin)) is not None:
            check_growth(Checkpoint(origin=log.origin, size=last.size, root=last.root), included.checkpoint)
        return Logged(
            origin=log.origin,
            index=included.index,
            head=LogHead(included.checkpoint.size, included.checkpoint.root),
            witnesses=tuple(included.cosigned_by),
        )
    raise failure or Refused("log-unproven", "trust.json names no active ledger")


def targets(root: TrustedRoot, snap: SnapshotMeta, data: bytes, *, now: datetime) -> Targets:
    """Steps 8 and 9: the targets.json that the snapshot names; it delegates and lists nothing.

    Raises:
        Refused: ``targets-untrusted``, ``channel-expired``, or ``channel-mixed`` where the snapshot names another file.
    """
    _check_named("targets", snap.files["targets"], data)
    signed = signed_targets(root, data)
    if signed.version != snap.files["targets"].version:
        raise Refused("targets-untrusted", "targets.json: another version than the snapshot names")
    if signed.expires <= now:
        raise Refused("channel-expired", f"targets.json expired at {signed.expires:%Y-%m-%d %H:%M}Z", step=8)
    return signed


def signed_targets(root: TrustedRoot, data: bytes) -> Targets:
    """Return top-level targets.json, signed by k root owners.

    Raises:
        Refused: ``targets-untrusted``.
    """
    try:
        metadata = _parse("targets.json", data, Targets, MAX_TARGETS_BYTES)
        count = count_signed(root.tuf, "targets", metadata, root.rule)
    except (VerificationError, ValueError) as error:
        raise Refused("targets-untrusted", str(error)) from error
    if not count.met:
        raise Refused("targets-untrusted", f"targets.json: {count.explain()}", evidence=count.evidence())
    return metadata.signed


def status(
    trust: TrustPolicy,
    delegator: Targets,
    snap: SnapshotMeta,
    data: bytes,
    *,
    last: Status | None,
    now: datetime,
    latest: datetime,
) -> Status:
    """Step 8: the security owners' newest word, counted by the delegation and by trust.json.

    Args:
        latest: no status is issued after this: when root expires.

    Raises:
        Refused: ``status-untrusted``, ``status-rollback``, ``status-stale``, or ``channel-mixed``.
    """
    _check_named(STATUS, snap.files[STATUS], data)
    found = signed_status(trust, delegator, data)
    if found.version != snap.files[STATUS].version:
        raise Refused("status-untrusted", "status.json: another version than the snapshot names")
    if last is not None:
        _check_status_grows(last, found)
    if found.issued > latest:
        # The time floor rises to it, and nothing lowers a floor: a date beyond root's own life is a mistake or an attack.
        raise Refused("status-untrusted", f"the status says that it was issued at {found.issued:%Y-%m-%d %H:%M}Z")
    age = now - found.issued
    if age > timedelta(seconds=trust.limits.largest_status_age_s):
        age_s = int(age.total_seconds())
        raise Refused("status-stale", f"the status is {age_s:,} s old", evidence={"age_s": age_s})
    return found


def signed_status(trust: TrustPolicy, delegator: Targets, data: bytes) -> Status:
    """Return a status that the security owners signed, whenever that was.

    Raises:
        Refused: ``status-untrusted``.
    """
    try:
        metadata = _parse("status.json", data, Targets, MAX_STATUS_BYTES)
        count = count_signed(delegator, STATUS, metadata, trust.rule(STATUS))
        if not count.met:
            raise VerificationError(count.explain(), evidence=count.evidence())
        if metadata.signed.targets:
            raise VerificationError("it lists targets")
        return decode_status(extension_of(metadata.signed.unrecognized_fields), version=metadata.signed.version)
    except (VerificationError, ValueError) as error:
        evidence = error.evidence if isinstance(error, VerificationError) else {}
        raise Refused("status-untrusted", f"status.json: {error}", evidence=evidence) from error


def _check_status_grows(last: Status, found: Status) -> None:
    taken_back = {(e.kind, e.digest) for e in last.revoked} - {(e.kind, e.digest) for e in found.revoked}
    lowered = [model for model, epoch in last.min_epoch.items() if found.min_epoch.get(model, 0) < epoch]
    if found.version < last.version or found.issued < last.issued or taken_back or lowered:
        raise Refused(
            "status-rollback",
            evidence={
                "seen": last.version,
                "served": found.version,
                "taken back": [f"{kind} {digest}" for kind, digest in sorted(taken_back)],
                "lowered": lowered,
            },
        )


def channel_file(delegator: Targets, snap: SnapshotMeta, data: bytes, *, name: str, now: datetime) -> ChannelFile:
    """Step 9: the channel file that the root owners delegated to the operator.

    Raises:
        Refused: ``targets-untrusted``, ``channel-expired``, or ``channel-mixed``.
    """
    _check_named(name, snap.files[name], data)
    try:
        metadata = _parse(f"{name}.json", data, Targets, MAX_TARGETS_BYTES)
        delegator.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
        if metadata.signed.version != snap.files[name].version:
            raise VerificationError("another version than the snapshot names")
        assignments = decode_assignments(extension_of(metadata.signed.unrecognized_fields))
        files = {path: Digest.from_hex(file.hashes.get("sha256", "")) for path, file in metadata.signed.targets.items()}
    except (VerificationError, RepositoryError, ValueError) as error:
        raise Refused("targets-untrusted", f"{name}.json: {error}") from error
    if metadata.signed.expires <= now:
        raise Refused("channel-expired", f"{name}.json expired at {metadata.signed.expires:%Y-%m-%d %H:%M}Z")
    return ChannelFile(
        name=name,
        version=metadata.signed.version,
        expires=metadata.signed.expires,
        assignments=assignments,
        files=files,
    )


def _open(root: TrustedRoot, role: str, data: bytes, kind: type[_Signed], *, refusal: str, max_bytes: int) -> _Signed:
    try:
        metadata = _parse(f"{role}.json", data, kind, max_bytes)
        root.tuf.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (VerificationError, RepositoryError, ValueError) as error:
        raise Refused(refusal, f"{role}.json: {error}") from error
    return metadata.signed


def _parse(what: str, data: bytes, kind: type[_Signed], max_bytes: int) -> Metadata[_Signed]:
    """Read TUF metadata; its unknown members are kept, since they are signed with the rest."""
    canonical.decode(data, what=what, max_bytes=max_bytes)  # no duplicate members, no floats, no depth
    try:
        metadata = Metadata[_Signed].from_bytes(data)
    except (RepositoryError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError("cannot be decoded") from error
    if not isinstance(metadata.signed, kind):
        raise VerificationError("is metadata of another kind")
    return metadata


def _check_named(role: str, named: MetaFile, data: bytes, *, hashes_required: bool = True) -> None:
    try:
        if hashes_required and not named.hashes:
            raise ValueError
        named.verify_length_and_hashes(data)
    except (RepositoryError, ValueError) as error:
        raise Refused("channel-mixed", f"{role}.json is not the file that is named for it") from error
