# SPDX-License-Identifier: Apache-2.0
"""The fleet: which devices there are, what they report, whether that is believed, and who is told.

    signed report -> Fleet.report -> place (its chain, its challenge) -> findings -> refusal R1 -> alert
                                                                      -> signed answer

A report is believed when its device signed it, it follows the device's last one, and it carries the challenge that was
given to that device. Two successors of one report mean two devices with one key: the device is held until a person
releases it. What devices saw of the ledger is compared with each other's and with the organisation's own: the fleet is
the gossip that finds a fork.
"""

from chopmark.fleet.accept import Finding, Placed, clock_finding, log_finding, place, verdict_finding
from chopmark.fleet.desk import Fleet, release_device, summarise
from chopmark.fleet.model import FLEET_FAILURES, Condition, Device, Refusal, Standing, Summary
from chopmark.fleet.ocsf import detection_finding
from chopmark.fleet.ports import AlertSink, FleetStore, LedgerView

__all__ = [
    "FLEET_FAILURES",
    "AlertSink",
    "Condition",
    "Device",
    "Finding",
    "Fleet",
    "FleetStore",
    "LedgerView",
    "Placed",
    "Refusal",
    "Standing",
    "Summary",
    "clock_finding",
    "detection_finding",
    "log_finding",
    "place",
    "release_device",
    "summarise",
    "verdict_finding",
]
