# SPDX-License-Identifier: Apache-2.0
"""Release, status, channel file: the objects that a device acts on, after their bytes were verified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chopmark.artifacts import Digest

BUCKETS: Final = 10_000
_BUCKET_DOMAIN: Final = b"chopmark-bucket-v1\0"

RESERVED_CHANNELS: Final = frozenset({"root", "trust", "targets", "snapshot", "timestamp", "mirrors", "status"})
"""Names that TUF or we use for roles and files; no channel may have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeNeed:
    """Which model runtime a release was tested with.

    Attributes:
        range: versions, PEP 440 style, e.g. ``>=1.20,<2``.
        libraries: file name -> digest; where given, the device's runtime must consist of exactly these.
    """

    name: str
    range: str
    libraries: Mapping[str, Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What k approvers signed: this package, for this model, for these channels.

    Attributes:
        digest: the release hash, SHA-256 of the signed payload; assignments, fallbacks, status and reports use it.
        counter: rises with every release of a model; 1 <= counter < 2^53.
        epoch: a security floor; releases below a status's ``min_epoch`` are revoked together.
        manifest: package digest; *manifest_length* in bytes.
        fallbacks: releases that may be assigned instead of this one without new approval.
        check_class: how often and how hard a device checks; a key of trust.json's ``max_status_age_s``.
        self_test: digest of the package's self-test vectors.
        vsa: digest of the evidence decision that approvers saw; *evidence*: digests of the statements behind it.
    """

    digest: Digest
    workspace: str
    model: str
    version: str
    channels: tuple[str, ...]
    counter: int
    epoch: int
    manifest: Digest
    manifest_length: int
    fallbacks: tuple[Digest, ...]
    runtime: RuntimeNeed
    abi: str
    min_app: str
    min_tier: int
    check_class: str
    self_test: Digest
    vsa: Digest
    evidence: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEntry:
    """A release or a manifest that is revoked or held, why, and since when.

    Attributes:
        kind: ``release`` or ``manifest``: what *digest* is of.
    """

    kind: str
    digest: Digest
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is revoked or held, and when that was last said."""

    version: int
    issued: datetime
    revoked: tuple[StatusEntry, ...] = ()
    min_epoch: Mapping[str, int]
    holds: tuple[StatusEntry, ...] = ()

    def revocation(self, release: Release) -> StatusEntry | None:
        """Return what revokes *release*, by its hash or its package."""
        return _matching(self.revoked, release)

    def hold(self, release: Release) -> StatusEntry | None:
        """Return what holds *release*."""
        return _matching(self.holds, release)


def _matching(entries: tuple[StatusEntry, ...], release: Release) -> StatusEntry | None:
    named = {("release", release.digest), ("manifest", release.manifest)}
    return next((entry for entry in entries if (entry.kind, entry.digest) in named), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Devices whose bucket is in [*first*, *end*) run *release*.

    Attributes:
        first, end: 0 <= first < end <= 10,000.
    """

    model: str
    runtime: str
    first: int
    end: int
    release: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFile:
    """Which approved release goes to whom in one channel; the same file for every device.

    Attributes:
        files: target path -> digest of the file that is served for it (envelopes, manifests, package files).
    """

    name: str
    version: int
    expires: datetime
    assignments: tuple[Assignment, ...]
    files: Mapping[str, Digest]

    def assigned(self, *, model: str, runtime: str, device: str) -> Digest | None:
        """Return the release for *device*, or None where nothing is assigned.

        The bucket depends on the release, so that a device is not always among the first; with several assignments the
        first whose range holds the device's bucket decides.
        """
        for a in self.assignments:
            if (a.model, a.runtime) == (model, runtime) and a.first <= bucket(device, a.release) < a.end:
                return a.release
        return None


def bucket(device: str, release: Digest) -> int:
    """Return the device's place among 10,000 for *release*: 0 <= bucket < 10,000, even and stable."""
    digest = hashlib.sha256(_BUCKET_DOMAIN + device.encode() + b"\0" + release.value).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def envelope_target(channel: str, release: Digest) -> str:
    """Return the TUF target path of a release envelope in *channel*."""
    return f"{channel}/envelopes/{release.hex}.json"


def manifest_target(channel: str, manifest: Digest) -> str:
    """Return the TUF target path of a package's manifest in *channel*."""
    return f"{channel}/manifests/{manifest.hex}.json"


def package_target(channel: str, manifest: Digest, name: str) -> str:
    """Return the TUF target path of the file *name* of a package in *channel*."""
    return f"{channel}/packages/{manifest.hex}/{name}"


def fetch_path(target: str, digest: Digest) -> str:
    """Return where a target of consistent snapshots is fetched: its digest stands before its last name part."""
    folder, _, name = target.rpartition("/")
    return f"targets/{folder}/{digest.hex}.{name}"
