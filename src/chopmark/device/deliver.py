# SPDX-License-Identifier: Apache-2.0
"""Deliver the queued reports, in order, and believe an answer only with the service's signature.

A report whose answer does not verify stays in the queue and is sent again: the service knows reports by their digest.
The answer's ``snapshot`` tells of a channel that is kept from this device: it names the newest one the service knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chopmark.device.opened import Device
from chopmark.device.ports import FleetClient
from chopmark.device.store import read_trust
from chopmark.errors import Refused, VerificationError
from chopmark.statements import decode_envelope
from chopmark.telemetry import Answer, verify_answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What was delivered.

    Attributes:
        sent: how many reports the service has now that it did not have before.
        answer: to the newest of them; None where nothing was sent.
        behind: the service knows a newer publication than this device could see.
        refused: why the service, or this device, did not accept the rest.
    """

    sent: int
    answer: Answer | None = None
    behind: bool = False
    refused: VerificationError | None = None


def deliver(device: Device, fleet: FleetClient) -> Delivery:
    """Send what is queued; stop at the first that is not accepted.

    Raises:
        UndecidedError: the service cannot be reached; the rest waits.
    """
    with device.folder.locked(shared=True):
        try:
            state = device.store.read()
        except Refused:
            return Delivery(sent=0)  # no trust.json to verify an answer with; the next refresh makes one
        queued = list(device.journal.pending(state))
        if not queued or state.trust is None:
            return Delivery(sent=0)
        try:
            trust = read_trust(device.folder, state.trust)
        except Refused as error:
            return Delivery(sent=0, refused=error)
    answer: Answer | None = None
    for sent, (path, data, signed, report) in enumerate(queued):
        try:
            raw = fleet.report(data)
            answer = verify_answer(decode_envelope(raw), trust, signed.digest, nonce=report.nonce)
        except VerificationError as error:
            return Delivery(sent=sent, answer=answer, refused=error)
        with device.folder.locked():
            device.journal.delivered(path, raw)
    if answer is not None:
        nonce = answer.next_nonce
        device.store.commit(lambda now: replace(now, chain=replace(now.chain, nonce=nonce)))
    behind = answer is not None and answer.snapshot > state.versions.get("snapshot", 0)
    return Delivery(sent=len(queued), answer=answer, behind=behind)
