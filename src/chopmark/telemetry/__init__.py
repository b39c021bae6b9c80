# SPDX-License-Identifier: Apache-2.0
"""Telemetry: what a device says about itself, and what the service answers. One wire format for both ends.

    device --EnrolmentRequest--> service --Enrolled--> device     (JSON, not signed)
    Report --sign_report--> bytes --decode_signed_report--> SignedReport --verify_report--> Report
    Answer --build_answer--> Envelope --verify_answer--> Answer

A report is chained to the one before it and bound to the service's last challenge, the device, the purpose, the release
and the slot: all of them stand inside the signed bytes. Whether a well-signed report is *believed* (its place in the
chain, its challenge, its time) is the fleet's question, not this package's. Safe on a device.
"""

from chopmark.telemetry.build import build_answer, sign_report
from chopmark.telemetry.model import (
    MAX_ENROLMENT_BYTES,
    MAX_EVIDENCE,
    MAX_EVIDENCE_CHARS,
    MAX_MESSAGE_CHARS,
    MAX_REPORT_BYTES,
    NONCE,
    VERIFIED,
    Answer,
    Enrolled,
    EnrolmentRequest,
    Purpose,
    Report,
    Result,
    SeenLog,
    SignedReport,
)
from chopmark.telemetry.verify import verify_answer, verify_report
from chopmark.telemetry.wire import (
    decode_enrolled,
    decode_enrolment,
    decode_report,
    decode_signed_report,
    encode_enrolled,
    encode_enrolment,
    encode_report,
    encode_signed_report,
)

__all__ = [
    "MAX_ENROLMENT_BYTES",
    "MAX_EVIDENCE",
    "MAX_EVIDENCE_CHARS",
    "MAX_MESSAGE_CHARS",
    "MAX_REPORT_BYTES",
    "NONCE",
    "VERIFIED",
    "Answer",
    "Enrolled",
    "EnrolmentRequest",
    "Purpose",
    "Report",
    "Result",
    "SeenLog",
    "SignedReport",
    "build_answer",
    "decode_enrolled",
    "decode_enrolment",
    "decode_report",
    "decode_signed_report",
    "encode_enrolled",
    "encode_enrolment",
    "encode_report",
    "encode_signed_report",
    "sign_report",
    "verify_answer",
    "verify_report",
]
