# SPDX-License-Identifier: Apache-2.0
"""A channel that a real publisher fills, served from memory, and what a thief of the operator's host can do with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

from chopmark.adapters.kms.file import FileSigner
from chopmark.artifacts import Digest, Manifest, hash_bytes
from chopmark.channel import (
    BUCKETS,
    Assignment,
    Fetcher,
    MissingError,
    Release,
    RuntimeNeed,
    Status,
    StatusEntry,
    decode_release,
    release_statement,
)
from chopmark.channel.publish import TIMESTAMP, Lifetimes, Published, Publisher, Shipment, publish_root, read_current
from chopmark.channel.status import build_status
from chopmark.statements import encode_envelope, publication_leaf, sign
from chopmark.trust import sign_metadata
from simulators.release import ONNX_RUNTIME, plain_release
from simulators.store import MemoryChannel
from simulators.trust import SimTrust

RUNTIME = ONNX_RUNTIME.name
RUNTIME_VERSION = "1.20.1"
LIFETIMES = Lifetimes()


class SimChannel(Fetcher):
    """One channel: approve releases, issue the status, publish; then serve it, truthfully or not.

    Attributes:
        store: what is published.
        lies: path -> bytes that are served instead.
        fetched: the paths that were asked for, in order.
        down: every fetch fails.
        now: the time at which things are signed; move it as you like.
        status: the newest status, :attr:`signed_status` its bytes.
        shipments: release hash -> what was approved.
    """

    def __init__(
        self,
        trust: SimTrust | None = None,
        *,
        name: str = "production",
        runtime: RuntimeNeed = ONNX_RUNTIME,
        lifetimes: Lifetimes = LIFETIMES,
    ) -> None:
        self.trust = trust or SimTrust()
        self.name, self.runtime, self.lifetimes = name, runtime, lifetimes
        self.log = self.trust.log
        self.store = MemoryChannel()
        self.lies: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.down = False
        self.now = self.trust.now
        self.shipments: dict[Digest, Shipment] = {}
        self.status = Status(version=0, issued=self.now, min_epoch={})
        self.signed_status = b""
        publish_root(self.store, self.trust.root, self.trust.trust)
        self.issue()

    # Serving

    def _fetch(self, path: str, max_bytes: int) -> bytes:
        self.fetched.append(path)
        if self.down:
            raise TimeoutError
        data = self.lies.get(path, self.store.files.get(path))
        if data is None:
            raise MissingError(f"{path}: there is none")
        return data

    def copy(self) -> dict[str, bytes]:
        """Return all files as they are now; assign the copy to ``store.files`` to serve an old channel again."""
        return dict(self.store.files)

    def path(self, role: str) -> str:
        """Return where the newest file of *role* is: ``timestamp``, ``snapshot``, ``targets``, ``status``, a channel."""
        if role == "timestamp":
            return TIMESTAMP
        current = read_current(self.store, self.name)
        version = current.snapshot if role == "snapshot" else current.version(role)
        return f"metadata/{version}.{role}.json"

    @property
    def proof_path(self) -> str:
        return self.path("snapshot").replace(".json", ".tlog-proof")

    # Doing it right

    def release(self, *, files: Mapping[str, bytes] | None = None, **changes: object) -> tuple[Release, Shipment]:
        """Return an unsigned release and its shipment, which still lacks its envelope."""
        model, version = str(changes.get("model", "digits")), str(changes.get("version", "1"))
        files = files or {"model.onnx": f"weights of {model} {version}".encode(), "self-test.json": b"{}"}
        manifest = Manifest(files=tuple(hash_bytes(name, files[name]) for name in sorted(files)))
        plain = plain_release(
            channels=(self.name,),
            manifest=manifest.digest,
            manifest_length=len(manifest.encode()),
            runtime=self.runtime,
            self_test=Digest.of(files.get("self-test.json", b"")),
        )
        release = replace(plain, **changes)  # type: ignore[arg-type]
        return release, Shipment(release=release.digest, envelope=b"", manifest=manifest, files=dict(files))

    def approve(
        self,
        *,
        by: Iterable[str] = ("owner-a", "owner-b"),
        signers: Iterable[FileSigner] | None = None,
        files: Mapping[str, bytes] | None = None,
        **changes: object,
    ) -> Release:
        """Return a release, signed by all keys of *by* (or by exactly *signers*), and keep its shipment.

        Args:
            changes: members of :class:`Release`: ``version``, ``counter``, ``fallbacks``, ``epoch`` …
        """
        release, shipment = self.release(files=files, **changes)
        envelope = sign(release_statement(release), self.trust.keys(*by) if signers is None else signers)
        self.shipments[envelope.digest] = replace(shipment, release=envelope.digest, envelope=encode_envelope(envelope))
        return decode_release(envelope.payload)

    def issue(
        self,
        *,
        at: datetime | None = None,
        signers: Iterable[FileSigner] | None = None,
        **changes: object,
    ) -> bytes:
        """Issue the status again, one version higher, with *changes* (``revoked``, ``min_epoch``, ``holds``)."""
        moved = {"version": self.status.version + 1, "issued": at or self.now, **changes}
        self.status = replace(self.status, **moved)  # type: ignore[arg-type]
        self.signed_status = self.sign_status(self.status, signers=signers)
        return self.signed_status

    def sign_status(self, status: Status, *, signers: Iterable[FileSigner] | None = None) -> bytes:
        keys = self.trust.keys("status-host") if signers is None else signers
        return build_status(status, max_age_s=self.trust.policy.limits.largest_status_age_s, signers=list(keys))

    def revoke(self, digest: Digest, *, kind: str = "release", reason: str = "backdoor") -> bytes:
        """Issue a status that also revokes *digest*."""
        entry = StatusEntry(kind=kind, digest=digest, reason=reason, since=self.now)
        return self.issue(revoked=(*self.status.revoked, entry))

    def publish(self, *releases: Release | Assignment) -> Published:
        """Publish: each release to all devices of the channel, or as its assignment says."""
        assignments = tuple(
            r if isinstance(r, Assignment) else everyone(r, runtime=self.runtime.name) for r in releases
        )
        named = dict.fromkeys(a.release for a in assignments)
        return self.publisher().publish(
            assignments=assignments,
            shipments=[self.shipments[digest] for digest in named],
            targets=self.trust.targets,
            status=self.signed_status,
            now=self.now,
        )

    def publisher(self, *, prove: Callable[[bytes], bytes] | None = None) -> Publisher:
        return Publisher(
            store=self.store,
            root=self.trust.root,
            channel=self.name,
            signers=self.trust.keys("operator"),
            prove=prove or self.log.prove,
            lifetimes=self.lifetimes,
        )

    # Doing it wrong, with the operator's keys

    def resign(self, role: str, change: Callable[[Any], None], signers: Sequence[FileSigner] | None = None) -> bytes:
        """Return the newest file of *role* after *change* was applied to what is signed, signed by *signers*.

        Args:
            signers: by default the operator's.
        """
        metadata: Metadata[Any] = Metadata.from_bytes(self.store.files[self.path(role)])
        change(metadata.signed)
        metadata.signatures.clear()
        sign_metadata(metadata, self.trust.keys("operator") if signers is None else signers)
        return metadata.to_bytes()

    def force(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        meta: Mapping[str, MetaFile] | None = None,
        proof: bytes | None = None,
    ) -> None:
        """Publish whatever *files* say, as a thief of the operator's host can: snapshot, leaf, proof, timestamp.

        Args:
            files: role -> bytes: ``status``, ``targets``, a channel; the others stay.
            meta: role -> what the snapshot says of it, where it shall lie.
            proof: instead of a true one.
        """
        before = read_current(self.store, self.name)
        named = dict(before.files)
        for role, data in (files or {}).items():
            version = Metadata[Any].from_bytes(data).signed.version
            self.store.files[f"metadata/{version}.{role}.json"] = data
            named[role] = MetaFile(version, len(data), {"sha256": Digest.of(data).hex})
        named |= meta or {}
        version = before.snapshot + 1
        snapshot = Metadata(
            Snapshot(
                version=version,
                expires=self.now + timedelta(days=7),
                meta={f"{role}.json": m for role, m in named.items()},
            )
        )
        data = self._signed(snapshot)
        self.store.files[f"metadata/{version}.snapshot.json"] = data
        self.store.files[f"metadata/{version}.snapshot.tlog-proof"] = (
            self.log.prove(publication_leaf(Digest.of(data))) if proof is None else proof
        )
        timestamp = Timestamp(
            version=before.timestamp + 1,
            expires=self.now + timedelta(days=1),
            snapshot_meta=MetaFile(version, len(data), {"sha256": Digest.of(data).hex}),
        )
        self.store.files[TIMESTAMP] = self._signed(Metadata(timestamp))

    def _signed(self, metadata: Metadata[Any]) -> bytes:
        sign_metadata(metadata, self.trust.keys("operator"))
        return metadata.to_bytes()


def everyone(release: Release, *, runtime: str = RUNTIME) -> Assignment:
    """Return the assignment of *release* to all devices."""
    return Assignment(model=release.model, runtime=runtime, first=0, end=BUCKETS, release=release.digest)
