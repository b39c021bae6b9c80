# SPDX-License-Identifier: Apache-2.0
"""Bytes <-> enrolments, reports and answers, strictly: RFC 8785, unknown members refused, 16 KiB at most."""

from __future__ import annotations

from typing import Final

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.clock import format_time, parse_time
from chopmark.errors import DecodeError
from chopmark.statements import Statement
from chopmark.telemetry.model import (
    MAX_ENROLMENT_BYTES,
    MAX_EVIDENCE_CHARS,
    MAX_REPORT_BYTES,
    MAX_TIER,
    Answer,
    Enrolled,
    EnrolmentRequest,
    Purpose,
    Report,
    Result,
    SeenLog,
    SignedReport,
)

SUBJECT_PREFIX: Final = "device/"


class _EnrolmentRequest(canonical.Strict, frozen=True, kw_only=True):
    token: str
    public: str
    name: str


class _Enrolled(canonical.Strict, frozen=True, kw_only=True):
    device: str
    nonce: str


class _Log(canonical.Strict, frozen=True, kw_only=True):
    origin: str
    size: int
    root: str


class _Report(canonical.Strict, frozen=True, kw_only=True):
    v: int
    device: str
    seq: int
    prev: str | None
    time: str
    purpose: Purpose
    nonce: str
    model: str
    slot: str
    release: str | None
    running: str | None
    verdict: str
    step: int
    message: str
    evidence: dict[str, str]
    tier: int
    log: _Log | None
    versions: dict[str, int]
    gen: int


class _Signed(canonical.Strict, frozen=True, kw_only=True):
    v: int
    payload: str
    keyid: str
    sig: str


class _Answer(canonical.Strict, frozen=True, kw_only=True):
    v: int
    nonce: str
    next_nonce: str
    time: str
    snapshot: int
    tier: int
    result: Result
    reason: str


def encode_enrolment(request: EnrolmentRequest) -> bytes:
    """Return the bytes that a new device sends."""
    return canonical.encode(
        {"token": request.token, "public": canonical.encode_base64(request.spki), "name": request.name}
    )


def decode_enrolment(data: bytes) -> EnrolmentRequest:
    """Read the request of a new device.

    Raises:
        DecodeError: not such a request.
    """
    wire = canonical.decode_as(data, _EnrolmentRequest, what="enrolment", max_bytes=MAX_ENROLMENT_BYTES)
    spki = canonical.decode_base64(wire.public, what="public key")
    return EnrolmentRequest(token=wire.token, spki=spki, name=wire.name)


def encode_enrolled(enrolled: Enrolled) -> bytes:
    """Return the bytes that a new device is answered."""
    return canonical.encode({"device": enrolled.device, "nonce": enrolled.nonce})


def decode_enrolled(data: bytes) -> Enrolled:
    """Read the answer to a new device.

    Raises:
        DecodeError: not such an answer.
    """
    wire = canonical.decode_as(data, _Enrolled, what="enrolment answer", max_bytes=MAX_ENROLMENT_BYTES)
    return Enrolled(device=wire.device, nonce=wire.nonce)


def encode_report(report: Report) -> bytes:
    """Return the RFC 8785 bytes of *report*: what is signed, and what the chain's digests are taken over."""
    log = report.log
    return canonical.encode(
        {
            "v": 1,
            "device": report.device,
            "seq": report.seq,
            "prev": _optional(report.prev),
            "time": format_time(report.time),
            "purpose": str(report.purpose),
            "nonce": report.nonce,
            "model": report.model,
            "slot": report.slot,
            "release": _optional(report.release),
            "running": _optional(report.running),
            "verdict": report.verdict,
            "step": report.step,
            "message": report.message,
            "evidence": dict(report.evidence),
            "tier": report.tier,
            "log": None
            if log is None
            else {"origin": log.origin, "size": log.size, "root": canonical.encode_base64(log.root)},
            "versions": dict(report.versions),
            "gen": report.gen,
        }
    )


