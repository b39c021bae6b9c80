# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from cel_expr_python import cel

from chopmark.errors import DecodeError, InternalError
from chopmark.policy import (
    NOBODY,
    Allowed,
    Approvals,
    CelEngine,
    Denied,
    Fact,
    Phase,
    Unavailable,
    Undecidable,
    decide,
    decode_policy,
    default_policy_file,
    explain,
    lineage,
)
from chopmark.statements import PredicateType, VerifiedStatement, encode_statement
from unit.policy.facts import PACKAGE, SecondEngine, candidate, default_policy, fact, facts, policy
from unit.release.kit import chain, digest, inspection, provenance, result_of, statement

RULES = [
    "dataset-registered",
    "trained-from-commit",
    "chain-unbroken",
    "tested",
    "accuracy-floor",
    "inspected",
    "sbom-written",
    "not-revoked",
]
OWNERS = ("owner-a", "owner-b", "owner-c")


def approvals(*counted: str) -> Approvals:
    return Approvals(counted=counted, candidates=OWNERS, partial={}, k=2)


def evidence(*some: Fact) -> Allowed | Denied:
    decision = decide(default_policy(), Phase.EVIDENCE, facts=some, candidate=candidate())
    second = decide(default_policy(), Phase.EVIDENCE, facts=some, candidate=candidate(), engine=SecondEngine())
    assert [(v.id, v.ok) for v in decision.verdicts] == [(v.id, v.ok) for v in second.verdicts], "two engines agree"
    assert not isinstance(decision, Undecidable)
    return decision


def failed(decision: Allowed | Denied) -> list[str]:
    return [verdict.id for verdict in decision.verdicts if not verdict.ok]


def test_a_whole_chain_is_allowed_and_each_rule_names_the_facts_it_used() -> None:
    some = facts()
    decision = evidence(*some)
    assert isinstance(decision, Allowed)
    assert [verdict.id for verdict in decision.verdicts] == RULES, "in the policy's order"
    used = {v.id: [some.index(next(f for f in some if f.digest == d)) for d in v.facts] for v in decision.verdicts}
    assert used == {
        "dataset-registered": [0, 1],
        "trained-from-commit": [1],
        "chain-unbroken": [1, 2, 3, 4],
        "tested": [5],
        "accuracy-floor": [5],
        "inspected": [6],
        "sbom-written": [7],
        "not-revoked": [],
    }
    assert explain(decision) == ("evidence: allowed; 8 rules hold",)


@pytest.mark.parametrize(
    ("without", "rules"),
    [
        (0, ["dataset-registered"]),
        (1, ["dataset-registered", "trained-from-commit", "chain-unbroken"]),
        (2, ["chain-unbroken"]),
        (3, ["chain-unbroken"]),
        (4, ["chain-unbroken"]),
        (5, ["tested", "accuracy-floor"]),
        (6, ["inspected"]),
        (7, ["sbom-written"]),
    ],
)
def test_each_missing_statement_is_named_by_its_rule(without: int, rules: list[str]) -> None:
    assert failed(evidence(*facts(without=[without]))) == rules


@pytest.mark.parametrize(
    ("more", "rules"),
    [
        (("tester", result_of(PACKAGE, result="FAILED")), ["tested"]),
        (("tester", result_of(PACKAGE, ppm=949_999)), ["accuracy-floor"]),
        (("tester", result_of(PACKAGE, ppm=950_000)), []),
        (("tester", statement(PredicateType.TEST_RESULT, PACKAGE, {"result": "PASSED", "kind": "robustness"})), []),
        (("inspector", inspection(PACKAGE, "Lambda layer")), ["inspected"]),
        (("inspector", inspection(PACKAGE, complete=False)), ["inspected"]),
        (("tester", result_of(digest("another package"), result="FAILED")), []),
        (("security-a security-b", statement(PredicateType.REVOCATION, PACKAGE, {})), ["not-revoked"]),
        (("security-a security-b", statement(PredicateType.REVOCATION, digest("another package"), {})), []),
    ],
)
def test_the_newest_word_counts(more: tuple[str, object], rules: list[str]) -> None:
    assert failed(evidence(*facts(more))) == rules  # type: ignore[arg-type]


def test_an_old_result_logged_again_is_not_newer() -> None:
    some = facts(("tester", result_of(PACKAGE, result="FAILED")))
    again = (*some, Fact(verified=some[5].verified, index=99))
    assert failed(evidence(*lineage(again, PACKAGE))) == ["tested"]


def test_a_chain_that_goes_through_another_package_is_no_chain() -> None:
    some = facts(("builder", provenance("package", PACKAGE, digest("from nowhere"))), without=[4])
    assert failed(evidence(*some)) == ["chain-unbroken"]


