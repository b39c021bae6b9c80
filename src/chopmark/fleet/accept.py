# SPDX-License-Identifier: Apache-2.0
"""Is a signed report believed, and what does it mean? Pure: no store, no clock.

Decides where a report stands in its device's chain, and which findings follow from it. Its signature was verified
before (:func:`chopmark.telemetry.verify_report`); a report that came before gets the answer it got then, and does not
come here.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from chopmark.clock import format_time
from chopmark.errors import VerificationError
from chopmark.fleet.model import Device, failure
from chopmark.telemetry import Report, SeenLog


class Placed(Enum):
    """Where a report stands.

    ``NEXT``: follows the last one and carries the newest challenge. ``LATE``: follows it, and was made before the
    newest challenge reached the device, as reports of an offline device are. ``CLONED``: follows a report that was
    followed already. ``HELD``: of a device that is held; kept, not believed.
    """

    NEXT = "next"
    LATE = "late"
    CLONED = "cloned"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that becomes a refusal.

    Attributes:
        topic: see :class:`chopmark.fleet.model.Standing`.
        facts: what was compared.
    """

    topic: str
    code: str
    step: int
    message: str
    hint: str
    facts: Mapping[str, str] = field(default_factory=dict)


def place(device: Device, report: Report, *, knows_prev: bool) -> Placed:
    """Tell where *report* stands in the chain of *device*.

    Args:
        knows_prev: the predecessor that it names is a report of this device that was received.

    Raises:
        VerificationError: ``report-misdirected`` (of another device than its key's), ``report-out-of-order`` (its
            predecessor was not received), ``report-stale`` (another challenge than the device was given).
    """
    if report.device != device.id:
        raise VerificationError(
            "the report names another device than the one whose key signed it",
            code="report-misdirected",
            evidence={"device": report.device, "key": device.id},
        )
    if device.held:
        return Placed.HELD
    fresh = hmac.compare_digest(report.nonce, device.challenge)
    if device.rejoin:
        # A person decided that this device goes on; what it queued meanwhile may carry any earlier challenge.
        return Placed.NEXT if fresh else Placed.LATE
    if report.prev != device.head and (report.prev is None or knows_prev):
        return Placed.CLONED
    if (report.seq, report.prev) != (device.seq + 1, device.head):
        raise VerificationError(
            f"report {report.seq} came before its predecessor",
            code="report-out-of-order",
            hint="send the reports of the queue in order; a person can let the device rejoin",
            evidence={"seq": report.seq, "expected": device.seq + 1},
        )
    if fresh:
        return Placed.NEXT
    if device.used and hmac.compare_digest(report.nonce, device.used):
        return Placed.LATE
    raise VerificationError(
        f"report {report.seq} does not carry the challenge that this device was given",
        code="report-stale",
        hint="ask for the device's challenge, and report again",
    )


def verdict_finding(report: Report) -> Finding | None:
    """Return the refusal that the device itself reports."""
    if report.verified:
        return None
    known = failure(report.verdict)
    return Finding(
        topic=topic(report),
        code=report.verdict,
        step=report.step,
        message=report.message or known.meaning,
        hint=known.hint,
        facts=report.evidence,
    )


def clock_finding(
    device: Device, report: Report, placed: Placed, *, now: datetime, tolerance: timedelta
) -> Finding | None:
    """Return what is wrong with the report's time: it was made after its challenge was given out, and not after now."""
    early = placed is Placed.NEXT and report.time < device.challenged - tolerance
    if not early and report.time <= now + tolerance:
        return None
    known = failure("clock-off")
    return Finding(
        topic="clock",
        code="clock-off",
        step=known.step,
        message=f"the device says it is {format_time(report.time)}; it is {format_time(now)}",
        hint=known.hint,
        facts={
            "device": format_time(report.time),
            "challenged": format_time(device.challenged),
            "now": format_time(now),
        },
    )


def log_finding(log: SeenLog, others: Mapping[bytes, str]) -> Finding | None:
    """Return a fork: another root than *others* have for the same ledger and size.

    Args:
        log: what a device saw.
        others: root -> who knows it for this origin and size; ``ledger`` is the organisation's own.
    """
    different = {who: root for root, who in others.items() if not hmac.compare_digest(root, log.root)}
    if not different:
        return None
    known = failure("log-fork")
    return Finding(
        topic="log",
        code="log-fork",
        step=known.step,
        message=f"{log.origin}: two different ledgers of {log.size} entries",
        hint=known.hint,
        facts={
            "origin": log.origin,
            "size": str(log.size),
            "reported": log.root.hex(),
            **{who: root.hex() for who, root in sorted(different.items())[:8]},
        },
    )


def topic(report: Report) -> str:
    """Return what a report is about: a later one about the same takes its place."""
    return f"{report.purpose}/{report.model}"
