# SPDX-License-Identifier: Apache-2.0
"""Adopting: what the statement says, what models are called, and the policy that allows them until a date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from chopmark import canonical
from chopmark.artifacts import Digest, hash_bytes
from chopmark.errors import UsageError
from chopmark.inspection import model_format
from chopmark.policy import (
    NOBODY,
    Allowed,
    Candidate,
    Denied,
    Fact,
    Phase,
    adoption_policy_file,
    build_vsa,
    decide,
    decode_policy,
    lineage,
    read_vsa,
    replay,
)
from chopmark.release.adopt import (
    Adoption,
    Source,
    SourceKind,
    adopted,
    adoption_statement,
    names_for,
    read_adoption,
    url_source,
    warnings_of,
)
from chopmark.statements import PredicateType, Statement, Subject, sign, verify_any
from simulators import NOW, plain_release
from unit.inspection.models import linear
from unit.policy.facts import SecondEngine
from unit.release.kit import BUILD, SimLedger, digest, inspection, people, result_of, statement

UNTIL = datetime(2027, 6, 30, tzinfo=UTC)
MODEL = hash_bytes("model.onnx", b"an old model")
PACKAGE = digest("package of the old model")


def tiny_model() -> bytes:
    return linear().SerializeToString()


def adoption(**changes: object) -> Adoption:
    members = {
        "workspace": "acme",
        "model": "digits",
        "file": MODEL,
        "format": "onnx",
        "source": Source(kind=SourceKind.FOLDER, name="models/model.onnx"),
        "reason": "in use since 2024",
        "adopted": NOW,
    }
    return Adoption(**(members | changes))  # type: ignore[arg-type]


def packaged(name: str = "model.onnx", model: Digest = MODEL.sha256) -> Statement:
    listed = [{"name": name, "digest": {"sha256": model.hex}}]
    build = {"buildType": BUILD.format("package"), "externalParameters": {}, "resolvedDependencies": listed}
    return statement(PredicateType.PROVENANCE, PACKAGE, {"buildDefinition": build, "runDetails": {}})


def facts(*more: tuple[str, Statement], model: Adoption | None = None) -> tuple[Fact, ...]:
    said = [
        ("data-owner", adoption_statement(model or adoption())),
        ("builder", packaged()),
        ("tester", result_of(PACKAGE)),
        ("inspector", inspection(PACKAGE)),
        ("inspector", statement(PredicateType.SBOM, PACKAGE, {"bomFormat": "CycloneDX"})),
        *more,
    ]
    trust, keys = people().policy, people().keys
    return tuple(Fact(verified=verify_any(sign(s, keys(o)), trust), index=n) for n, (o, s) in enumerate(said))


CANDIDATE = Candidate(release=plain_release(manifest=PACKAGE))
POLICY = decode_policy(adoption_policy_file(UNTIL))


def decided(some: tuple[Fact, ...], now: datetime | None) -> Allowed | Denied:
    some = lineage(some, PACKAGE)
    decision = decide(POLICY, Phase.EVIDENCE, facts=some, candidate=CANDIDATE, now=now)
    second = decide(POLICY, Phase.EVIDENCE, facts=some, candidate=CANDIDATE, now=now, engine=SecondEngine())
    assert type(decision) is type(second)
    assert [v.ok for v in decision.verdicts] == [v.ok for v in second.verdicts]
    assert isinstance(decision, Allowed | Denied)
    return decision


def failed(decision: Allowed | Denied) -> set[str]:
    return {verdict.id for verdict in decision.verdicts if not verdict.ok}


def test_an_adoption_is_read_back_as_it_was_written():
    for model in (adoption(), adoption(until=UNTIL, format="")):
        assert read_adoption(adoption_statement(model)) == model


def test_an_adopter_signs_it_and_it_is_found_by_the_files_digest():
    ledger = SimLedger()
    ledger.log(sign(adoption_statement(adoption()), people().keys("data-owner")))
    assert adopted(ledger.statements(), people().policy) == {MODEL.sha256: (0, adoption())}


def test_a_workspace_without_the_role_is_told_what_to_do():
    trust = people().policy
    roles = {name: role for name, role in trust.roles.items() if name != "adopter"}
    with pytest.raises(UsageError) as caught:
        adopted([], people().renew_policy(roles=roles))
    assert (caught.value.code, "root owners" in caught.value.hint) == ("role-unknown", True)


def test_it_is_allowed_until_the_date_and_not_from_it_on():
    some = facts()
    assert isinstance(decided(some, NOW), Allowed)
    assert isinstance(decided(some, UNTIL - timedelta(seconds=1)), Allowed)
    for late in (UNTIL, UNTIL + timedelta(days=400)):
        decision = decided(some, late)
        assert failed(decision) == {"adoption-ends"}
        assert any("from 2027-06-30T00:00:00Z on" in verdict.message for verdict in decision.verdicts)


def test_the_adopters_own_date_ends_it_earlier_and_never_later():
    early, late = UNTIL - timedelta(days=90), UNTIL + timedelta(days=90)
    assert isinstance(decided(facts(model=adoption(until=early)), early - timedelta(seconds=1)), Allowed)
    assert failed(decided(facts(model=adoption(until=early)), early)) == {"adoption-ends"}
    assert failed(decided(facts(model=adoption(until=late)), UNTIL)) == {"adoption-ends"}


def test_without_a_time_nothing_is_allowed():
    assert failed(decided(facts(), None)) == {"adoption-ends"}


def test_a_decision_is_replayed_with_the_time_that_it_says():
    some = lineage(facts(), PACKAGE)
    decision = decide(POLICY, Phase.EVIDENCE, facts=some, candidate=CANDIDATE, now=NOW)
    assert isinstance(decision, Allowed)
    summary = read_vsa(build_vsa(decision, policy=POLICY, facts=some, candidate=CANDIDATE, approvals=NOBODY, at=NOW))
    assert replay(summary, policy=POLICY, facts=some, candidate=CANDIDATE, approvals=NOBODY).confirmed
    late = read_vsa(build_vsa(decision, policy=POLICY, facts=some, candidate=CANDIDATE, approvals=NOBODY, at=UNTIL))
    assert not replay(late, policy=POLICY, facts=some, candidate=CANDIDATE, approvals=NOBODY).confirmed


def test_names_are_names_each_another_and_always_the_same():
    places = ["Résumé Model (v2).onnx", "a/b.onnx", "a-b.tflite", "x-ray.onnx", "..onnx", "UPPER/Name.GGUF", "n" * 200]
    names = names_for(places)
    assert names == names_for(list(reversed(places)))
    assert len(set(names.values())) == len(places)
    for name in names.values():
        canonical.check_name(name, what="model")
    assert names["UPPER/Name.GGUF"] == "upper-name"
    assert names["a/b.onnx"].startswith("a-b-")
    assert names_for(["m.onnx"], "legacy")["m.onnx"] == "legacy-m"


def test_an_address_keeps_no_secret():
    shown = url_source("https://user:secret@models.example:8443/a/m.onnx?token=secret#secret").name
    assert shown == "https://models.example:8443/a/m.onnx"
    assert url_source("http://[::1]:80/m").name == "http://[::1]:80/m"
    for bad in ("ftp://x/y", "https://", "m.onnx", "https://[::1/x"):
        with pytest.raises(UsageError):
            url_source(bad)


def test_models_are_found_by_their_content(tmp_path):
    import pickle

    np.savez(tmp_path / "weights.npz", a=np.zeros(3))
    assert model_format(tiny_model()) == "onnx"
    assert model_format(pickle.dumps({"a": 1})) == "pickle"
    assert model_format(b"GGUF\x03\0\0\0") == "gguf"
    assert model_format(b"\x1c\0\0\0TFL3") == "tflite"
    assert model_format((100).to_bytes(8, "little") + b'{"a":{}}') == "safetensors"
    assert model_format((tmp_path / "weights.npz").read_bytes()) == ""
    for nothing in (b"", b"\x08", b"# a readme", b"{}", b"#!/bin/sh"):
        assert model_format(nothing) == ""
    assert len(warnings_of({"a": "pickle", "b": "onnx", "c": "pytorch"})) == 2


def test_an_adoption_is_about_the_file_first():
    assert adoption_statement(adoption()).subject == Subject("model/digits", MODEL.sha256)
