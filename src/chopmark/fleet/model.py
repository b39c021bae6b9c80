# SPDX-License-Identifier: Apache-2.0
"""Devices, what they last said, and refusals, as types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from chopmark.artifacts import Digest
from chopmark.errors import FAILURES, Failure
from chopmark.keys import PublicKey

FLEET_FAILURES: Mapping[str, Failure] = {
    "device-cloned": Failure(
        0,
        "two reports follow one: two devices sign with one key, or an old state was put back",
        "look at both reports; enrol the device anew, or release it when you know why",
    ),
    "clock-off": Failure(0, "the device's clock is wrong", "set its clock; look for who changed it"),
}
"""What the fleet finds and no device does; step 0, since none of the protocol's steps finds it."""

_UNKNOWN = Failure(0, "the device refused, for a reason that is not known here", "look at the device's message")


def failure(code: str) -> Failure:
    """Return what is known about a failure, of the protocol or of the fleet."""
    return FLEET_FAILURES.get(code) or FAILURES.get(code) or _UNKNOWN


class Condition(StrEnum):
    """What the fleet thinks of a device.

    ``held``: nothing it has may run: what lies in its slot was refused, until it reports that it is verified again; or two
    devices have its key, until a person releases it. ``refused``: it was shown something untrue and runs what it had.
    """

    ENROLLED = "enrolled"
    VERIFIED = "verified"
    REFUSED = "refused"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a device last said about one thing, or what the fleet last found about it.

    Attributes:
        topic: ``load/<model>``, ``refresh/<model>`` (model may be empty), ``clock`` or ``log``.
        verdict: ``verified`` or the name of a failure.
        refusal: number of the refusal that stands open; None when verified.
    """

    topic: str
    verdict: str
    model: str
    slot: str
    release: Digest | None
    running: Digest | None
    time: datetime
    refusal: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One enrolled device.

    Attributes:
        id: assigned by the service: a device that chose its id would choose its place in a rollout.
        name: what people call it.
        held: why it is held; "" when it is not. *released*: who last released it, and when.
        challenge: the one its next report must carry; *challenged*: when that was given out.
        used: the challenge that its last report carried; reports made offline behind that one carry it too.
        seq, head: place and digest of its last report; 0 and None before the first.
        rejoin: the next report starts the chain anew; set when a person releases the device.
        tier: granted by the service.
    """

    id: str
    name: str
    key: PublicKey
    enrolled: datetime
    challenge: str
    challenged: datetime
    used: str = ""
    seq: int = 0
    head: Digest | None = None
    rejoin: bool = False
    held: str = ""
    released: str = ""
    tier: int = 1
    seen: datetime | None = None
    standings: Mapping[str, Standing] = field(default_factory=dict)

    @property
    def condition(self) -> Condition:
        """One refused thing outweighs any number of verified ones."""
        refused = [standing for standing in self.standings.values() if standing.refusal is not None]
        if self.held or any(standing.topic.startswith("load/") for standing in refused):
            return Condition.HELD
        if refused:
            return Condition.REFUSED
        return Condition.VERIFIED if self.standings else Condition.ENROLLED

    @property
    def running(self) -> Mapping[str, Digest]:
        """Model -> the release that the newest report about it says is running."""
        newest: dict[str, Standing] = {}
        for standing in sorted(self.standings.values(), key=lambda s: (s.time, s.topic)):
            if standing.model:
                newest[standing.model] = standing
        return {model: s.running for model, s in newest.items() if s.running is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One thing that a device refused, or was refused for, with all that is known about it.

    Attributes:
        number: from 1 upwards; people write ``R1``.
        topic: see :class:`Standing`.
        step: step of the protocol that decided; 0 when the fleet found it.
        message: the device's own words; *facts*: what was compared; *hint*: what to do next.
        report: digest of the signed report that says so.
        first, last, count: the same refusal again raises *count* and is no new alert.
    """

    number: int
    device: str
    topic: str
    code: str
    step: int
    model: str
    slot: str
    release: Digest | None
    running: Digest | None
    message: str
    facts: Mapping[str, str]
    hint: str
    report: Digest
    first: datetime
    last: datetime
    count: int = 1
    alerted: bool = False

    @property
    def id(self) -> str:
        return f"R{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The fleet on one line of a screen.

    Attributes:
        conditions: condition -> how many devices.
        running: model -> release -> how many devices.
        newest: the newest refusal.
        undelivered: alerts that no sink has taken yet.
    """

    devices: int
    conditions: Mapping[Condition, int]
    running: Mapping[str, Mapping[Digest, int]]
    refusals: int
    newest: Refusal | None
    undelivered: int
