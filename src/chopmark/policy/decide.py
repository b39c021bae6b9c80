# SPDX-License-Identifier: Apache-2.0
"""Verified facts -> a decision. Pure: no files, no clock, no network, and the same answer on every machine.

(1) No facts could be gathered: undecidable. (2) Every rule of the phase is evaluated over the facts in ledger order;
an expression that errs denies. (3) All hold: allowed; else denied. The order of verdicts is the policy's.

It does not decide whether a statement is genuine (``statements.verify`` did) nor which facts matter: see :func:`lineage`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Final, assert_never

from chopmark.artifacts import Digest
from chopmark.clock import format_time
from chopmark.policy.cel import CelEngine, Engine
from chopmark.policy.model import (
    NOBODY,
    Allowed,
    Approvals,
    Candidate,
    Decision,
    Denied,
    Fact,
    Phase,
    Policy,
    Rule,
    Unavailable,
    Undecidable,
    Verdict,
)

MAX_FACTS: Final = 1000
"""More than this many facts about one package are not decided over; CEL's own budget ends soon after."""

OUTCOMES: Final = frozenset({"vsa", "release", "appraisal"})
"""Statements that are made from decisions; no evidence for one."""

_LITERAL: Final = re.compile(r"""["']([a-z][a-z0-9-]*)["']""")
_PLACEHOLDER: Final = re.compile(r"\{(approvals|release(?:\.[a-z_]+)+)\}")


def decide(
    policy: Policy,
    phase: Phase,
    *,
    facts: Sequence[Fact] | Unavailable,
    candidate: Candidate,
    approvals: Approvals = NOBODY,
    now: datetime | None = None,
    engine: Engine | None = None,
) -> Decision:
    """Decide *phase* of *policy* for *candidate*.

    Args:
        now: what rules call ``now``, in whole seconds; the decision's statement says it (``timeVerified``), so that it is
            replayed with the same. None: a rule that asks for it cannot be evaluated, and denies.
    """
    rules = policy.of(phase)
    if not isinstance(facts, Unavailable) and len(facts) > MAX_FACTS:
        facts = Unavailable(reason=f"{len(facts):,} statements are about this package; {MAX_FACTS:,} are decided over")
    if isinstance(facts, Unavailable):
        unknown = tuple(Verdict(id=r.id, phase=phase, ok=False, message="not evaluated", facts=()) for r in rules)
        return Undecidable(policy=policy.digest, phase=phase, verdicts=unknown, reason=facts.reason)
    ordered = sorted(facts, key=lambda fact: (fact.index, fact.digest))
    room = _Room(engine or CelEngine(), phase, ordered, candidate, approvals, now)
    verdicts = tuple(room.judge(rule) for rule in rules)
    if verdicts and all(verdict.ok for verdict in verdicts):
        return Allowed(policy=policy.digest, phase=phase, verdicts=verdicts)
    return Denied(policy=policy.digest, phase=phase, verdicts=verdicts)


