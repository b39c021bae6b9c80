# SPDX-License-Identifier: Apache-2.0
"""A device reduced to steps 2 to 13: the pure functions in their order, and a memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from chopmark.artifacts import Digest
from chopmark.channel import (
    Fetcher,
    LogHead,
    MissingError,
    Release,
    Status,
    Top,
    approved,
    current,
    directed,
    envelope_target,
    fetch_path,
    follow,
)
from chopmark.channel.walk import Seen, to_channel, to_status
from chopmark.errors import Refused
from chopmark.trust import MAX_ROOT_BYTES, MAX_TRUST_BYTES, TrustedRoot, TrustPolicy, next_root, open_trust, pinned_root
from simulators.channel import RUNTIME, RUNTIME_VERSION

MAX_ENVELOPE_BYTES = 4 * 1024 * 1024


@dataclass
class Memory:
    """The ratchets: what a device remembers of what it has seen."""

    root: TrustedRoot
    trust: TrustPolicy | None = None
    versions: dict[str, int] = field(default_factory=dict)
    heads: dict[str, LogHead] = field(default_factory=dict)
    status: Status | None = None
    top: Top | None = None


class SimFollower:
    """One device that follows one model of one channel.

    Attributes:
        memory: look into it, or change it.
        seen: what the last refresh saw at each step, by name.
    """

    def __init__(
        self,
        channel: Fetcher,
        *,
        root: bytes,
        pin: Digest,
        name: str = "production",
        model: str = "digits",
        device: str = "device-1",
    ) -> None:
        self.channel = channel
        self.name, self.model, self.device = name, model, device
        self.runtime_version = RUNTIME_VERSION
        self.memory = Memory(root=pinned_root(root, pin))

    def refresh(self, now: datetime) -> Release | None:
        """Go through steps 2 to 13 and return what is to run; None where nothing is assigned or it is held.

        Raises:
            Refused: at the step that fails; what earlier steps committed stays.
        """
        trust = self._trust(now)
        memory, root = self.memory, self.memory.root
        seen = Seen(versions=memory.versions, logs=memory.heads, status=memory.status)
        found = to_status(root, trust, self.channel, seen=seen, channel=self.name, now=now)
        memory.status = found.status
        memory.heads[found.logged.origin] = found.logged.head
        memory.versions |= {
            "timestamp": found.timestamp,
            "snapshot": found.snapshot.version,
            "status": found.status.version,
        }
        file = to_channel(found, self.channel, name=self.name, now=now)
        memory.versions |= {"targets": found.targets.version, self.name: file.version}
        assigned = file.assigned(model=self.model, runtime=RUNTIME, device=self.device)
        if assigned is None:
            return None
        target = envelope_target(self.name, assigned)
        envelope = self._fetch(fetch_path(target, file.files[target]), MAX_ENVELOPE_BYTES)
        return self.judge(envelope, assigned)

    def judge(self, envelope: bytes, assigned: Digest | None) -> Release | None:
        """Steps 11 to 13 over an envelope."""
        memory = self.memory
        assert memory.trust is not None
        assert memory.status is not None
        release = approved(envelope, memory.trust, channel=self.name)
        directed(
            release,
            workspace=memory.root.workspace,
            model=self.model,
            channel=self.name,
            runtime_name=RUNTIME,
            runtime_version=self.runtime_version,
        )
        current(release, status=memory.status, top=memory.top, assigned=assigned)
        if memory.status.hold(release):
            return None
        if memory.top is None or release.counter > memory.top.counter:
            memory.top = Top(counter=release.counter, release=release.digest, fallbacks=release.fallbacks)
        return release

    def _trust(self, now: datetime) -> TrustPolicy:
        memory = self.memory
        while True:
            try:
                data = self._fetch(f"metadata/{memory.root.version + 1}.root.json", MAX_ROOT_BYTES)
            except MissingError:
                break
            following = next_root(memory.root, data)
            memory.trust = None
            if following.reset > memory.root.reset:
                memory.versions, memory.heads, memory.status, memory.top = {}, {}, None, None
            memory.root = following
        if memory.trust is None:
            named = memory.root.trust
            memory.trust = open_trust(memory.root, self._fetch(f"metadata/{named.version}.trust.json", MAX_TRUST_BYTES))
        if memory.root.expires <= now:
            raise Refused("root-expired")
        return memory.trust

    def _named(self, role: str, snap: follow.SnapshotMeta) -> bytes:
        return self._fetch(f"metadata/{snap.files[role].version}.{role}.json", follow.MAX_TARGETS_BYTES)

    def _fetch(self, path: str, max_bytes: int) -> bytes:
        return self.channel.fetch(path, max_bytes=max_bytes)
