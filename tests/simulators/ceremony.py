# SPDX-License-Identifier: Apache-2.0
"""A change of trust among simulated people: who governs, a proposal, and everybody's keys."""

from __future__ import annotations

from collections.abc import Iterable

from chopmark.adapters.kms.file import FileSigner, generate
from chopmark.keys import Algorithm
from chopmark.release.trusting import Examined, propose
from chopmark.trust import edit
from chopmark.trust.change import Accepted, Proposal, Standing, Wanted, complete, merge, sign, unchanged
from simulators.clock import NOW
from simulators.trust import SimTrust


def new_keys() -> tuple[FileSigner, FileSigner]:
    """Return a hybrid pair that nobody has yet."""
    return generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_65)


class SimCeremony:
    """The owners of *people*, about to change what governs.

    Attributes:
        standing: what governs now; :meth:`adopt` moves it on.
        targets: the bytes of targets.json of now.
    """

    def __init__(self, people: SimTrust | None = None) -> None:
        self.people = people or SimTrust()
        self.standing = Standing(root=self.people.root, trust=self.people.policy)
        self.targets = self.people.targets

    @property
    def start(self) -> Wanted:
        return unchanged(self.standing)

    def add_owner(self, wanted: Wanted, name: str, keys: Iterable[FileSigner] | None = None) -> Wanted:
        """Return *wanted* with an owner who has hybrid keys, kept in ``people.signers``."""
        made = tuple(keys or new_keys())
        self.people.signers[name] = made
        wanted = edit.add_owner(wanted, name)
        for signer in made:
            wanted = edit.add_key(wanted, name, signer.public)
        return wanted

    def propose(self, wanted: Wanted) -> Examined:
        return propose(self.standing, wanted, targets=self.targets, now=NOW)

    def signed(self, wanted: Wanted, *owners: str) -> Proposal:
        """Return a proposal that *owners* signed, each on a copy of their own."""
        proposal = self.propose(wanted).proposal
        copies = [sign(self.standing, proposal, self.people.keys(owner), now=NOW) for owner in owners]
        return merge(self.standing, [proposal, *copies], now=NOW)

    def adopt(self, proposal: Proposal) -> Accepted:
        """Let *proposal* govern."""
        accepted = complete(self.standing, proposal, now=NOW)
        self.standing = Standing(root=accepted.root, trust=accepted.policy)
        self.targets = accepted.targets
        return accepted
