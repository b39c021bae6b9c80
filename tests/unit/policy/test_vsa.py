# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from chopmark.artifacts import Digest
from chopmark.errors import DecodeError
from chopmark.policy import (
    NOBODY,
    Allowed,
    Approvals,
    Denied,
    Fact,
    Phase,
    Undecidable,
    build_vsa,
    decide,
    decode_policy,
    default_policy_file,
    read_vsa,
    replay,
)
from chopmark.statements import Statement, decode_statement, encode_statement
from simulators.trust import NOW
from unit.policy.facts import candidate, default_policy, facts
from unit.release.kit import digest

BOTH = Approvals(counted=("owner-a", "owner-b"), candidates=("owner-a", "owner-b"), partial={}, k=2)


def a_vsa(some: tuple[Fact, ...], *, phase: Phase = Phase.EVIDENCE, approvals: Approvals = NOBODY) -> Statement:
    decision = decide(default_policy(), phase, facts=some, candidate=candidate(), approvals=approvals)
    assert isinstance(decision, Allowed | Denied)
    made = build_vsa(decision, policy=default_policy(), facts=some, candidate=candidate(), approvals=approvals, at=NOW)
    return decode_statement(encode_statement(made))


def test_it_has_the_members_of_the_standard() -> None:
    predicate = a_vsa(facts()).predicate
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["timeVerified"] == "2026-11-22T10:00:00Z"
    assert predicate["resourceUri"] == "chopmark:acme/digits/1"
    assert predicate["policy"] == {"uri": "policies/default.yaml", "digest": {"sha256": default_policy().digest.hex}}
    assert predicate["verifiedLevels"] == ["CHOPMARK_EVIDENCE"]
    assert len(predicate["inputAttestations"]) == 8  # type: ignore[arg-type]
    failed = a_vsa(facts(without=[5])).predicate
    assert (failed["verificationResult"], failed["verifiedLevels"]) == ("FAILED", ["FAILED"])


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("without", [(), (5,)])
def test_a_decision_is_confirmed_elsewhere(phase: Phase, without: tuple[int, ...]) -> None:
    approvals = BOTH if phase is Phase.APPROVAL else NOBODY
    some = facts(without=without)
    summary = read_vsa(a_vsa(some, phase=phase, approvals=approvals))
    again = replay(
        summary, policy=default_policy(), facts=some[::-1], candidate=candidate(previous=7), approvals=approvals
    )
    assert (again.differences, again.confirmed) == ((), True), "whatever was released since"


def test_what_it_lies_about_is_named() -> None:
    some = facts()
    summary = read_vsa(a_vsa(some, phase=Phase.APPROVAL, approvals=BOTH))
    other = decode_policy(default_policy_file() + b"# another\n")

    def differences(**changed: object) -> str:
        given = {"policy": default_policy(), "facts": some, "candidate": candidate(), "approvals": BOTH} | changed
        said = given.pop("summary", summary)
        return "; ".join(replay(said, **given).differences)  # type: ignore[arg-type]

    assert differences() == ""
    assert "another policy" in differences(policy=other)
    assert "another package" in differences(candidate=candidate(manifest=digest("x")))
    assert "another package" in differences(candidate=candidate(version="2"))
    assert "another release" in differences(candidate=candidate(digest=digest("x")))
    assert "it counted owner-a, owner-b" in differences(approvals=NOBODY)
    assert "cannot be found" in differences(facts=some[1:])
    assert "the opposite" in differences(summary=replace(summary, passed=False))
    assert "verdicts differ" in differences(summary=replace(summary, verdicts=summary.verdicts[1:]))
    assert "verdicts differ" in differences(summary=replace(summary, verdicts=summary.verdicts[::-1]))


def test_a_gate_that_hides_a_statement_is_not_replayed_as_if_it_had_seen_it() -> None:
    """It is confirmed over what it names; that more is known now is for the decision of now to find."""
    summary = read_vsa(a_vsa(facts()))
    missing = replace(summary, inputs=(*summary.inputs, Digest.of(b"hidden")))
    again = replay(missing, policy=default_policy(), facts=facts(), candidate=candidate(), approvals=NOBODY)
    assert isinstance(again.decision, Undecidable)
    assert not again.confirmed


@pytest.mark.parametrize(
    "change",
    [
        {"verificationResult": "MAYBE"},
        {"phase": "later"},
        {"timeVerified": "now"},
        {"policy": {"uri": "x", "digest": {"sha512": "00"}}},
        {"rules": [{"id": "x", "ok": 1, "message": "", "facts": []}]},
        {"inputAttestations": [{"uri": "x", "digest": {}}]},
        {"more": 1},
    ],
)
def test_another_shape_is_refused(change: dict[str, object]) -> None:
    good = a_vsa(facts())
    with pytest.raises(DecodeError):
        read_vsa(replace(good, predicate={**good.predicate, **change}))
