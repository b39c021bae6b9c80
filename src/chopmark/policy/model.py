# SPDX-License-Identifier: Apache-2.0
"""Rules, facts, and what a decision is made of. Pure values.

A :class:`Fact` holds a ``VerifiedStatement``, so nothing unverified can be one. A :class:`Decision` is a value, also when
it says no; each carries the verdict of every rule of its phase, in the policy's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.keys import OwnerCount
from chopmark.statements import VerifiedStatement, short_type


class Phase(StrEnum):
    """When a rule is decided: over the statements, before anybody approves; or over the signed envelope."""

    EVIDENCE = "evidence"
    APPROVAL = "approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One condition.

    Attributes:
        cel: a CEL expression of type bool over ``facts``, ``release``, ``now`` and, in the approval phase, ``approvals``.
            ``now`` is text like ``2026-11-24T18:00:00Z``, of which the later is the larger.
        message: what a person reads when it does not hold; ``{approvals}`` and ``{release.<member>}`` are filled in.
    """

    id: str
    phase: Phase
    cel: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of a ReleasePolicy file, in its order.

    Attributes:
        digest: of the file's bytes; a decision names it.
    """

    name: str
    digest: Digest
    rules: tuple[Rule, ...]

    @property
    def uri(self) -> str:
        """Where the file stands in the release repository."""
        return f"policies/{self.name}.yaml"

    def of(self, phase: Phase) -> tuple[Rule, ...]:
        """Return the rules of *phase*."""
        return tuple(rule for rule in self.rules if rule.phase is phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A verified statement and its place in the ledger: what rules see.

    Attributes:
        index: 0-based; the lowest index under which the statement stands.
    """

    verified: VerifiedStatement
    index: int

    @property
    def type(self) -> str:
        return short_type(self.verified.statement.predicate_type)

    @property
    def role(self) -> str:
        return self.verified.role

    @property
    def subject(self) -> Digest:
        return self.verified.statement.subject.digest

    @property
    def predicate(self) -> Mapping[str, object]:
        return self.verified.statement.predicate

    @property
    def digest(self) -> Digest:
        return self.verified.digest

    def view(self) -> dict[str, object]:
        """Return the map that a CEL expression sees."""
        return {
            "type": self.type,
            "role": self.role,
            "name": self.verified.statement.subject.name,
            "subject": str(self.subject),
            "predicate": self.predicate,
            "digest": str(self.digest),
            "owners": list(self.verified.owners),
            "index": self.index,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The facts could not be gathered: there is nothing to decide over."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The newest approved release of the same model: the one with the highest counter."""

    counter: int
    release: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The release that is decided about, and the one that it comes after.

    Attributes:
        release: in the evidence phase without an envelope yet; what only an envelope makes known is not seen then.
        previous: None for a model's first release.
    """

    release: Release
    previous: Previous | None = None

    def view(self, phase: Phase) -> dict[str, object]:
        """Return the map that a CEL expression of *phase* sees; ``previous`` is absent for a first release."""
        release = self.release
        members: dict[str, object] = {
            "workspace": release.workspace,
            "model": release.model,
            "version": release.version,
            "channels": list(release.channels),
            "counter": release.counter,
            "epoch": release.epoch,
            "manifest": str(release.manifest),
            "fallbacks": [str(digest) for digest in release.fallbacks],
            "runtime": {
                "name": release.runtime.name,
                "range": release.runtime.range,
                "libraries": {name: str(digest) for name, digest in sorted(release.runtime.libraries.items())},
            },
            "abi": release.abi,
            "min_app": release.min_app,
            "min_tier": release.min_tier,
            "check_class": release.check_class,
        }
        if self.previous is not None:
            members["previous"] = {"counter": self.previous.counter, "release": str(self.previous.release)}
        if phase is Phase.APPROVAL:
            members["digest"] = str(release.digest)
            members["vsa"] = str(release.vsa)
            members["evidence"] = [str(digest) for digest in release.evidence]
        return members


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """Who approved, who could, and who came with half a signature.

    Attributes:
        counted: owners that count by trust.json's role, in its order; this is CEL's ``approvals``.
        candidates: every owner of the role.
        partial: owner -> missing algorithm groups.
        k: how many trust.json asks for.
    """

    counted: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    partial: Mapping[str, tuple[str, ...]]
    k: int = 0

    @classmethod
    def of(cls, count: OwnerCount, candidates: tuple[str, ...]) -> Approvals:
        """Return *count* together with everybody who could have signed."""
        return cls(counted=count.counted, candidates=candidates, partial=count.partial, k=count.k)

    def explain(self) -> str:
        """Return one line, e.g. ``owner-a signed; owner-b or owner-c missing``."""
        missing = [owner for owner in self.candidates if owner not in self.counted]
        words = [f"{' and '.join(self.counted)} signed" if self.counted else "nobody signed"]
        words += [f"{owner} lacks {' and '.join(groups)}" for owner, groups in self.partial.items()]
        if missing and len(self.counted) < max(self.k, 1):
            words.append(f"{' or '.join(missing)} missing")
        return "; ".join(words)


NOBODY = Approvals(partial={})
"""No approvals: what the evidence phase is decided with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one rule said.

    Attributes:
        message: empty when it holds; else what is missing, or the error.
        facts: for a rule that holds, a smallest set of facts on which it holds; else the facts of the types it names.
    """

    id: str
    phase: Phase
    ok: bool
    message: str
    facts: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Every rule of the phase holds."""

    policy: Digest
    phase: Phase
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """At least one rule does not hold, or could not be evaluated."""

    policy: Digest
    phase: Phase
    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The verdicts that deny, in the policy's order."""
        return tuple(verdict for verdict in self.verdicts if not verdict.ok)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecidable:
    """There was nothing to decide over; nothing is allowed by it."""

    policy: Digest
    phase: Phase
    verdicts: tuple[Verdict, ...]
    reason: str


Decision = Allowed | Denied | Undecidable
