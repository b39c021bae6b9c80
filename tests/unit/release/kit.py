# SPDX-License-Identifier: Apache-2.0
"""A workspace whose ledger is a list and whose repository is a real one: what tests of releases are made of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from chopmark.adapters.git.local import LocalGit
from chopmark.adapters.kms import file as kms
from chopmark.artifacts import Digest
from chopmark.channel import RuntimeNeed
from chopmark.errors import UndecidedError
from chopmark.keys import Signer
from chopmark.policy import default_policy_file
from chopmark.release import (
    Approval,
    Checked,
    Committer,
    Draft,
    Gate,
    Merge,
    Proposal,
    approve,
    check,
    empty_channel,
    merge,
    propose,
)
from chopmark.statements import Envelope, PredicateType, Statement, Subject, sign
from simulators import NOW, SimTrust, StandingClock

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BUILD = "https://chopmark.dev/build/{}/v1"


@dataclass
class SimLedger:
    """Statements in order; unreachable on request."""

    envelopes: list[Envelope] = field(default_factory=list)
    down: bool = False

    def statements(self) -> Iterator[tuple[int, Envelope]]:
        if self.down:
            raise UndecidedError("the ledger does not answer")
        yield from enumerate(self.envelopes)

    def log(self, envelope: Envelope) -> int:
        if envelope not in self.envelopes:
            self.envelopes.append(envelope)
        return self.envelopes.index(envelope)


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def provenance(step: str, made: Digest, *inputs: Digest, commit: str = "") -> Statement:
    """Return the provenance of *made*, built from *inputs* by *step*."""
    listed: list[dict[str, object]] = [{"name": f"in-{n}", "digest": {"sha256": d.hex}} for n, d in enumerate(inputs)]
    if commit:
        listed.append({"name": "code", "digest": {"gitCommit": commit}})
    build = {"buildType": BUILD.format(step), "externalParameters": {}, "resolvedDependencies": listed}
    return statement(PredicateType.PROVENANCE, made, {"buildDefinition": build, "runDetails": {}})


def statement(
    kind: PredicateType, about: Digest, predicate: dict[str, object], name: str = "model/digits"
) -> Statement:
    return Statement(subjects=(Subject(name, about),), predicate_type=kind, predicate=predicate)


def chain(package: Digest) -> list[tuple[str, Statement]]:
    """Return (owner, statement) for everything that the default policy asks for about *package*."""
    data, weights, full, small = (digest(f"{word} of {package}") for word in ("data", "weights", "full", "small"))
    return [
        ("data-owner", statement(PredicateType.DATASET, data, {"rows": 1797}, name="data/digits")),
        ("builder", provenance("train", weights, data, commit=COMMIT)),
        ("builder", provenance("convert", full, weights)),
        ("builder", provenance("quantise", small, full)),
        ("builder", provenance("package", package, small, digest("labels"))),
        ("tester", result_of(package)),
        ("inspector", inspection(package)),
        ("inspector", statement(PredicateType.SBOM, package, {"bomFormat": "CycloneDX"})),
    ]


def result_of(package: Digest, *, result: str = "PASSED", ppm: int = 976_000) -> Statement:
    return statement(PredicateType.TEST_RESULT, package, {"result": result, "metrics": {"accuracy_ppm": ppm}})


def inspection(package: Digest, *findings: str, complete: bool = True) -> Statement:
    return statement(PredicateType.INSPECTION, package, {"complete": complete, "findings": list(findings)})


@cache
def people() -> SimTrust:
    """Return the people of ``acme``; they never change, so every test meets the same."""
    return SimTrust()


class Shop:
    """A workspace ``acme`` with one channel, and everybody's keys."""

    def __init__(self, folder: Path, *, trust: SimTrust | None = None, envelopes: Sequence[Envelope] = ()) -> None:
        self.people = trust or people()
        self.trust = self.people.policy
        self.ledger = SimLedger(list(envelopes))
        self.folder = folder
        self.git = LocalGit(folder / "release")

    @classmethod
    def found(cls, folder: Path, *, trust: SimTrust | None = None, policy: bytes | None = None) -> Shop:
        """Make one, with the policy that ships or another."""
        shop = cls(folder, trust=trust)
        for owner in ("maintainer", "operator"):
            kms.export_openssh(shop.people.signers[owner][0], folder / "keys" / owner)
        LocalGit.create(
            folder / "release",
            files={
                "policies/default.yaml": policy or default_policy_file(),
                "channels/production.yaml": empty_channel("production"),
            },
            message="Found",
            author="maintainer",
            key=folder / "keys" / "maintainer",
            at=NOW,
        )
        return shop

    def copy(self, folder: Path) -> Shop:
        """Return a copy in *folder*: what several tests begin with is made once."""
        for name in ("keys", "release"):
            shutil.copytree(self.folder / name, folder / name, symlinks=True)
        return Shop(folder, trust=self.people, envelopes=self.ledger.envelopes)

    def by(self, owner: str) -> Committer:
        return Committer(name=owner, email=f"{owner}@acme", key=self.folder / "keys" / owner)

    @property
    def gate(self) -> Gate:
        return Gate(
            trust=self.trust,
            source=self.ledger,
            ledger=self.ledger,
            signers=self.people.keys("gate"),
            clock=StandingClock(),
        )

    @property
    def main(self) -> str:
        head = self.git.head("main")
        assert head is not None
        return head

    def record(self, owner: str, said: Statement) -> Envelope:
        envelope = sign(said, self.people.keys(owner))
        self.ledger.log(envelope)
        return envelope

    def draft(self, version: str = "1", **changes: object) -> Draft:
        """Return a draft of a package, with all its evidence in the ledger."""
        package = digest(f"package {version}")
        for owner, said in chain(package):
            self.record(owner, said)
        draft = Draft(
            model="digits",
            version=version,
            manifest=package,
            manifest_length=564,
            channels=("production",),
            runtime=RuntimeNeed(name="onnxruntime", range=">=1.20,<2", libraries={}),
            self_test=digest("self-test"),
        )
        return replace(draft, **changes)  # type: ignore[arg-type]

    def propose(self, draft: Draft) -> Proposal:
        return propose(draft, host=self.git, gate=self.gate, by=self.by("maintainer"))

    def approve(self, branch: str, owner: str, *, signers: Sequence[Signer] | None = None) -> Approval:
        return approve(
            branch,
            host=self.git,
            source=self.ledger,
            trust=self.trust,
            signers=self.people.keys(owner) if signers is None else signers,
            by=self.by("maintainer"),
            at=NOW,
        )

    def check(self, branch: str) -> Checked:
        return check(branch, host=self.git, gate=self.gate)

    def merge(self, branch: str) -> Merge:
        return merge(branch, host=self.git, gate=self.gate, by=self.by("maintainer"))

    def release(
        self, version: str = "1", *, owners: Sequence[str] = ("owner-a", "owner-b"), **changes: object
    ) -> Merge:
        """Propose, approve and merge one version."""
        branch = self.propose(self.draft(version, **changes)).branch
        for owner in owners:
            self.approve(branch, owner)
        return self.merge(branch)

    def write(self, branch: str, files: dict[str, bytes | None], *, owner: str = "maintainer") -> str:
        """Commit *files* on *branch*, or on a new one at main, as somebody with a Git key may."""
        parent = self.git.head(branch) or self.main
        return self.git.commit(branch, files, parent=parent, message="Write", by=self.by(owner), at=NOW)
