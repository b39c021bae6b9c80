# SPDX-License-Identifier: Apache-2.0
"""The operator: make the channel say what Git says, again and again, from (desired, published) pairs only.

    1  head of main                      who can push can propose; nothing more follows from a push
    2  every commit since the last one applied is signed by a Git signer, and none was taken away
    3  the state that the commit asks for: every envelope in it signed by enough approvers
    4  what that changes; a channel is never emptied by accident
    5  the newest status, signed by the security host; where it is silent, the one published last stays
    6  publish: metadata, leaf, proof, and last the timestamp

A failure leaves the channel as it was and is written into the operator's status; the next look starts from 1. A revert
is a commit like any other, so a rollback is a publication like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from chopmark.artifacts import BlobStore, Digest, decode_manifest, read_file, write_file
from chopmark.channel import Assignment, decode_assignments, envelope_target
from chopmark.channel.follow import signed_status, signed_targets
from chopmark.channel.ports import ChannelStore
from chopmark.channel.publish import Current, Published, Publisher, Shipment, read_current
from chopmark.clock import Clock
from chopmark.errors import ChopmarkError, DecodeError, Refused, UndecidedError, VerificationError
from chopmark.release.desired import desired, plan
from chopmark.release.history import verify_range
from chopmark.release.model import MAIN, ApprovedRelease, Change
from chopmark.release.ports import GitHost
from chopmark.release.status import MAX_STATUS_BYTES, OperatorStatus, applied, decode_status, encode_status, failed
from chopmark.trust import TrustedRoot, TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What one look came to.

    Attributes:
        changes: what was changed in the channel; empty where only time had passed.
        published: None where there was nothing to do.
        quiet: why the security host's newest word is missing; empty where it is not.
        status_before: version of the status that was published before.
    """

    commit: str
    changes: tuple[Change, ...]
    published: Published | None
    quiet: str = ""
    status_before: int = 0

    def as_json(self) -> dict[str, object]:
        done = self.published
        return {
            "ok": None if self.quiet else True,  # whether anything was revoked meanwhile is not known
            "commit": self.commit,
            "published": None
            if done is None
            else {
                "timestamp": done.timestamp,
                "snapshot": done.snapshot,
                "channel": done.channel,
                "status": done.status,
            },
            "changes": [
                {"model": c.model, "channel": c.channel, "to": [str(a.release) for a in c.after]} for c in self.changes
            ],
            "quiet": self.quiet,
        }

    def explain(self) -> list[str]:
        """Return lines for a person."""
        if self.published is None:
            return [f"channel says what {self.commit[:8]} asks for"]
        done = self.published
        lines = [f"{c.model} in {c.channel}: {_names(c.before)} → {_names(c.after)}" for c in self.changes]
        if done.status != self.status_before:
            lines.append(f"status {self.status_before} → {done.status}: what is revoked or held, as security says now")
        published = f"channel {done.channel}, snapshot {done.snapshot}, status {done.status}"
        return [
            *(lines or ["nothing changed; timestamp and proof are fresh"]),
            f"published {self.commit[:8]}: {published}",
        ]


def _names(assignments: Sequence[Assignment]) -> str:
    return ", ".join(a.release.short + "…" for a in assignments) or "nothing"


