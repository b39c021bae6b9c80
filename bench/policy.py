# SPDX-License-Identifier: Apache-2.0
"""Deciding about a release."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.by_hand import verdicts
from bench.measure import Timing, in_turns
from chopmark import policy
from chopmark.artifacts import Digest
from chopmark.policy import Candidate, CelEngine, Fact, Phase, Policy
from chopmark.statements import PredicateType, Statement, Subject, sign, verify_any
from simulators import SimTrust, plain_release

FACTS = 50
BUILD = "https://chopmark.dev/build/{}/v1"
DATA, WEIGHTS, FULL, SMALL, PACKAGE = (Digest.of(name.encode()) for name in ("data", "weights", "full", "small", "pkg"))


def decide(_: Path) -> Timing:
    """The eight evidence rules of the default policy and four more, each with the facts it rests on; against Python."""
    rules, facts, new = twelve_rules(), fifty_facts(), candidate()
    views, seen = [fact.view() for fact in facts], new.view(Phase.EVIDENCE)
    decision = partial(policy.decide, rules, Phase.EVIDENCE, facts=facts, candidate=new)
    assert [verdict.ok for verdict in decision().verdicts] == verdicts(views, seen) == [True] * 12
    return in_turns(decision, lambda: verdicts(views, seen), floor_calls=100)


def evaluate(_: Path) -> Timing:
    """The same rules, evaluated once each over the same values and not explained; against Python."""
    engine, release = CelEngine(), candidate().view(Phase.EVIDENCE)
    views = [fact.view() for fact in fifty_facts()]
    programs = [engine.compile(rule.cel, rule.phase) for rule in twelve_rules().of(Phase.EVIDENCE)]
    values = {"facts": views, "release": release}

    def evaluated() -> list[bool]:
        bound = engine.bind(Phase.EVIDENCE, values)
        return [engine.eval(program, bound).holds for program in programs]

    assert evaluated() == [True] * 12
    return in_turns(evaluated, lambda: verdicts(views, release), calls=2, floor_calls=100)


def twelve_rules() -> Policy:
    default = policy.decode_policy(policy.default_policy_file())
    more = policy.decode_policy(Path(__file__).with_suffix(".yaml").read_bytes())
    rules = default.of(Phase.EVIDENCE) + more.of(Phase.EVIDENCE)
    return Policy(name="twelve", digest=default.digest, rules=rules)


def fifty_facts() -> tuple[Fact, ...]:
    """Return verified statements about one package: its chain, its parts, and the results of 44 tests and inspections."""
    people = SimTrust()
    said = [
        ("data-owner", _statement(PredicateType.DATASET, DATA, {"rows": 1797}, name="data/digits")),
        ("builder", _provenance("train", WEIGHTS, DATA, commit="0123456789abcdef0123456789abcdef01234567")),
        ("builder", _provenance("convert", FULL, WEIGHTS)),
        ("builder", _provenance("quantise", SMALL, FULL)),
        ("builder", _provenance("package", PACKAGE, SMALL)),
        ("inspector", _statement(PredicateType.SBOM, PACKAGE, {"components": [_component(n) for n in range(40)]})),
    ]
    while len(said) < FACTS:
        metrics = {"accuracy_ppm": 950_000 + len(said), "attack_success_ppm": 20_000}
        said += [
            ("tester", _statement(PredicateType.TEST_RESULT, PACKAGE, {"result": "PASSED", "metrics": metrics})),
            (
                "inspector",
                _statement(PredicateType.INSPECTION, PACKAGE, {"complete": True, "findings": [], "run": len(said)}),
            ),
        ]
    return tuple(
        Fact(verified=verify_any(sign(one, people.keys(owner)), people.policy), index=index)
        for index, (owner, one) in enumerate(said)
    )


def candidate() -> Candidate:
    """Return a first release of the package; what only an envelope makes known is not seen in the evidence phase."""
    return Candidate(release=plain_release(manifest=PACKAGE))


def _provenance(step: str, made: Digest, used: Digest, *, commit: str = "") -> Statement:
    listed: list[dict[str, object]] = [{"name": "input", "digest": {"sha256": used.hex}}]
    if commit:
        listed.append({"name": "code", "digest": {"gitCommit": commit}})
    build = {"buildType": BUILD.format(step), "externalParameters": {}, "resolvedDependencies": listed}
    run = {"builder": {"id": "https://ci.acme/builder"}}
    return _statement(PredicateType.PROVENANCE, made, {"buildDefinition": build, "runDetails": run})


def _statement(kind: PredicateType, about: Digest, said: dict[str, object], *, name: str = "model/digits") -> Statement:
    return Statement(subjects=(Subject(name, about),), predicate_type=str(kind), predicate=said)


def _component(number: int) -> dict[str, object]:
    return {"type": "library", "name": f"library-{number}", "version": "1", "licence": "MIT"}
