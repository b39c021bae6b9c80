# SPDX-License-Identifier: Apache-2.0
"""What a commit asks for, and what has to be published for it. No clock, no network; :func:`plan` is pure.

Every release that :func:`desired` returns is approved by k owners and says what its file says. A commit that cannot be
read, or asks for nothing at all, is refused: an empty repository is more likely a mistake than a wish.
"""

from __future__ import annotations

from collections.abc import Mapping

from chopmark.artifacts import Digest
from chopmark.channel import Assignment
from chopmark.errors import Refused, VerificationError
from chopmark.release.model import ApprovedRelease, Change, Channel, Desired, Plan, Ring
from chopmark.release.ports import GitHost
from chopmark.release.repository import CHANNELS, read_approved, read_channels, read_models
from chopmark.trust import TrustPolicy


def desired(host: GitHost, commit: str, *, trust: TrustPolicy, workspace: str) -> Desired:
    """Return what *commit* asks for.

    Raises:
        Refused: ``trust-mismatch``: *trust* is another workspace's.
        VerificationError: ``desired-empty``; a file that cannot be read; a release that is unapproved, altered, or
            assigned to a channel that it was not approved for.
    """
    if trust.workspace != workspace:
        raise Refused("trust-mismatch", f"trust.json is that of {trust.workspace}, not of {workspace}")
    channels = read_channels(host, commit)
    # An envelope is looked up by the hash of what the file says: where the file says something else, there is none.
    models = {
        name: read_approved(host, commit, model.release.digest, trust)
        for name, model in read_models(host, commit, workspace=workspace).items()
    }
    releases = {release.release.digest: release for release in models.values()}
    assigned: dict[str, tuple[Assignment, ...]] = {}
    for channel in channels:
        for ring in channel.rings:
            if ring.release is not None and ring.release not in releases:
                releases[ring.release] = read_approved(host, commit, ring.release, trust)
        assigned[channel.name] = tuple(_assignments(channel, models, releases))
    _check_served(models, assigned)
    if not any(assigned.values()):
        raise VerificationError(
            f"commit {commit[:10]} assigns no release to any channel",
            code="desired-empty",
            hint="propose a release, or go back to a commit that has one",
        )
    used = {a.release: releases[a.release] for assignments in assigned.values() for a in assignments}
    for release in list(used.values()):
        for digest in release.release.fallbacks:
            used.setdefault(digest, releases.get(digest) or read_approved(host, commit, digest, trust))
    return Desired(commit=commit, channels=assigned, releases=used)


def plan(wanted: Desired, published: Mapping[str, tuple[Assignment, ...]]) -> Plan:
    """Return what differs between *wanted* and what the channels say now.

    Args:
        published: channel -> assignments of its newest channel file; a channel that is missing was never published.
    """
    changes = tuple(
        Change(channel=channel, model=model, before=before.get(model, ()), after=after.get(model, ()))
        for channel, assignments in wanted.channels.items()
        for after, before in [(_by_model(assignments), _by_model(published.get(channel, ())))]
        for model in sorted({*after, *before})
        if before.get(model, ()) != after.get(model, ())
    )
    return Plan(commit=wanted.commit, changes=changes)


def _assignments(
    channel: Channel, models: Mapping[str, ApprovedRelease], releases: Mapping[Digest, ApprovedRelease]
) -> list[Assignment]:
    ringed = {ring.model for ring in channel.rings}
    whole = [Ring(model=n) for n, m in models.items() if n not in ringed and channel.name in m.release.channels]
    found = []
    for ring in (*channel.rings, *whole):
        digest = ring.release
        if digest is None:
            if ring.model not in models:
                raise VerificationError(
                    f"channel {channel.name} asks for {ring.model}, of which there is no release",
                    code="desired-unreadable",
                )
            digest = models[ring.model].release.digest
        release = releases[digest].release
        if release.model != ring.model or channel.name not in release.channels:
            raise Refused(
                "release-misdirected",
                f"{release.model} {release.version} was approved for {', '.join(release.channels)}, "
                f"not as {ring.model} for {channel.name}",
                hint="name a release in the ring that was approved for this channel, or propose one",
            )
        found.append(
            Assignment(model=ring.model, runtime=release.runtime.name, first=ring.first, end=ring.end, release=digest)
        )
    return found


def _check_served(models: Mapping[str, ApprovedRelease], assigned: Mapping[str, tuple[Assignment, ...]]) -> None:
    for name, model in models.items():
        for channel in model.release.channels:
            if channel not in assigned:
                raise VerificationError(
                    f"{name} {model.release.version} is for channel {channel}, of which there is no file",
                    code="desired-unreadable",
                    hint=f"add {CHANNELS}/{channel}.yaml",
                )


def _by_model(assignments: tuple[Assignment, ...]) -> dict[str, tuple[Assignment, ...]]:
    found: dict[str, tuple[Assignment, ...]] = {}
    for assignment in assignments:
        found[assignment.model] = (*found.get(assignment.model, ()), assignment)
    return found
