# SPDX-License-Identifier: Apache-2.0
"""What a device is told at enrolment, and what it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from chopmark.artifacts import Digest
from chopmark.channel import LogHead, Status, Top
from chopmark.device.timefloor import TimeFloor

TIER: Final = 1
"""What this device can show of itself: a hash signed by a software key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What enrolment wrote down: ``device.toml``.

    Attributes:
        pin: digest of the root that everything else is trusted through.
        key: id of the device's public key; another ``key.pem`` is not this device's.
        runtime: which runtime this device has, as releases name it.
        app: version of the application around the models; releases may ask for a minimum.
        poll_s: seconds between two refreshes.
        fleet_url: "" on a device that reports to nobody.
    """

    workspace: str
    device: str
    name: str
    channel: str
    models: tuple[str, ...]
    channel_url: str
    fleet_url: str
    pin: Digest
    key: str
    runtime: str = "onnxruntime"
    app: str = "0"
    poll_s: int = 300


class Slot(StrEnum):
    """One of the two places a model's package can be in."""

    A = "A"
    B = "B"

    @property
    def other(self) -> Slot:
        return Slot.B if self is Slot.A else Slot.A


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Which release is in which slot, and which of them is loaded; *active* always has a release."""

    active: Slot
    releases: Mapping[Slot, Digest]

    @property
    def release(self) -> Digest:
        """The release in the active slot."""
        return self.releases[self.active]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVersion:
    """Version and digest of a file that the device keeps."""

    version: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Where the chain of reports is.

    Attributes:
        seq: number of the newest report; 0 for none.
        head: its digest.
        nonce: the service's last challenge.
        said: what about -> the verdict that was last reported, so that it is not said again and again.
    """

    seq: int = 0
    head: Digest | None = None
    nonce: str = "none"
    said: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All a device remembers, in one file. Members are ratchets unless they say otherwise.

    Attributes:
        gen: number of this state; mirrored in a hardware counter where there is one.
        root, trust: the newest that were verified; *trust* is None before the first refresh.
        reset: when root's rises, the ratchets below are dropped.
        versions: role -> newest version seen.
        logs: origin -> newest head seen.
        status: the newest, without its holds; None before the first refresh.
        assigned: model -> release that the channel named last; not a ratchet.
        top: model -> newest release that ran.
        slots: model -> what is installed; not a ratchet.
        floor: it is this late at least.
        settings: digest of the files that enrolment wrote, as they were; not a ratchet.
    """

    gen: int
    root: FileVersion
    trust: FileVersion | None = None
    reset: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)
    logs: Mapping[str, LogHead] = field(default_factory=dict)
    status: Status | None = None
    assigned: Mapping[str, Digest] = field(default_factory=dict)
    top: Mapping[str, Top] = field(default_factory=dict)
    slots: Mapping[str, Slots] = field(default_factory=dict)
    floor: TimeFloor | None = None
    chain: Chain = field(default_factory=Chain)
    settings: Digest | None = None

    def without_ratchets(self, *, reset: int) -> State:
        """Return this state as it is after root's reset number rose to *reset*: what is installed stays."""
        return replace(self, reset=reset, versions={}, logs={}, status=None, top={}, floor=None)
