# SPDX-License-Identifier: Apache-2.0
"""How far the operator is, in kstatus words, so that ``kubectl wait``, Argo CD and Flux understand it. Pure.

*Ready*: what was last attempted is applied. *Reconciling*: being worked on, or tried again by itself. *Stalled*: nothing
happens until a person or a new commit comes.

Source: kstatus (sigs.k8s.io/cli-utils), conditions of the Flux controllers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from chopmark import canonical
from chopmark.clock import format_time, parse_time
from chopmark.errors import ChopmarkError, Retry

MAX_STATUS_BYTES: Final = 65_536
MAX_MESSAGE_CHARS: Final = 1_000


class ConditionType(StrEnum):
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition.

    Attributes:
        status: True, False, or None for unknown.
        reason: one word in CamelCase.
        since: when *status* last changed.
    """

    type: ConditionType
    status: bool | None
    reason: str
    message: str
    observed_generation: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorStatus:
    """What the operator says about itself.

    Attributes:
        observed_generation: how many commits it has looked at; rises by one with each new one.
        last_applied_revision: commit whose state is published; empty before the first.
        last_attempted_revision: commit that was last tried.
    """

    observed_generation: int = 0
    last_applied_revision: str = ""
    last_attempted_revision: str = ""
    conditions: tuple[Condition, ...] = ()

    def condition(self, kind: ConditionType) -> Condition | None:
        """Return the condition *kind*; kstatus leaves out those that are false and say nothing."""
        return next((condition for condition in self.conditions if condition.type is kind), None)


def applied(before: OperatorStatus, revision: str, *, now: datetime, message: str) -> OperatorStatus:
    """Return the status once *revision* is published."""
    said: dict[ConditionType, tuple[bool | None, str, str]] = {ConditionType.READY: (True, "Applied", message)}
    return _next(before, revision, now=now, applied=revision, said=said)


def failed(before: OperatorStatus, revision: str, error: ChopmarkError, *, now: datetime) -> OperatorStatus:
    """Return the status after *error*: stalled where only a person can help, else reconciling."""
    reason = "".join(word.capitalize() for word in error.code.split("-"))
    message = error.message[:MAX_MESSAGE_CHARS]
    kind = ConditionType.STALLED if error.retry is Retry.STALL else ConditionType.RECONCILING
    said: dict[ConditionType, tuple[bool | None, str, str]] = {
        ConditionType.READY: (False, reason, message),
        kind: (True, reason, message),
    }
    return _next(before, revision, now=now, applied=before.last_applied_revision, said=said)


def encode_status(status: OperatorStatus) -> bytes:
    """Return the ``status`` member of a Kubernetes object, as RFC 8785 JSON."""
    words = {True: "True", False: "False", None: "Unknown"}
    return canonical.encode(
        {
            "observedGeneration": status.observed_generation,
            "lastAppliedRevision": status.last_applied_revision,
            "lastAttemptedRevision": status.last_attempted_revision,
            "conditions": [
                {
                    "type": str(condition.type),
                    "status": words[condition.status],
                    "reason": condition.reason,
                    "message": condition.message,
                    "observedGeneration": condition.observed_generation,
                    "lastTransitionTime": format_time(condition.since),
                }
                for condition in status.conditions
            ],
        }
    )


class _Condition(canonical.Strict, frozen=True, kw_only=True, rename="camel"):
    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    observed_generation: int
    last_transition_time: str


class _Status(canonical.Strict, frozen=True, kw_only=True, rename="camel"):
    observed_generation: int
    last_applied_revision: str
    last_attempted_revision: str
    conditions: list[_Condition]


def decode_status(data: bytes) -> OperatorStatus:
    """Read what :func:`encode_status` wrote.

    Raises:
        DecodeError: anything else.
    """
    wire = canonical.decode_as(data, _Status, what="operator status", max_bytes=MAX_STATUS_BYTES)
    values = {"True": True, "False": False, "Unknown": None}
    return OperatorStatus(
        observed_generation=wire.observed_generation,
        last_applied_revision=wire.last_applied_revision,
        last_attempted_revision=wire.last_attempted_revision,
        conditions=tuple(
            Condition(
                type=condition.type,
                status=values[condition.status],
                reason=condition.reason,
                message=condition.message,
                observed_generation=condition.observed_generation,
                since=parse_time(condition.last_transition_time, what="operator status"),
            )
            for condition in wire.conditions
        ),
    )


def _next(
    before: OperatorStatus,
    revision: str,
    *,
    now: datetime,
    applied: str,
    said: dict[ConditionType, tuple[bool | None, str, str]],
) -> OperatorStatus:
    generation = before.observed_generation + (revision != before.last_attempted_revision)
    conditions = []
    for kind, (status, reason, message) in said.items():
        old = before.condition(kind)
        conditions.append(
            Condition(
                type=kind,
                status=status,
                reason=reason,
                message=message,
                observed_generation=generation,
                since=old.since if old is not None and old.status is status else now,
            )
        )
    return OperatorStatus(
        observed_generation=generation,
        last_applied_revision=applied,
        last_attempted_revision=revision,
        conditions=tuple(conditions),
    )
