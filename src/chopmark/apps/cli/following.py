# SPDX-License-Identifier: Apache-2.0
"""Follow a channel from the pin with no memory, as a new device does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chopmark.channel import ChannelFile, Logged, Status
from chopmark.channel.follow import (
    MAX_PROOF_BYTES,
    MAX_SNAPSHOT_BYTES,
    MAX_TARGETS_BYTES,
    MAX_TIMESTAMP_BYTES,
    channel_file,
    logged,
    snapshot,
    status,
    targets,
    timestamp,
)

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site
    from chopmark.channel import Fetcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What the channel says, verified."""

    file: ChannelFile
    status: Status
    logged: Logged


def follow(site: Site, fetcher: Fetcher) -> Followed:
    """Do steps 5 to 9 against *fetcher*.

    Raises:
        Refused: the failure of the step that found it.
        UndecidedError: the channel cannot be reached.
    """
    now, name = site.clock.now(), site.workspace.channel
    ts = timestamp(site.root, fetcher.fetch("metadata/timestamp.json", max_bytes=MAX_TIMESTAMP_BYTES), last=0, now=now)
    path = f"metadata/{ts.snapshot.version}.snapshot"
    snap = snapshot(site.root, ts, fetcher.fetch(f"{path}.json", max_bytes=MAX_SNAPSHOT_BYTES), last={}, channel=name)
    found = logged(site.trust, snap, fetcher.fetch(f"{path}.tlog-proof", max_bytes=MAX_PROOF_BYTES), seen={})

    def fetch(role: str) -> bytes:
        return fetcher.fetch(f"metadata/{snap.files[role].version}.{role}.json", max_bytes=MAX_TARGETS_BYTES)

    delegator = targets(site.root, snap, fetch("targets"))
    said = status(site.trust, delegator, snap, fetch("status"), last=None, now=now)
    file = channel_file(delegator, snap, fetch(name), name=name, now=now)
    return Followed(file=file, status=said, logged=found)