def test_lineage_holds_what_the_package_was_made_from_and_nothing_else() -> None:
    mine = facts()
    other = [fact(owner, said, 20 + n) for n, (owner, said) in enumerate(chain(digest("other")))]
    outcome = fact("gate", statement(PredicateType.VSA, PACKAGE, {}), 40)
    assert lineage([*other, outcome, *reversed(mine)], PACKAGE) == mine
    loop = [fact("builder", provenance("train", digest("a"), digest("b")), 0)]
    loop.append(fact("builder", provenance("train", digest("b"), digest("a")), 1))
    assert len(lineage(loop, digest("a"))) == 2


def test_lineage_passes_over_dependencies_of_another_shape() -> None:
    odd: list[object] = [None, {}, {"buildDefinition": []}, {"buildDefinition": {"resolvedDependencies": 3}}]
    odd += [{"buildDefinition": {"resolvedDependencies": [1, {"digest": []}, {"digest": {"sha256": "zz"}}]}}]
    for n, predicate in enumerate(odd):
        said = statement(PredicateType.PROVENANCE, PACKAGE, predicate if isinstance(predicate, dict) else {})
        assert len(lineage([fact("builder", said, n)], PACKAGE)) == 1


def test_one_approver_alone_is_told_who_is_missing() -> None:
    decision = decide(
        default_policy(), Phase.APPROVAL, facts=facts(), candidate=candidate(), approvals=approvals("owner-a")
    )
    assert isinstance(decision, Denied)
    assert [(v.id, v.message) for v in decision.failed] == [
        ("needs-two-approvers", "owner-a signed; owner-b or owner-c missing")
    ]
    assert explain(decision)[1] == "needs-two-approvers: owner-a signed; owner-b or owner-c missing"


def test_half_a_signature_is_told_apart_from_none() -> None:
    half = Approvals(counted=("owner-a",), candidates=OWNERS, partial={"owner-b": ("ml-dsa-65",)}, k=2)
    assert half.explain() == "owner-a signed; owner-b lacks ml-dsa-65; owner-b or owner-c missing"
    assert approvals().explain() == "nobody signed; owner-a or owner-b or owner-c missing"
    assert approvals("owner-a", "owner-c").explain() == "owner-a and owner-c signed"


@pytest.mark.parametrize(("counter", "previous", "ok"), [(1, None, True), (2, 1, True), (1, 1, False), (1, 2, False)])
def test_counters_rise(counter: int, previous: int | None, ok: bool) -> None:  # noqa: FBT001
    decision = decide(
        default_policy(),
        Phase.APPROVAL,
        facts=facts(),
        candidate=candidate(counter=counter, previous=previous),
        approvals=approvals("owner-a", "owner-b"),
    )
    assert isinstance(decision, Allowed) is ok


def test_without_facts_it_is_undecidable_and_nothing_holds() -> None:
    for lost in (Unavailable(reason="the ledger does not answer"), [facts()[0]] * 1001):
        decision = decide(default_policy(), Phase.EVIDENCE, facts=lost, candidate=candidate())
        assert isinstance(decision, Undecidable)
        assert not any(verdict.ok for verdict in decision.verdicts)
        assert explain(decision)[0].startswith("evidence: undecidable: ")


@pytest.mark.parametrize(
    ("expression", "used"),
    [
        ("facts.exists(f, f.type == 'dataset')", [0]),
        ("facts.exists(f, f.type == 'provenance')", [4]),
        ("facts.filter(f, f.type == 'provenance').size() >= 2", [2, 3]),
        ("facts.all(f, f.type != 'sbom' || f.role == 'inspector')", []),
        ("release.counter == 2", []),
        ("size(facts) >= 2", [6, 7]),
        ("facts.exists(f, f.type == 'dataset') && facts.exists(f, f.type.startsWith('test'))", [0, 5]),
    ],
)
def test_a_rule_rests_on_a_smallest_set_also_when_it_names_no_types(expression: str, used: list[int]) -> None:
    some = facts()
    (verdict,) = decide(policy(expression), Phase.EVIDENCE, facts=some, candidate=candidate()).verdicts
    assert verdict.facts == tuple(some[place].digest for place in used)


@pytest.mark.parametrize(
    "expression",
    [
        "facts.exists(f, f.nosuch == 1)",
        "facts.all(f, f.predicate.nosuch == 1)",
        "1 / (size(facts) - size(facts)) == 1",
        "release.previous.nosuch == 1",
        "facts[99].type == 'x'",
        "facts.all(a, facts.all(b, facts.all(c, facts.all(d, facts.all(e, true)))))",
        "release.nosuch || true && release.nosuch",
    ],
)
def test_a_rule_that_errs_denies_and_says_so(expression: str) -> None:
    decision = decide(policy(expression), Phase.EVIDENCE, facts=facts(), candidate=candidate())
    assert isinstance(decision, Denied)
    assert "could not be evaluated" in decision.failed[0].message


