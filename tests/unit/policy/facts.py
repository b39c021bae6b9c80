# SPDX-License-Identifier: Apache-2.0
"""Facts, candidates and a second engine for tests of policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import cel as second_cel

from chopmark.policy import Answer, Candidate, Fact, Phase, Policy, Previous, decode_policy, default_policy_file
from chopmark.statements import Statement, sign, verify_any
from simulators import plain_release
from unit.release.kit import chain, digest, people

PACKAGE = digest("package 1")


def facts(*more: tuple[str, Statement], without: Sequence[int] = ()) -> tuple[Fact, ...]:
    """Return the facts of a whole chain, some left out by place, *more* after them."""
    said = [item for place, item in enumerate(chain(PACKAGE)) if place not in without]
    return tuple(fact(owner, statement, index) for index, (owner, statement) in enumerate([*said, *more]))


def fact(owners: str, statement: Statement, index: int) -> Fact:
    """Return what *owners*, with blanks between them, said."""
    return Fact(verified=verify_any(sign(statement, people().keys(*owners.split())), people().policy), index=index)


def candidate(*, previous: int | None = 1, **changes: object) -> Candidate:
    """Return release 2 of the package that the chain is about, with *changes*, after a release with counter *previous*."""
    members = {"counter": 2, "manifest": PACKAGE, "digest": digest("release"), "vsa": digest("vsa")} | changes
    before = Previous(counter=previous, release=digest("previous")) if previous is not None else None
    return Candidate(release=plain_release(**members), previous=before)


@cache
def default_policy() -> Policy:
    return decode_policy(default_policy_file())


def policy(cel: str, *, phase: str = "evidence", message: str = "") -> Policy:
    """Return a policy with one rule that matters."""
    other = "approval" if phase == "evidence" else "evidence"
    said = f"\n    message: '{message}'" if message else ""
    return decode_policy(
        f"""kind: ReleasePolicy
metadata: {{name: test}}
spec:
  rules:
  - id: rule
    phase: {phase}{said}
    cel: |-
      {cel}
  - {{id: other, phase: {other}, cel: "size(facts) >= 0"}}
""".encode()
    )


class SecondEngine:
    """CEL by another implementation (Rust), behind the same three methods; it converts values anew for each program."""

    def compile(self, source: str, phase: Phase) -> object:
        return second_cel.compile(source)

    def bind(self, phase: Phase, values: Mapping[str, object]) -> object:
        return dict(values)

    def eval(self, program: object, bound: object) -> Answer:
        try:
            value = program.execute(second_cel.Context(variables=bound))  # type: ignore[attr-defined]
        except Exception as error:  # noqa: BLE001
            return Answer(holds=False, error=str(error))
        return Answer(holds=value is True)
