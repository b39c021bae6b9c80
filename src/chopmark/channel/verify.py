# SPDX-License-Identifier: Apache-2.0
"""Steps 11 to 13 of the device's procedure: is this release approved, meant for here, and current? Pure.

Used at refresh, before anything is downloaded for a release, and again at every load, over the bytes on disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chopmark.artifacts import Digest
from chopmark.channel.model import Release, Status
from chopmark.channel.wire import decode_release
from chopmark.errors import DecodeError, Refused, VerificationError
from chopmark.statements import decode_envelope, verify
from chopmark.trust import TrustPolicy

APPROVER = "approver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """The newest release of a model that a device has run: its counter is a floor."""

    counter: int
    release: Digest
    fallbacks: tuple[Digest, ...]


def approved(envelope: bytes, trust: TrustPolicy, *, channel: str) -> Release:
    """Step 11: k distinct approver owners signed this envelope, for this predicate, model and channel.

    Raises:
        Refused: ``release-unapproved``.
    """
    try:
        statement = verify(decode_envelope(envelope), trust, APPROVER)
        release = decode_release(statement.envelope.payload)
    except (VerificationError, DecodeError) as error:
        raise Refused("release-unapproved", error.message, evidence=error.evidence) from error
    if not trust.role(APPROVER).serves(channel):
        raise Refused("release-unapproved", f"these approvers may not approve for channel {channel}")
    return release


def directed(
    release: Release, *, workspace: str, model: str, channel: str, runtime_name: str, runtime_version: str
) -> None:
    """Step 12: the release is for what was asked.

    Raises:
        Refused: ``release-misdirected``, with what was wanted and what it is for.
    """
    for what, wanted, found in (
        ("workspace", workspace, (release.workspace,)),
        ("model", model, (release.model,)),
        ("channel", channel, release.channels),
        ("runtime", runtime_name, (release.runtime.name,)),
    ):
        if wanted not in found:
            raise Refused(
                "release-misdirected",
                f"the release is for {what} {', '.join(found)}, not {wanted}",
                evidence={"what": what, "wanted": wanted, "release": ", ".join(found)},
            )
    if not in_range(runtime_version, release.runtime.range):
        raise Refused(
            "release-misdirected",
            f"the release needs {runtime_name} {release.runtime.range}; here is {runtime_version}",
            evidence={"what": "runtime version", "wanted": release.runtime.range, "release": runtime_version},
        )


def current(release: Release, *, status: Status, top: Top | None, assigned: Digest | None) -> None:
    """Step 13: not revoked, above the epoch floor, no older than the newest run here, and the assigned one.

    Args:
        top: None on a device that never ran this model.
        assigned: what the channel file names here; at load, what the slot's record names.

    Raises:
        Refused: ``release-revoked``, ``release-conflict``, ``release-rollback``, ``release-unassigned``.
    """
    revoked = status.revocation(release)
    floor = status.min_epoch.get(release.model, 0)
    if revoked is not None or release.epoch < floor:
        reason = revoked.reason if revoked else f"epoch {release.epoch} is below the floor {floor}"
        raise Refused("release-revoked", f"revoked: {reason}", evidence={"release": str(release.digest)})
    if top is not None and release.digest != top.release:
        if release.counter == top.counter:
            raise Refused(
                "release-conflict",
                evidence={"counter": release.counter, "release": str(release.digest), "top": str(top.release)},
            )
        if release.counter < top.counter and release.digest not in top.fallbacks:
            raise Refused(
                "release-rollback",
                f"counter {release.counter} is below {top.counter}, and this is none of its fallbacks",
                evidence={"counter": release.counter, "top": top.counter, "release": str(release.digest)},
            )
    if release.digest != assigned:
        raise Refused(
            "release-unassigned", evidence={"release": str(release.digest), "assigned": str(assigned or "nothing")}
        )


_NUMBERS = r"\d{1,9}(?:\.\d{1,9}){0,7}(?!\.?\d)"
_VERSION = re.compile(_NUMBERS, re.ASCII)
_CLAUSE = re.compile(f"(>=|<=|==|!=|>|<)({_NUMBERS})", re.ASCII)


def in_range(version: str, wanted: str) -> bool:
    """Tell whether *version* meets every clause of *wanted*, such as ``>=1.20,<2``; anything unreadable is a no."""
    have = _VERSION.match(version)
    if have is None:
        return False
    for text in wanted.split(","):
        clause = _CLAUSE.fullmatch(text.strip())
        if clause is None or not _compare(_numbers(have.group()), clause.group(1), _numbers(clause.group(2))):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    return tuple(numbers + [0] * (8 - len(numbers)))


def _compare(have: tuple[int, ...], operator: str, want: tuple[int, ...]) -> bool:
    return {
        ">=": have >= want,
        "<=": have <= want,
        "==": have == want,
        "!=": have != want,
        ">": have > want,
        "<": have < want,
    }[operator]