def test_the_librarys_value_is_truthy_for_no_and_for_an_error() -> None:
    """The trap that the engine's wrapper is for; if this changes, look at the wrapper again."""
    env = cel.NewEnv(variables={"x": cel.Type.INT})
    no, error = (env.compile(text).eval(data={"x": 0}) for text in ("x == 1", "1 / x == 1"))
    assert (bool(no), bool(error), bool(error.value())) == (True, True, True)
    engine = CelEngine()
    none = engine.bind(Phase.EVIDENCE, {"facts": [], "release": {}})
    for text in ("size(facts) == 1", "1 / size(facts) == 1"):
        assert engine.eval(engine.compile(text, Phase.EVIDENCE), none).holds is False
    program = engine.compile("size(facts) == 0", Phase.EVIDENCE)
    assert engine.eval(program, none).holds is True
    assert engine.eval(object(), none).holds is False
    assert engine.eval(program, {"facts": []}).holds is False


def test_what_is_no_value_denies_the_rules_that_look_at_it() -> None:
    engine = CelEngine()
    for odd in (object(), [{"index": 2**80}], [{"predicate": {1, 2}}]):
        bound = engine.bind(Phase.EVIDENCE, {"facts": odd, "release": {"counter": 1}})
        for _ in range(2):
            assert engine.eval(engine.compile("size(facts) >= 0", Phase.EVIDENCE), bound).error
            assert engine.eval(engine.compile("release.counter == 1", Phase.EVIDENCE), bound).holds is True


def test_each_evaluation_of_the_same_values_has_the_whole_budget_of_iterations() -> None:
    engine = CelEngine()
    bound = engine.bind(Phase.EVIDENCE, {"facts": [{"index": n} for n in range(95)], "release": {}})
    program = engine.compile("facts.all(f, facts.all(g, f.index + g.index >= 0))", Phase.EVIDENCE)
    assert [engine.eval(program, bound).holds for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1", "not a condition"),
        ("'true'", "not a condition"),
        ("release.counter", "not a condition"),
        ("nosuch == 1", "undeclared"),
        ("size(facts) >= 'a'", "overload"),
        ("size(approvals) >= 2", "undeclared"),
        ("size(facts) >=", "not CEL"),
        ("true && " * 600 + "true", "characters"),
        ("(" * 100 + "true" + ")" * 100, "not CEL"),
    ],
)
def test_expressions_are_checked_when_the_policy_is_read(expression: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        policy(expression)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: tested", "id: inspected", "stands twice"),
        ("phase: approval", "phase: evidence", "undeclared|needs a rule"),
        ("phase: approval", "phase: later", "Invalid enum"),
        ("kind: ReleasePolicy", "kind: Policy", "Invalid enum"),
        ("name: default", "name: Default", "not a name"),
        ("id: tested", "id: tested\n      allow: true", "unknown field"),
        ("id: tested", "id: &a tested", "anchor"),
        ("id: tested", "id: tested\n      id: tested", "stands twice"),
    ],
)
def test_a_policy_file_is_read_strictly(old: str, new: str, message: str) -> None:
    text = default_policy_file().decode()
    assert old in text
    with pytest.raises(DecodeError, match=message):
        decode_policy(text.replace(old, new).encode())


def test_a_policy_without_rules_for_a_phase_is_refused() -> None:
    head = "kind: ReleasePolicy\nmetadata: {name: x}\nspec:\n  rules: "
    for rules in ("[]", '[{id: a, phase: evidence, cel: "true"}]', '[{id: a, phase: approval, cel: "true"}]'):
        with pytest.raises(DecodeError, match="each phase needs a rule"):
            decode_policy((head + rules).encode())


def test_messages_are_filled_in() -> None:
    rules = policy(
        "false", phase="approval", message="{release.counter} of {release.model}; {approvals}; {release.x.y}"
    )
    decision = decide(rules, Phase.APPROVAL, facts=(), candidate=candidate(), approvals=approvals("owner-b"))
    assert decision.verdicts[0].message == "2 of digits; owner-b signed; owner-a or owner-c missing; none"
    bare = decide(policy("size(approvals) > 2", phase="approval"), Phase.APPROVAL, facts=(), candidate=candidate())
    assert bare.verdicts[0].message == "does not hold: size(approvals) > 2; nobody signed"


def test_approval_rules_see_the_envelope_and_evidence_rules_do_not() -> None:
    rule = (
        f"release.digest == '{digest('release')}' && release.vsa == '{digest('vsa')}' && release.previous.counter == 1"
    )
    yes = decide(policy(rule, phase="approval"), Phase.APPROVAL, facts=(), candidate=candidate(), approvals=NOBODY)
    no = decide(policy(rule), Phase.EVIDENCE, facts=(), candidate=candidate())
    assert (type(yes), type(no)) == (Allowed, Denied)


def test_only_verified_statements_are_facts() -> None:
    said = chain(PACKAGE)[0][1]
    with pytest.raises(InternalError):
        VerifiedStatement(statement=said, role="tester", owners=(), envelope=encode_statement(said), proof=None)  # type: ignore[arg-type]
