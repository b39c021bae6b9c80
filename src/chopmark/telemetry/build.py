# SPDX-License-Identifier: Apache-2.0
"""Sign reports (device) and answers (service)."""

from __future__ import annotations

from collections.abc import Iterable

from chopmark.keys import Signer
from chopmark.statements import Envelope, PredicateType, Statement, Subject, sign
from chopmark.telemetry.model import Answer, Report, SignedReport
from chopmark.telemetry.wire import SUBJECT_PREFIX, answer_predicate, encode_report, encode_signed_report


def sign_report(report: Report, signer: Signer) -> bytes:
    """Return *report* signed by the device's key, as it is sent.

    Raises:
        DecodeError: longer than a report may be.
        UndecidedError: the key could not be used.
    """
    unsigned = SignedReport(payload=encode_report(report), keyid=signer.public.keyid, sig=b"")
    return encode_signed_report(
        SignedReport(payload=unsigned.payload, keyid=unsigned.keyid, sig=signer.sign(unsigned.message))
    )


def build_answer(answer: Answer, signers: Iterable[Signer]) -> Envelope:
    """Return *answer* as an appraisal, signed by the keys of the role ``verifier``."""
    statement = Statement(
        subjects=(Subject(SUBJECT_PREFIX + answer.device, answer.report),),
        predicate_type=PredicateType.APPRAISAL,
        predicate=answer_predicate(answer),
    )
    return sign(statement, signers)