def lineage(facts: Iterable[Fact], manifest: Digest) -> tuple[Fact, ...]:
    """Return the facts about the package *manifest* and about everything it was made from, in ledger order.

    Follows ``resolvedDependencies`` of provenance; leaves out what was made from decisions, so that a decision is not
    evidence for itself.
    """
    about: dict[Digest, list[Fact]] = {}
    for fact in facts:
        if fact.type not in OUTCOMES:
            about.setdefault(fact.subject, []).append(fact)
    found: dict[Digest, Fact] = {}
    waiting, seen = [manifest], {manifest}
    while waiting:
        for fact in about.get(waiting.pop(), ()):
            known = found.get(fact.digest)
            found[fact.digest] = fact if known is None or fact.index < known.index else known
            fresh = [digest for digest in _inputs(fact) if digest not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
    return tuple(sorted(found.values(), key=lambda fact: (fact.index, fact.digest)))


def explain(decision: Decision) -> tuple[str, ...]:
    """Return lines for a person: the outcome, then each rule that does not hold and why."""
    match decision:
        case Allowed():
            return (f"{decision.phase}: allowed; {len(decision.verdicts)} rules hold",)
        case Denied():
            failed = decision.failed
            return (
                f"{decision.phase}: denied; {len(failed)} of {len(decision.verdicts)} rules do not hold",
                *(f"{verdict.id}: {verdict.message}" for verdict in failed),
            )
        case Undecidable():
            return (f"{decision.phase}: undecidable: {decision.reason}",)
        case _:
            assert_never(decision)


class _Room:
    """What all rules of one decision share: the engine, and the values, made once; facts go by their place in order."""

    def __init__(  # noqa: PLR0917 - as many as a decision depends on
        self,
        engine: Engine,
        phase: Phase,
        facts: Sequence[Fact],
        candidate: Candidate,
        approvals: Approvals,
        now: datetime | None,
    ) -> None:
        self._engine = engine
        self._phase = phase
        self._approvals = approvals
        self._release = candidate.view(phase)
        self._fixed: dict[str, object] = {"release": self._release}
        if phase is Phase.APPROVAL:
            self._fixed["approvals"] = list(approvals.counted)
        if now is not None:
            self._fixed["now"] = format_time(now)
        self._digests = [fact.digest for fact in facts]  # hashed at each access
        self._views = [fact.view() for fact in facts]
        self._bound = self._bind(self._views)

    def judge(self, rule: Rule) -> Verdict:
        """Return the verdict of one rule."""
        program = self._engine.compile(rule.cel, rule.phase)
        answer = self._engine.eval(program, self._bound)
        types = set(_LITERAL.findall(rule.cel))
        named = tuple(place for place, view in enumerate(self._views) if view["type"] in types)
        facts = self._used(program, named) if answer.holds else named
        return Verdict(
            id=rule.id,
            phase=rule.phase,
            ok=answer.holds,
            message="" if answer.holds else self._message(rule, answer.error),
            facts=tuple(self._digests[place] for place in facts),
        )

    def _used(self, program: object, named: tuple[int, ...]) -> Sequence[int]:
        """Return a smallest set of facts on which a rule holds that holds on all; *named*: those of the types it names.

        If it holds on these alone, only these are weighed, which spares most evaluations; yet the runs that are left out
        are runs of all facts, so a rule that looks at nothing but what it names rests on the same set either way.
        """

        @cache
        def holds(some: tuple[int, ...]) -> bool:
            return self._engine.eval(program, self._bind([self._views[place] for place in some])).holds

        every = range(len(self._views))
        heeded = frozenset(named if holds(named) else every)
        return _smallest(every, lambda some: holds(tuple(place for place in some if place in heeded)))

    def _bind(self, views: list[dict[str, object]]) -> object:
        return self._engine.bind(self._phase, {"facts": views, **self._fixed})

    def _message(self, rule: Rule, error: str) -> str:
        text = rule.message or "does not hold: " + " ".join(rule.cel.split())
        if "approvals" in rule.cel and "{approvals}" not in text:
            text += "; {approvals}"
        text = _PLACEHOLDER.sub(lambda match: self._fill(match.group(1)), text)
        return f"{text} (could not be evaluated: {error})" if error else text

    def _fill(self, name: str) -> str:
        if name == "approvals":
            return self._approvals.explain()
        value: object = self._release
        for part in name.split(".")[1:]:
            value = value.get(part, "none") if isinstance(value, dict) else "none"
        return str(value)


def _smallest(places: Iterable[int], holds: Callable[[Sequence[int]], bool]) -> Sequence[int]:
    """Return places of which none can be left out, dropping ever smaller runs of them, the oldest first."""
    kept = list(places)
    run = len(kept)
    while run:
        start = 0
        while start < len(kept):
            rest = kept[:start] + kept[start + run :]
            if holds(rest):
                kept = rest
            else:
                start += run
        run //= 2
    return kept


def _inputs(fact: Fact) -> list[Digest]:
    """Return the SHA-256 digests of a provenance's resolved dependencies; anything of another shape is none."""
    build = fact.predicate.get("buildDefinition") if fact.type == "provenance" else None
    listed = build.get("resolvedDependencies") if isinstance(build, dict) else None
    digests = [item.get("digest") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    texts = [digest.get("sha256") for digest in digests if isinstance(digest, dict)]
    return [Digest.from_hex(text) for text in texts if isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text)]
