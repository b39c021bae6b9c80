# SPDX-License-Identifier: Apache-2.0
"""The newcomer's tour: all ten steps in a second, with a model of four numbers. Read it from top to bottom.

    artifact digest -> signed statement -> ledger entry -> policy decision -> release -> signed channel
      -> device verification -> evidence + telemetry -> alert -> rollback

Everything is really signed, proven and checked. Only the disk is small: the ledger, the people and the channel live in
memory (``tests/simulators``), the device in a temporary folder. The same steps on real parts: ``make demo``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from chopmark.adapters.alerts.memory import MemorySink
from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql import fleet as sql_fleet
from chopmark.artifacts import Digest, Manifest, hash_bytes
from chopmark.device import Refusal, check, open_model
from chopmark.errors import Refused, VerificationError
from chopmark.fleet import Condition, Fleet
from chopmark.keys import Algorithm
from chopmark.ledger import WitnessPolicy, verify_proof
from chopmark.policy import Allowed, Approvals, Candidate, Denied, Fact, Phase, decide, decode_policy
from chopmark.statements import (
    PredicateType,
    Statement,
    Subject,
    sign,
    statement_leaf,
    verify,
)
from chopmark.telemetry import EnrolmentRequest, Purpose, Report, sign_report
from simulators import NOW, SimChannel, SimLog, SimTrust
from unit.device.kit import World, load, package, queued, runs

TOKEN = "a token that nobody guesses in a year"
POLICY = b"""\
kind: ReleasePolicy
metadata: {name: tour}
spec:
  rules:
  - id: tested
    phase: evidence
    message: no tester says that it passed
    cel: 'facts.exists(f, f.type == "test-result" && f.role == "tester" && f.subject == release.manifest)'
  - id: needs-two-approvers
    phase: approval
    message: "{approvals}"
    cel: 'size(approvals) >= 2'
