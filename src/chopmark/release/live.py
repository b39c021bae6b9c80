# SPDX-License-Identifier: Apache-2.0
"""The releases that devices may be told to run now, whether or not they are approved: what hangs on keys is asked of these.

:func:`chopmark.release.desired.desired` refuses a commit in which one is unapproved; who has just lost a key, or is about
to, needs the list all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chopmark.artifacts import Digest
from chopmark.channel import Release, decode_release
from chopmark.errors import VerificationError
from chopmark.release.ports import GitHost
from chopmark.release.repository import read_channels, read_envelope, read_models
from chopmark.statements import Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A release that devices may be told to run: assigned in a channel, or the fallback of one that is.

    Attributes:
        envelope: as it stands in the repository; not verified.
        assigned: channels that it is assigned in; empty for a fallback.
        fallback_of: releases that name it.
    """

    release: Release
    envelope: Envelope
    assigned: tuple[str, ...] = ()
    fallback_of: tuple[Digest, ...] = ()

    @property
    def uses(self) -> tuple[str, ...]:
        """What for, in words."""
        return (*self.assigned, *(f"fallback of {digest.short}…" for digest in self.fallback_of))


def live_releases(host: GitHost, commit: str, *, workspace: str) -> tuple[Live, ...]:
    """Return every release that *commit* assigns, and the fallbacks of these, in that order.

    Raises:
        DecodeError: a file that cannot be read.
        VerificationError: ``envelope-missing``: a ring or a fallback names a release that nobody can look at.
    """
    models = {name: model.release for name, model in read_models(host, commit, workspace=workspace).items()}
    found: dict[Digest, Live] = {}
    for channel in read_channels(host, commit):
        ringed = {ring.model for ring in channel.rings}
        wanted = [
            release.digest for n, release in models.items() if n not in ringed and channel.name in release.channels
        ]
        wanted += [
            ring.release or models[ring.model].digest for ring in channel.rings if ring.release or ring.model in models
        ]
        for digest in dict.fromkeys(wanted):
            one = found.get(digest) or _read(host, commit, digest)
            found[digest] = replace(one, assigned=(*one.assigned, channel.name))
    for assigned in list(found.values()):
        for digest in assigned.release.fallbacks:
            one = found.get(digest) or _read(host, commit, digest)
            found[digest] = replace(one, fallback_of=(*one.fallback_of, assigned.release.digest))
    return tuple(found.values())


def _read(host: GitHost, commit: str, digest: Digest) -> Live:
    envelope = read_envelope(host, commit, digest)
    if envelope is None:
        raise VerificationError(
            f"the envelope of {digest} is not in the repository",
            code="envelope-missing",
            hint="envelopes are never removed: restore it from an earlier commit",
        )
    return Live(release=decode_release(envelope.payload), envelope=envelope)
