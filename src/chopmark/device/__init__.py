# SPDX-License-Identifier: Apache-2.0
"""The device: follows the channel, checks every byte before a parser sees it, loads from memory nobody can write, reports.

    open_device -> refresh (steps 1 to 16) -> open_model (17, 18) -> Loaded | Refusal

The numbers are those of the protocol (docs/concepts/trust.md), here and in every report. What a device needs from outside
stands in :mod:`chopmark.device.ports`; it carries no server, and decides alone: without network it goes on loading what
was approved until the status is too old for it.
"""

from chopmark.device.deliver import Delivery, deliver
from chopmark.device.enroll import Enrolment, enroll
from chopmark.device.folder import Folder
from chopmark.device.gate import Loaded, check, open_model
from chopmark.device.install import Action, ModelOutcome
from chopmark.device.model import TIER, Chain, Config, FileVersion, Slot, Slots, State
from chopmark.device.opened import Device, open_device
from chopmark.device.ports import Counter, FleetClient, Sealed, SealedMemory
from chopmark.device.refresh import Refreshed, refresh
from chopmark.device.schedule import next_delay
from chopmark.device.store import StateStore
from chopmark.device.timefloor import TimeFloor, raised, trusted_now
from chopmark.device.verdict import Refusal, Verdict, Verified
from chopmark.device.wire import decode_config, decode_state, encode_config, encode_state, state_key

__all__ = [
    "TIER",
    "Action",
    "Chain",
    "Config",
    "Counter",
    "Delivery",
    "Device",
    "Enrolment",
    "FileVersion",
    "FleetClient",
    "Folder",
    "Loaded",
    "ModelOutcome",
    "Refreshed",
    "Refusal",
    "Sealed",
    "SealedMemory",
    "Slot",
    "Slots",
    "State",
    "StateStore",
    "TimeFloor",
    "Verdict",
    "Verified",
    "check",
    "decode_config",
    "decode_state",
    "deliver",
    "encode_config",
    "encode_state",
    "enroll",
    "next_delay",
    "open_device",
    "open_model",
    "raised",
    "refresh",
    "state_key",
    "trusted_now",
]
