# SPDX-License-Identifier: Apache-2.0
"""The operator's half of the channel: make a publication, in the order that never shows half of one.

    targets and metadata, then the leaf, then its proof, new roots with their trust.json, last timestamp.json

Replacing timestamp.json (compare-and-swap) is the commit: until then no follower sees anything, and of two operators at
once one is told ``channel-moved``. A version number is claimed by creating its file; what a publication that was killed
half-way left under one is used again where it says the same, and is otherwise a gap in the numbers and nothing else.

A rollback is a publication like any other: the channel's version goes up while the model's goes down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    T,
    TargetFile,
    Targets,
    Timestamp,
)

from chopmark.artifacts import Digest, Manifest
from chopmark.channel.follow import STATUS
from chopmark.channel.model import (
    RESERVED_CHANNELS,
    Assignment,
    envelope_target,
    fetch_path,
    manifest_target,
    package_target,
)
from chopmark.channel.ports import ChannelStore
from chopmark.channel.wire import channel_extension
from chopmark.errors import DecodeError, InternalError, MovedError, UndecidedError, UsageError
from chopmark.keys import Owner, OwnerRule, PublicKey, Signer
from chopmark.statements import publication_leaf
from chopmark.trust import EXTENSION, TrustedRoot, sign_metadata, tuf_key

TIMESTAMP: Final = "metadata/timestamp.json"
MAX_CLAIMS: Final = 10_000
PACKAGE_DEPTH: Final = 8
"""How deep the files of a package may lie, for stock clients: TUF's path patterns do not cross a slash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long what the operator signs stays valid."""

    timestamp: timedelta = timedelta(days=1)
    snapshot: timedelta = timedelta(days=7)
    channel: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """One approved release with all that a device fetches for it.

    Attributes:
        envelope: encoded, with its signatures.
        files: name in the package -> bytes.
    """

    release: Digest
    envelope: bytes
    manifest: Manifest
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a committed publication is: versions, and where it stands in the ledger."""

    timestamp: int
    snapshot: int
    channel: int
    status: int
    leaf: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """What is published now; all zero and empty on a new channel.

    Attributes:
        raw: timestamp.json as it is, for the compare-and-swap.
        files: role -> version and hashes that the newest snapshot names.
        channel_extension: what the channel file assigns, as JSON; None before the first.
        channel_targets: path -> SHA-256 that the channel file lists.
    """

    raw: bytes | None
    timestamp: int
    snapshot: int
    snapshot_digest: Digest | None
    files: Mapping[str, MetaFile]
    channel_extension: object
    channel_expires: datetime | None
    snapshot_expires: datetime | None
    timestamp_expires: datetime | None
    channel_targets: Mapping[str, str] = field(default_factory=dict)

    def version(self, role: str) -> int:
        """Return the published version of *role*; 0 for none."""
        return self.files[role].version if role in self.files else 0


def build_targets(
    *, version: int, expires: datetime, channels: Mapping[str, Sequence[PublicKey]], status: OwnerRule
) -> Metadata[Targets]:
    """Return the unsigned top-level targets.json: one delegation a channel to the operator's keys, one to ``status``.

    Args:
        channels: name -> the operator's keys for it.

    Raises:
        UsageError: a channel with a reserved name.
    """
    keys: dict[str, Key] = {}
    roles: dict[str, DelegatedRole] = {}
    for name, operators in channels.items():
        if name in RESERVED_CHANNELS:
            raise UsageError(f"{name}: is reserved and cannot name a channel")
        keys |= {key.keyid: tuf_key(key, owner="operator") for key in operators}
        paths = [f"{name}/" + "/".join("*" * depth) for depth in range(2, PACKAGE_DEPTH + 2)]
        roles[name] = DelegatedRole(name, [k.keyid for k in operators], 1, terminating=True, paths=paths)
    keys |= {key.keyid: tuf_key(key, owner=owner.name) for owner in status.owners for key in owner.keys}
    # No file is ever delegated to the status role: the pattern matches nothing that a client asks for.
    roles[STATUS] = DelegatedRole(
        STATUS, _keyids(status.owners), status.k * len(status.algorithms), terminating=True, paths=["status"]
    )
    return Metadata(Targets(version=version, expires=expires, delegations=Delegations(keys, roles)))


def _keyids(owners: Iterable[Owner]) -> list[str]:
    return [key.keyid for owner in owners for key in owner.keys]


def read_current(store: ChannelStore, channel: str) -> Current:
    """Return what *store* publishes now. The operator wrote it, so it is read and not verified.

    Raises:
        InternalError: the folder holds something that the operator never wrote.
    """
    raw = store.get(TIMESTAMP)
    if raw is None:
        return Current(
            raw=None,
            timestamp=0,
            snapshot=0,
            snapshot_digest=None,
            files={},
            channel_extension=None,
            channel_expires=None,
            snapshot_expires=None,
            timestamp_expires=None,
        )
    try:
        timestamp = Metadata[Timestamp].from_bytes(raw).signed
        snapshot_raw = store.get(f"metadata/{timestamp.snapshot_meta.version}.snapshot.json") or b""
        snapshot = Metadata[Snapshot].from_bytes(snapshot_raw).signed
        files = {path.removesuffix(".json"): meta for path, meta in snapshot.meta.items()}
        named = files.get(channel)
        channel_raw = store.get(f"metadata/{named.version}.{channel}.json") if named else None
        file = Metadata[Targets].from_bytes(channel_raw).signed if channel_raw else None
    except Exception as error:
        raise InternalError("the published channel cannot be read", hint="restore it, or start a new one") from error
    return Current(
        raw=raw,
        timestamp=timestamp.version,
        snapshot=snapshot.version,
        snapshot_digest=Digest.of(snapshot_raw),
        files=files,
        channel_extension=file.unrecognized_fields.get(EXTENSION) if file else None,
        channel_expires=file.expires if file else None,
        snapshot_expires=snapshot.expires,
        timestamp_expires=timestamp.expires,
        channel_targets={path: found.hashes.get("sha256", "") for path, found in file.targets.items()} if file else {},
    )


class Publisher:
    """One operator's way to publish one channel.

    Args:
        store: where to.
        root: who may sign.
        roots: path -> bytes of each root.json up to *root*, and of what they name as trust.json: whoever follows comes
            from any of them. They appear just before the timestamp that the newest one is needed for.
        signers: the operator's keys.
        prove: appends a leaf to the ledger, has it witnessed, and returns its proof; raises rather than return a proof
            that devices would refuse.
    """

    def __init__(
        self,
        *,
        store: ChannelStore,
        root: TrustedRoot,
        channel: str,
        signers: Sequence[Signer],
        prove: Callable[[bytes], bytes],
        lifetimes: Lifetimes,
        roots: Mapping[str, bytes] | None = None,
    ) -> None:
        self._store = store
        self._roots = dict(roots or {})
        self._root = root
        self._channel = channel
        self._signers = signers
        self._prove = prove
        self._lifetimes = lifetimes

    def published_at(self, current: Current) -> datetime | None:
        """Return when *current* was published; None for never."""
        return current.timestamp_expires - self._lifetimes.timestamp if current.timestamp_expires else None

    @property
    def announced(self) -> bool:
        """Whether every root is published."""
        return all(self._store.get(path) == data for path, data in self._roots.items())

    def publish(
        self,
        *,
        assignments: tuple[Assignment, ...],
        shipments: Sequence[Shipment],
        targets: bytes,
        status: bytes,
        now: datetime,
        before: Current | None = None,
    ) -> Published:
        """Publish; what has not changed keeps its version.

        Args:
            before: what was published when *assignments* were decided on: where that is no longer so, nothing is done.
            shipments: all releases that *assignments* name.
            targets: targets.json, as the root owners signed it.
            status: status.json, as the security host signed it.

        Raises:
            MovedError: ``channel-moved``: another operator published meanwhile.
            UndecidedError: no proof, no space.
        """
        before = before or read_current(self._store, self._channel)
        for role, data in (("targets", targets), (STATUS, status)):
            _check_no_older(role, _version(role, data), before)
        files = dict(before.files) | {
            "targets": self._put_given("targets", targets),
            STATUS: self._put_given(STATUS, status),
            self._channel: self._put_channel(before, assignments, shipments, delegator=targets, now=now),
        }
        snapshot, digest = self._put_snapshot(before, files, now)
        proof = self._prove(publication_leaf(digest))
        self._store.replace(f"metadata/{snapshot.version}.snapshot.tlog-proof", proof)
        _put_all(self._store, self._roots)
        timestamp = Timestamp(
            version=before.timestamp + 1,
            expires=now + self._lifetimes.timestamp,
            snapshot_meta=snapshot,
        )
        if not self._store.swap(TIMESTAMP, before.raw, self._sign(Metadata(timestamp))):
            raise MovedError(
                "another operator published meanwhile; nothing of this publication is visible",
                code="channel-moved",
                hint="let one operator run per channel, or run this one again",
            )
        return Published(
            timestamp=timestamp.version,
            snapshot=snapshot.version,
            channel=files[self._channel].version,
            status=files[STATUS].version,
            leaf=digest,
        )

    def _put_given(self, role: str, data: bytes) -> MetaFile:
        version = _version(role, data)
        if not self._store.put_new(f"metadata/{version}.{role}.json", data):
            raise UndecidedError(
                f"another {role}.json of version {version} is published",
                code="version-taken",
                hint=f"whoever signs {role} raises its version",
            )
        return _meta(version, data)

    def _put_channel(
        self,
        before: Current,
        assignments: tuple[Assignment, ...],
        shipments: Sequence[Shipment],
        *,
        delegator: bytes,
        now: datetime,
    ) -> MetaFile:
        extension = channel_extension(assignments)
        fresh = before.channel_expires is not None and before.channel_expires - now > self._lifetimes.channel / 2
        path = f"metadata/{before.version(self._channel)}.{self._channel}.json"
        by = Metadata[Targets].from_bytes(delegator).signed
        targets: dict[str, TargetFile] = {}
        for shipment in shipments:
            for name, data in self._targets_of(shipment):
                targets[name] = TargetFile(len(data), {"sha256": Digest.of(data).hex}, name)
        # An envelope that was signed again is another file, of the same release.
        same = {name: file.hashes["sha256"] for name, file in targets.items()} == before.channel_targets
        same = same and extension == before.channel_extension
        if same and fresh and _signed(self._store.get(path), self._channel, by=by):
            return before.files[self._channel]
        for shipment in shipments:
            for path, data in self._targets_of(shipment):
                if not self._store.put_new(fetch_path(path, Digest.of(data)), data):
                    raise InternalError(f"{path}: the published file is not what its name says", hint="delete it")
        file = Targets(
            version=before.version(self._channel) + 1,
            expires=now + self._lifetimes.channel,
            targets=targets,
            unrecognized_fields={EXTENSION: extension},
        )
        return self._claim(self._channel, file, by=by, lifetime=self._lifetimes.channel)[0]

    def _targets_of(self, shipment: Shipment) -> Iterable[tuple[str, bytes]]:
        manifest = shipment.manifest.digest
        yield envelope_target(self._channel, shipment.release), shipment.envelope
        yield manifest_target(self._channel, manifest), shipment.manifest.encode()
        for entry in shipment.manifest.files:
            yield package_target(self._channel, manifest, entry.name), shipment.files[entry.name]

    def _put_snapshot(self, before: Current, files: Mapping[str, MetaFile], now: datetime) -> tuple[MetaFile, Digest]:
        same = {role: (m.version, m.hashes) for role, m in files.items()} == {
            role: (m.version, m.hashes) for role, m in before.files.items()
        }
        fresh = before.snapshot_expires is not None and before.snapshot_expires - now > self._lifetimes.snapshot / 2
        raw = self._store.get(f"metadata/{before.snapshot}.snapshot.json") or b""
        if same and fresh and before.snapshot_digest and _signed(raw, "snapshot", by=self._root.tuf):
            return _meta(before.snapshot, raw), before.snapshot_digest
        snapshot = Snapshot(
            version=before.snapshot + 1,
            expires=now + self._lifetimes.snapshot,
            meta={f"{role}.json": meta for role, meta in files.items()},
        )
        return self._claim("snapshot", snapshot, by=self._root.tuf, lifetime=self._lifetimes.snapshot)

    def _claim(self, role: str, signed: T, *, by: Root | Targets, lifetime: timedelta) -> tuple[MetaFile, Digest]:
        """Sign *signed* under the first version number from its own on that nobody has used.

        What an earlier attempt left under such a number, and nobody has seen yet, is used again if it says the same: an
        operator that fails a thousand times leaves one file, and one leaf in the ledger.
        """
        for _ in range(MAX_CLAIMS):
            path = f"metadata/{signed.version}.{role}.json"
            left = self._store.get(path)
            data = self._sign(Metadata(signed)) if left is None else left
            again = left is not None and _says(left, signed, lifetime) and _signed(left, role, by=by)
            if again or (left is None and self._store.put_new(path, data)):
                return _meta(signed.version, data), Digest.of(data)
            signed.version += 1
        raise InternalError(f"{role}: {MAX_CLAIMS:,} version numbers in a row are taken")

    def _sign(self, metadata: Metadata[T]) -> bytes:
        sign_metadata(metadata, self._signers)
        return metadata.to_bytes()


def _signed(data: bytes | None, role: str, *, by: Root | Targets) -> bool:
    """Tell whether *data* is signed by the keys of today: after a rotation, devices refuse the old ones."""
    try:
        metadata = Metadata[Targets].from_bytes(data or b"")
        by.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError):
        return False
    return True


def _says(data: bytes, signed: Signed, lifetime: timedelta) -> bool:
    """Tell whether *data* says what *signed* does, and for long enough."""
    try:
        found = Metadata[Targets].from_bytes(data).signed
    except (RepositoryError, ValueError, KeyError):
        return False
    fresh = found.expires > signed.expires - lifetime / 2
    return fresh and {**found.to_dict(), "expires": ""} == {**signed.to_dict(), "expires": ""}


def publish_root(store: ChannelStore, root: TrustedRoot, trust: bytes) -> None:
    """Publish a root and the trust.json it names.

    Raises:
        UndecidedError: another root of that version is published.
    """
    _put_all(
        store,
        {
            f"metadata/{root.trust.version}.trust.json": trust,
            f"metadata/{root.version}.root.json": root.data,
        },
    )


def _put_all(store: ChannelStore, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        if not store.put_new(path, data):
            raise UndecidedError(f"{path}: another one is published", code="version-taken")


def _version(role: str, data: bytes) -> int:
    try:
        return int(Metadata[Targets].from_bytes(data).signed.version)
    except Exception as error:
        raise DecodeError(f"{role}.json: cannot be decoded") from error


def _check_no_older(role: str, version: int, before: Current) -> None:
    if version < before.version(role):
        raise UndecidedError(
            f"{role} {version} is older than the published {before.version(role)}",
            code="older-than-published",
            hint="fetch the newest from who signs it",
        )


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": Digest.of(data).hex})