"""


def manifest_of(files: dict[str, bytes]) -> Manifest:
    return Manifest(files=tuple(hash_bytes(name, files[name]) for name in sorted(files)))


def test_1_digest_names_every_byte_and_every_name() -> None:
    one = manifest_of({"labels.json": b"[0]", "model.tiny": b"weights"})
    renamed = manifest_of({"labels.json": b"[0]", "model2.tiny": b"weights"})
    assert one.digest != renamed.digest, "a file cannot be renamed into another's place"


def test_2_statement_becomes_verified_only_by_who_may_say_it() -> None:
    people = SimTrust(log=SimLog())
    envelope = sign(passed(manifest_of(package("1")).digest), people.keys("tester"))

    verified = verify(envelope, people.policy, "tester")
    assert (verified.role, verified.owners) == ("tester", ("tester",))

    with pytest.raises(VerificationError):
        verify(sign(verified.statement, people.keys("builder")), people.policy, "tester")


def test_3_ledger_entry_is_proven_without_asking_anybody() -> None:
    log = SimLog()
    leaf = statement_leaf(sign(passed(Digest.of(b"package")), [kms.generate(Algorithm.ED25519)]))
    log.append(b"something before")
    proof = log.prove(leaf)

    included = verify_proof(
        proof, leaf, origin=log.origin, require=log.keys.require, policy=WitnessPolicy.parse(log.policy)
    )
    assert (included.index, included.checkpoint.size) == (1, 2)

    with pytest.raises(Refused):
        verify_proof(
            proof, b"another leaf", origin=log.origin, require=log.keys.require, policy=WitnessPolicy.parse(log.policy)
        )


def test_4_decision_says_which_rule_and_what_is_missing() -> None:
    channel = SimChannel()
    people, policy, release = channel.trust, decode_policy(POLICY), channel.approve(version="1")
    candidate = Candidate(release=release)
    fact = Fact(
        verified=verify(sign(passed(release.manifest), people.keys("tester")), people.policy, "tester"), index=0
    )

    assert isinstance(decide(policy, Phase.EVIDENCE, facts=[fact], candidate=candidate), Allowed)
    nothing = decide(policy, Phase.EVIDENCE, facts=[], candidate=candidate)
    assert isinstance(nothing, Denied)
    assert [(v.id, v.message) for v in nothing.verdicts] == [("tested", "no tester says that it passed")]

    everybody = ("owner-a", "owner-b", "owner-c")
    one = Approvals(counted=("owner-a",), candidates=everybody, partial={}, k=2)
    refused = decide(policy, Phase.APPROVAL, facts=[fact], candidate=candidate, approvals=one)
    assert isinstance(refused, Denied)
    assert refused.verdicts[0].message == "owner-a signed; owner-b or owner-c missing"


def test_5_to_7_a_release_reaches_a_device_and_nothing_else_does(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1")  # 5: two owners sign the envelope; 6: the operator publishes it, logged and witnessed
    device = world.enroll()  # a key of its own, and the pinned root
    world.refresh(device)  # 7: steps 1 to 16
    assert runs(device) == "1"  # 17 and 18, from sealed memory

    model = device.folder.path / "slots" / "digits" / "A" / "files" / "model.tiny"
    genuine = model.read_bytes()
    model.write_bytes(genuine.replace(b"1", b"2", 1))  # somebody is root on the device
    refusal = open_model(device, "digits")
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.step) == ("package-altered", 14)

    model.write_bytes(genuine)
    with load(device) as loaded:
        assert loaded.run([[2.0, 1.0]]) == [[2.0, 1.0]]

    world.publish("2", by=["owner-a"])  # one approver is none
    assert world.refused(device).code == "release-unapproved"
    assert runs(device) == "1", "a failure leaves what is installed alone"


def test_8_and_9_the_device_reports_what_it_found_and_signs_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    device = world.installed("1")
    before = queued(device)[-1]
    (device.folder.path / "slots" / "digits" / "A" / "files" / "labels.json").write_bytes(b"[]")
    assert isinstance(check(device, "digits"), Refusal)

    report = queued(device)[-1]
    assert (report.verdict, report.step, report.tier) == ("package-altered", 14, 1)
    assert report.seq == before.seq + 1, "reports are chained: one that is missing is noticed"


def test_10_a_refusal_becomes_an_alert_and_the_model_is_taken_back(tmp_path: Path) -> None:
    world, sink = World(tmp_path), MemorySink()
    fleet = Fleet(
        workspace="acme",
        store=sql_fleet.create(tmp_path / "fleet.db"),
        alerts=sink,
        verifier=world.trust.keys("verifier"),
        token=TOKEN.encode,
        clock=world.clock,
        tolerance=timedelta(minutes=5),
    )
    key = kms.generate(Algorithm.ED25519)
    known = fleet.enroll(EnrolmentRequest(token=TOKEN, spki=key.public.spki, name="phone"))
    fleet.report(sign_report(bad_news(known.device, known.nonce), key))
    assert [finding["class_uid"] for finding in sink.findings] == [2004], "an OCSF detection finding"
    assert fleet.store.devices()[0].condition is Condition.HELD

    first = world.publish("1")
    device = world.enroll()
    world.refresh(device)
    world.publish("2", fallbacks=(first,))  # its approvers name version 1 as what may be gone back to
    world.refresh(device)
    assert runs(device) == "2"
    before = device.store.read().versions["production"]

    world.publish(first)  # taken back: the channel goes up, the model goes down
    world.refresh(device)
    assert runs(device) == "1"
    assert device.store.read().versions["production"] == before + 1


def passed(package_digest: Digest) -> Statement:
    predicate = {"result": "PASSED", "configuration": []}
    subject = Subject("model/digits", package_digest)
    return Statement(subjects=(subject,), predicate_type=PredicateType.TEST_RESULT, predicate=predicate)


def bad_news(device: str, nonce: str) -> Report:
    good = Report(
        device=device,
        seq=1,
        prev=None,
        time=NOW,
        purpose=Purpose.LOAD,
        nonce=nonce,
        model="digits",
        slot="A",
        release=Digest.of(b"release"),
        running=None,
        verdict="verified",
        step=18,
        message="",
        tier=1,
        evidence={},
        log=None,
        versions={},
        gen=1,
    )
    return replace(good, verdict="package-altered", step=14, message="model.tiny differs from the manifest")