def decode_report(payload: bytes) -> Report:
    """Read the payload of a signed report.

    Raises:
        DecodeError: not canonical, an unknown member or version, or a value out of bounds.
    """
    wire = canonical.decode_as(payload, _Report, what="report", max_bytes=MAX_REPORT_BYTES, canonical=True)
    if wire.v != 1:
        raise DecodeError(f"report: version {wire.v} is not known here")
    return Report(
        device=wire.device,
        seq=wire.seq,
        prev=_digest(wire.prev),
        time=parse_time(wire.time, what="report"),
        purpose=wire.purpose,
        nonce=wire.nonce,
        model=wire.model,
        slot=wire.slot,
        release=_digest(wire.release),
        running=_digest(wire.running),
        verdict=wire.verdict,
        step=wire.step,
        message=wire.message,
        evidence=wire.evidence,
        tier=wire.tier,
        log=None
        if wire.log is None
        else SeenLog(
            origin=wire.log.origin,
            size=wire.log.size,
            root=canonical.decode_base64(wire.log.root, what="report: root"),
        ),
        versions=wire.versions,
        gen=wire.gen,
    )


def encode_signed_report(signed: SignedReport) -> bytes:
    """Return the bytes that a device sends.

    Raises:
        DecodeError: longer than a report may be.
    """
    data = canonical.encode(
        {
            "v": 1,
            "payload": canonical.encode_base64(signed.payload),
            "keyid": signed.keyid,
            "sig": canonical.encode_base64(signed.sig),
        }
    )
    if len(data) > MAX_REPORT_BYTES:
        raise DecodeError(f"report: {len(data):,} bytes, more than the {MAX_REPORT_BYTES:,} allowed")
    return data


def decode_signed_report(data: bytes) -> SignedReport:
    """Read a report as sent. Its payload is not looked into.

    Raises:
        DecodeError: not a signed report.
    """
    wire = canonical.decode_as(data, _Signed, what="signed report", max_bytes=MAX_REPORT_BYTES)
    if wire.v != 1:
        raise DecodeError(f"signed report: version {wire.v} is not known here")
    return SignedReport(
        payload=canonical.decode_base64(wire.payload, what="signed report"),
        keyid=Digest.from_hex(wire.keyid).hex,
        sig=canonical.decode_base64(wire.sig, what="signed report"),
    )


def answer_predicate(answer: Answer) -> dict[str, object]:
    """Return the predicate of the appraisal that answers a report."""
    return {
        "v": 1,
        "nonce": answer.nonce,
        "next_nonce": answer.next_nonce,
        "time": format_time(answer.time),
        "snapshot": answer.snapshot,
        "tier": answer.tier,
        "result": str(answer.result),
        "reason": answer.reason,
    }


def decode_answer(statement: Statement) -> Answer:
    """Read an appraisal that answers a report.

    Raises:
        DecodeError: not such an appraisal.
    """
    wire = canonical.convert(statement.predicate, _Answer, what="answer")
    name = statement.subject.name
    if wire.v != 1 or not name.startswith(SUBJECT_PREFIX) or len(statement.subjects) != 1:
        raise DecodeError("answer: an unknown version, or not about one report of a device")
    if wire.snapshot < 0 or not 0 <= wire.tier <= MAX_TIER or len(wire.reason) > MAX_EVIDENCE_CHARS:
        raise DecodeError("answer: a value out of range")
    return Answer(
        device=name.removeprefix(SUBJECT_PREFIX),
        report=statement.subject.digest,
        nonce=wire.nonce,
        next_nonce=wire.next_nonce,
        time=parse_time(wire.time, what="answer"),
        snapshot=wire.snapshot,
        tier=wire.tier,
        result=wire.result,
        reason=wire.reason,
    )


def _optional(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)


def _digest(text: str | None) -> Digest | None:
    return None if text is None else Digest.parse(text)