class Operator:
    """One operator of one channel.

    Args:
        targets: targets.json, as the root owners signed it.
        fetch_status: asks the security host for its newest status.
        status_file: where the operator writes what it did, and reads it after a restart.
        refresh_every: how old a timestamp may get before it is published anew with a fresh proof.
    """

    def __init__(
        self,
        *,
        git: GitHost,
        root: TrustedRoot,
        trust: TrustPolicy,
        channel: str,
        targets: bytes,
        store: ChannelStore,
        publisher: Publisher,
        blobs: BlobStore,
        fetch_status: Callable[[], bytes],
        status_file: Path,
        clock: Clock,
        refresh_every: timedelta = timedelta(hours=1),
    ) -> None:
        self._git = git
        self._root = root
        self._trust = trust
        self._channel = channel
        self._targets = targets
        self._store = store
        self._publisher = publisher
        self._blobs = blobs
        self._fetch_status = fetch_status
        self._status_file = status_file
        self._clock = clock
        self._refresh_every = refresh_every

    @property
    def root(self) -> TrustedRoot:
        """What this operator was opened with."""
        return self._root

    def once(self) -> Reconciled:
        """Compare Git with the channel and publish what differs.

        Raises:
            ChopmarkError: nothing was published; the reason stands in the operator's status too.
        """
        before = read_operator_status(self._status_file)
        head = self._git.head(MAIN)
        if head is None:
            raise UndecidedError(f"the release repository has no branch {MAIN}", hint="make a workspace: chopmark init")
        try:
            done = self._reconcile(before, head)
        except ChopmarkError as error:
            self._write(before, failed(before, head, error, now=self._clock.now()))
            raise
        message = f"the channel says what {head[:10]} asks for"
        self._write(before, applied(before, head, now=self._clock.now(), message=message))
        return done

    def _reconcile(self, before: OperatorStatus, head: str) -> Reconciled:
        if self._root.expires <= self._clock.now():
            raise Refused("root-expired")
        if head != before.last_applied_revision:
            verify_range(self._git, since=before.last_applied_revision or None, to=head, trust=self._trust)
        wanted = desired(self._git, head, trust=self._trust, workspace=self._trust.workspace)
        current = read_current(self._store, self._channel)
        status, quiet = self._newest_status(current)
        changes = plan(wanted, {self._channel: assignments_of(current)})
        if changes.removals:
            raise VerificationError(
                f"{changes.removals[0].model} would be assigned to nobody in {self._channel}",
                code="channel-emptied",
                hint="devices would keep what runs; withdraw to a fallback: `chopmark release rollback`",
            )
        resigned = any(
            current.channel_targets.get(envelope_target(self._channel, a.release))
            != Digest.of(wanted.releases[a.release].envelope).hex
            for a in wanted.channels.get(self._channel, ())
        )
        if not changes.changes and not resigned and self._publisher.announced and not self._due(current, status):
            return Reconciled(commit=head, changes=(), published=None, quiet=quiet)
        assignments = wanted.channels.get(self._channel, ())
        shipments = [
            self._shipment(wanted.releases[digest]) for digest in dict.fromkeys(a.release for a in assignments)
        ]
        done = self._publisher.publish(
            assignments=assignments,
            shipments=shipments,
            targets=self._targets,
            status=status,
            now=self._clock.now(),
            before=current,
        )
        return Reconciled(
            commit=head,
            changes=changes.changes,
            published=done,
            quiet=quiet,
            status_before=current.version("status"),
        )

    def _due(self, current: Current, status: bytes) -> bool:
        last = self._publisher.published_at(current)
        # A timestamp from the future was made by a clock that was wrong: it is no reason to wait for that day.
        if last is None or not timedelta(0) <= self._clock.now() - last < self._refresh_every:
            return True
        return status != self._store.get(f"metadata/{current.version('status')}.status.json")

    def _write(self, before: OperatorStatus, after: OperatorStatus) -> None:
        if after != before:
            write_file(self._status_file, encode_status(after))

    def _newest_status(self, current: Current) -> tuple[bytes, str]:
        """Return the status to publish, and why it is not the security host's newest word; nothing where it is.

        What the host's address answers is believed as little as silence: it is published only if a device would take it.
        """
        last = self._store.get(f"metadata/{current.version('status')}.status.json")
        try:
            data = self._fetch_status()
            self._check_status(data, last)
        except (UndecidedError, VerificationError) as error:
            if last is None or not self._is_trusted(last):
                raise UndecidedError(
                    f"no status to publish: {error.message}",
                    code="status-missing",
                    hint="start the security host, with the keys of today: chopmark serve --only security",
                ) from error
            return last, error.message
        return data, ""

    def _is_trusted(self, status: bytes) -> bool:
        """Tell whether *status* is signed by those who may now: after a change of trust the last one may not be."""
        try:
            signed_status(self._trust, signed_targets(self._root, self._targets), status)
        except Refused:
            return False
        return True

    def _check_status(self, data: bytes, last: bytes | None) -> None:
        delegator = signed_targets(self._root, self._targets)
        found = signed_status(self._trust, delegator, data)
        tolerance = timedelta(seconds=self._trust.limits.clock_tolerance_s)
        if found.issued > self._clock.now() + tolerance:
            raise VerificationError(
                f"the security host's status is of {found.issued:%Y-%m-%d %H:%M}Z: whose clock is wrong?"
            )
        if last is not None and data != last and self._is_trusted(last):
            newest = signed_status(self._trust, delegator, last)
            if found.version <= newest.version:
                raise VerificationError(
                    f"the security host shows status {found.version}; {newest.version} is published"
                )

    def _shipment(self, approved: ApprovedRelease) -> Shipment:
        manifest = decode_manifest(self._blobs.get(approved.release.manifest))
        return Shipment(
            release=approved.release.digest,
            envelope=approved.envelope,
            manifest=manifest,
            files={entry.name: self._blobs.get(entry.sha256) for entry in manifest.files},
        )


def read_operator_status(path: Path) -> OperatorStatus:
    """Return what the operator last wrote.

    Returns:
        An empty status where there is none, or one that cannot be read: then all of history is verified again.
    """
    try:
        return decode_status(read_file(path, max_bytes=MAX_STATUS_BYTES)) if path.exists() else OperatorStatus()
    except DecodeError:
        return OperatorStatus()


def assignments_of(current: Current) -> tuple[Assignment, ...]:
    """Return what the published channel file assigns."""
    return decode_assignments(current.channel_extension) if current.channel_extension is not None else ()
