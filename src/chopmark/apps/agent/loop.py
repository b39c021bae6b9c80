# SPDX-License-Identifier: Apache-2.0
"""One turn of the agent, and the loop around it.

A turn looks at what is installed, byte by byte, *before* it refreshes: a model that was tampered with is reported, and
only then healed. A refusal is delivered before the channel is asked, since whoever tampers may also cut the network.
Whatever one stage raises, the next ones are gone through: the refresh may be what heals it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from chopmark.channel import Fetcher
from chopmark.device import (
    Delivery,
    Device,
    FleetClient,
    Refreshed,
    Refusal,
    Verdict,
    check,
    deliver,
    next_delay,
    refresh,
)
from chopmark.errors import ChopmarkError, InternalError, Retry, foreign

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn found.

    Attributes:
        checks: model -> what lay in its active slot when the turn began; without the models that are not installed.
        refreshed: None where the channel could not be followed; *errors* say why.
        delivery: None where nothing could be delivered, or nobody is reported to.
        errors: what could not be decided, and why a report could not be made.
    """

    checks: Mapping[str, Verdict] = field(default_factory=dict)
    refreshed: Refreshed | Refusal | None = None
    delivery: Delivery | None = None
    errors: tuple[ChopmarkError, ...] = ()

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Everything that was refused in this turn, in order."""
        found: list[Verdict | None] = list(self.checks.values())
        if isinstance(self.refreshed, Refreshed):
            outcomes = self.refreshed.models.values()
            # What the check saw too is one finding.
            found += [refusal for outcome in outcomes for refusal in outcome.damaged if refusal not in found]
            found += [self.refreshed.healed, *(outcome.verdict for outcome in outcomes)]
        elif self.refreshed is not None:
            found.append(self.refreshed)
        return tuple(verdict for verdict in found if isinstance(verdict, Refusal))

    @property
    def undecided(self) -> tuple[ChopmarkError, ...]:
        """Everything that could not be decided in this turn."""
        models = self.refreshed.models.values() if isinstance(self.refreshed, Refreshed) else ()
        return (*self.errors, *(outcome.error for outcome in models if outcome.error is not None))

    @property
    def retry(self) -> Retry | None:
        """What the loop does next: None when all went well."""
        if self.undecided:
            return min((error.retry for error in self.undecided), key=[Retry.RETRY, Retry.WAIT, Retry.STALL].index)
        return Retry.STALL if self.refusals else None


def turn(device: Device, fetcher: Fetcher, fleet: FleetClient | None) -> Turn:
    """Check, report, refresh, report."""
    errors: list[ChopmarkError] = []
    checks: dict[str, Verdict] = {}
    for model in device.config.models:
        found = _try(errors, f"{model}: the check", partial(check, device, model))
        if found is not None:
            checks[model] = found
    if any(isinstance(verdict, Refusal) for verdict in checks.values()):
        _deliver(device, fleet, [])  # what goes wrong here is said by the delivery below
    refreshed = _try(errors, "the refresh", partial(refresh, device, fetcher))
    delivery = _deliver(device, fleet, errors)
    unsaid = device.journal.take_failure()
    if unsaid is not None:
        errors.append(unsaid)
    return Turn(checks=checks, refreshed=refreshed, delivery=delivery, errors=tuple(errors))


def loop(
    device: Device,
    fetcher: Fetcher,
    fleet: FleetClient | None,
    *,
    wait: Callable[[float], bool],
    jitter: Callable[[], float],
    tell: Callable[[Turn], None],
) -> None:
    """Turn until told to stop.

    Args:
        wait: waits so many seconds, or less; returns whether to stop.
        jitter: draws from [0, 1).
        tell: is given every turn.
    """
    failures = 0
    while True:
        found = turn(device, fetcher, fleet)
        tell(found)
        failures = failures + 1 if found.retry else 0
        if wait(next_delay(device.config.poll_s, retry=found.retry, failures=failures, jitter=jitter())):
            return


def _deliver(device: Device, fleet: FleetClient | None, errors: list[ChopmarkError]) -> Delivery | None:
    if fleet is None:
        return None
    return _try(errors, "the delivery", partial(deliver, device, fleet))


def _try(errors: list[ChopmarkError], what: str, stage: Callable[[], _Found]) -> _Found | None:
    try:
        with foreign(InternalError, f"{what} failed", code="internal", quote=True):
            return stage()
    except ChopmarkError as error:
        if error.code != "not-installed":
            errors.append(error)
        return None
