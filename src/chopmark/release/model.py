# SPDX-License-Identifier: Apache-2.0
"""What stands in the release repository, as types: a model's release, a channel, and the state that both describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chopmark.artifacts import Digest
from chopmark.channel import BUCKETS, Assignment, Release, RuntimeNeed

MAIN: Final = "main"
"""The branch whose head is the desired state."""

DEFAULT_POLICY: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What somebody wants to release.

    Attributes:
        manifest: package digest; *manifest_length* of its encoding, in bytes.
        self_test: digest of the package's self-test vectors.
        counter: None for one above the newest release of the model.
        policy: name of the ReleasePolicy that decides.
    """

    model: str
    version: str
    manifest: Digest
    manifest_length: int
    channels: tuple[str, ...]
    runtime: RuntimeNeed
    self_test: Digest
    fallbacks: tuple[Digest, ...] = ()
    counter: int | None = None
    epoch: int = 1
    abi: str = "any"
    min_app: str = "0"
    min_tier: int = 1
    check_class: str = "normal"
    policy: str = DEFAULT_POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRelease:
    """A ModelRelease file and the payload that is generated from it.

    Attributes:
        policy: name of the ReleasePolicy that decides.
        payload: what approvers sign; its digest is the release hash.
    """

    policy: str
    release: Release
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """An exception in a Channel file: these buckets of a model run this release.

    Attributes:
        first, end: 0 <= first < end <= 10,000.
        release: None for the model's current release.
    """

    model: str
    first: int = 0
    end: int = BUCKETS
    release: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A Channel file.

    A model of which no ring speaks runs, on every device, the current release if that names this channel. Where rings
    speak of a model they say everything: the first whose buckets hold a device decides.
    """

    name: str
    rings: tuple[Ring, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedRelease:
    """A release and its envelope, as signed."""

    release: Release
    envelope: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What a commit asks for; every release in it is properly approved.

    Attributes:
        channels: channel -> assignments, in order.
        releases: every assigned release and every fallback of one.
    """

    commit: str
    channels: Mapping[str, tuple[Assignment, ...]]
    releases: Mapping[Digest, ApprovedRelease]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What changes for one model in one channel.

    Attributes:
        before, after: its assignments; empty where there is none.
    """

    channel: str
    model: str
    before: tuple[Assignment, ...]
    after: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What has to be published so that the channels say what a commit asks for; a rollback looks like any release."""

    commit: str
    changes: tuple[Change, ...]

    @property
    def removals(self) -> tuple[Change, ...]:
        """Changes after which nothing is assigned: devices keep what runs."""
        return tuple(change for change in self.changes if not change.after)
