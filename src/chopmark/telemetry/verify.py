# SPDX-License-Identifier: Apache-2.0
"""Check signatures of reports and answers. Pure: no clock, no store; order, challenge and time are the fleet's."""

from __future__ import annotations

import hmac
from typing import Final

from chopmark.artifacts import Digest
from chopmark.errors import VerificationError
from chopmark.keys import PublicKey
from chopmark.statements import Envelope, PredicateType, verify
from chopmark.telemetry.model import Answer, Report, SignedReport
from chopmark.telemetry.wire import decode_answer, decode_report
from chopmark.trust import TrustPolicy

VERIFIER_ROLE: Final = "verifier"


def verify_report(signed: SignedReport, key: PublicKey) -> Report:
    """Return the report, if *key* signed exactly these bytes.

    Raises:
        VerificationError: ``report-forged``: another key, or other bytes.
        DecodeError: signed properly, and not a report.
    """
    if not hmac.compare_digest(signed.keyid, key.keyid) or not key.verify(signed.sig, signed.message):
        raise VerificationError(
            "the report is not signed by this device's key",
            code="report-forged",
            hint="enrol the device again if its key was replaced",
            evidence={"keyid": signed.keyid, "expected": key.keyid},
        )
    return decode_report(signed.payload)


def verify_answer(envelope: Envelope, trust: TrustPolicy, report: Digest, *, nonce: str) -> Answer:
    """Return the service's answer to the report with the digest *report*.

    Args:
        nonce: the challenge that the report carried.

    Raises:
        VerificationError: not signed by the role ``verifier``; or ``answer-misdirected``: an answer to another report.
        DecodeError: signed properly, and not an answer.
    """
    statement = verify(envelope, trust, VERIFIER_ROLE).statement
    if statement.predicate_type != PredicateType.APPRAISAL:
        raise VerificationError("not an answer to a report", code="answer-misdirected")
    answer = decode_answer(statement)
    if not hmac.compare_digest(answer.report.value, report.value) or not hmac.compare_digest(
        answer.nonce.encode(), nonce.encode()
    ):
        raise VerificationError("an answer to another report", code="answer-misdirected")
    return answer
