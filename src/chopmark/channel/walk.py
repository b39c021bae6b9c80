# SPDX-License-Identifier: Apache-2.0
"""Steps 5 to 9 in order, over a channel that may lie: fetch what the step before named, check it, go on.

    to_status (5 to 8) -> to_channel (9)

The checks are :mod:`chopmark.channel.follow`'s; here is only which file comes next, and what a missing or overlong one is
called: a file that verified metadata names and the server does not have does not belong to this publication. The walk
stops after 8 because that is where a device commits what it learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tuf.api.metadata import Targets

from chopmark.channel import follow
from chopmark.channel.follow import Logged, LogHead, SnapshotMeta
from chopmark.channel.model import ChannelFile, Status
from chopmark.channel.ports import Fetcher, MissingError
from chopmark.errors import DecodeError, Refused
from chopmark.trust import TrustedRoot, TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a follower remembers; nothing, for one that is new.

    Attributes:
        versions: role -> newest version seen.
        logs: origin -> newest head seen.
    """

    versions: Mapping[str, int] = field(default_factory=dict)
    logs: Mapping[str, LogHead] = field(default_factory=dict)
    status: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Informed:
    """What steps 5 to 8 found."""

    timestamp: int
    snapshot: SnapshotMeta
    logged: Logged
    targets: Targets
    status: Status


def to_status(
    root: TrustedRoot, trust: TrustPolicy, fetcher: Fetcher, *, seen: Seen, channel: str, now: datetime
) -> Informed:
    """Do steps 5 to 8.

    Raises:
        Refused: by the name of the step.
        UndecidedError: the channel could not be reached.
    """
    # 5. Timestamp: signature, version, expiry.
    data = _fetch(fetcher, "metadata/timestamp.json", follow.MAX_TIMESTAMP_BYTES, refusal="channel-untrusted")
    stamp = follow.timestamp(root, data, last=seen.versions.get("timestamp", 0), now=now)
    # 6. Snapshot: hash, versions, and hashes for targets, the channel and status.
    number = stamp.snapshot.version
    data = fetch_named(fetcher, f"metadata/{number}.snapshot.json", follow.MAX_SNAPSHOT_BYTES)
    snap = follow.snapshot(root, stamp, data, last=seen.versions, channel=channel, now=now)
    # 7. Log: the leaf computed from the snapshot's hash, inclusion, signatures, witnesses; it did not shrink or fork.
    path = f"metadata/{number}.snapshot.tlog-proof"
    proof = fetch_named(fetcher, path, follow.MAX_PROOF_BYTES, refusal="log-unproven")
    logged = follow.logged(trust, snap, proof, seen=seen.logs)
    # 8. Status: the security owners' newest word. (targets.json delegates to them, so its signatures come first.)
    targets = follow.targets(root, snap, _role(fetcher, snap, "targets"), now=now)
    status = follow.status(
        trust, targets, snap, _role(fetcher, snap, follow.STATUS), last=seen.status, now=now, latest=root.expires
    )
    return Informed(timestamp=stamp.version, snapshot=snap, logged=logged, targets=targets, status=status)


def to_channel(informed: Informed, fetcher: Fetcher, *, name: str, now: datetime) -> ChannelFile:
    """Do step 9: the channel file that targets.json delegates to.

    Raises:
        Refused, UndecidedError: as :func:`to_status`.
    """
    data = _role(fetcher, informed.snapshot, name)
    return follow.channel_file(informed.targets, informed.snapshot, data, name=name, now=now)


def fetch_named(fetcher: Fetcher, path: str, max_bytes: int, *, refusal: str = "channel-mixed") -> bytes:
    """Fetch a file that verified metadata names.

    Raises:
        Refused: *refusal*: it is missing or too long, so what is served does not belong together.
        UndecidedError: the channel could not be reached.
    """
    try:
        return _fetch(fetcher, path, max_bytes, refusal=refusal)
    except MissingError as error:
        raise Refused(refusal, error.message) from error


def _role(fetcher: Fetcher, snap: SnapshotMeta, role: str) -> bytes:
    return fetch_named(fetcher, f"metadata/{snap.files[role].version}.{role}.json", follow.MAX_TARGETS_BYTES)


def _fetch(fetcher: Fetcher, path: str, max_bytes: int, *, refusal: str) -> bytes:
    try:
        return fetcher.fetch(path, max_bytes=max_bytes)
    except DecodeError as error:
        raise Refused(refusal, error.message) from error
