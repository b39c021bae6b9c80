# SPDX-License-Identifier: Apache-2.0
"""Any bytes become an enrolment or a report, or an error of ours."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.errors import ChopmarkError
from chopmark.statements import Statement, Subject
from chopmark.telemetry import (
    NONCE,
    Enrolled,
    EnrolmentRequest,
    Purpose,
    SeenLog,
    SignedReport,
    decode_enrolled,
    decode_enrolment,
    decode_report,
    decode_signed_report,
    encode_enrolled,
    encode_enrolment,
    encode_report,
    encode_signed_report,
)
from chopmark.telemetry.wire import decode_answer
from simulators import NOW
from unit.fleet.kit import a_report

digests = st.binary(min_size=32, max_size=32).map(Digest)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40).filter(
    lambda t: not t.startswith("x-")
)
numbers = st.integers(0, canonical.MAX_INTEGER)
reports = st.builds(
    a_report,
    seq=st.integers(2, canonical.MAX_INTEGER),
    prev=digests,
    time=st.integers(0, 10**9).map(lambda s: NOW + timedelta(seconds=s)),
    purpose=st.sampled_from(Purpose),
    slot=st.sampled_from(["", "A", "B"]),
    release=st.none() | digests,
    running=st.none() | digests,
    message=words,
    evidence=st.dictionaries(words, words, max_size=5),
    versions=st.dictionaries(words, numbers, max_size=5),
    log=st.none()
    | st.builds(SeenLog, origin=words.filter(bool), size=numbers, root=st.binary(min_size=32, max_size=32)),
    gen=numbers,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = json.loads(encode_report(a_report()))


@given(reports)
def test_round_trip(report):
    assert decode_report(encode_report(report)) == report


@given(st.binary(max_size=500), digests, st.binary(max_size=100))
def test_signed_round_trip(payload, keyid, sig):
    signed = SignedReport(payload=payload, keyid=keyid.hex, sig=sig)
    assert decode_signed_report(encode_signed_report(signed)) == signed


@given(words, st.binary(max_size=100), words, st.from_regex(NONCE, fullmatch=True))
def test_enrolments_round_trip(one, data, other, nonce):
    request = EnrolmentRequest(token=one, spki=data, name=other)
    assert decode_enrolment(encode_enrolment(request)) == request
    enrolled = Enrolled(device=one, nonce=nonce)
    assert decode_enrolled(encode_enrolled(enrolled)) == enrolled


@given(st.binary(max_size=300))
def test_any_bytes(data):
    for decode in (decode_report, decode_signed_report, decode_enrolment, decode_enrolled):
        with contextlib.suppress(ChopmarkError):
            decode(data)


@given(st.sampled_from(sorted(MEMBERS)), json_values)
def test_any_member(name, value):
    with contextlib.suppress(ChopmarkError):
        decode_report(json.dumps(MEMBERS | {name: value}, separators=(",", ":"), sort_keys=True).encode())


@given(st.dictionaries(st.sampled_from(["token", "public", "name", "device", "nonce"]), json_values))
def test_any_enrolment(members):
    for decode in (decode_enrolment, decode_enrolled):
        with contextlib.suppress(ChopmarkError):
            decode(json.dumps(members).encode())


@given(
    st.dictionaries(
        st.sampled_from(["v", "nonce", "next_nonce", "time", "snapshot", "tier", "result", "reason"]), json_values
    )
)
def test_any_answer(predicate):
    statement = Statement(subjects=(Subject("device/a", Digest.of(b"")),), predicate_type="", predicate=predicate)
    with contextlib.suppress(ChopmarkError):
        decode_answer(statement)
