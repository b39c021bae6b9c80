# SPDX-License-Identifier: Apache-2.0
"""Owners with their private keys, and what they signed: root.json, trust.json, targets.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from chopmark.adapters.kms.file import FileSigner, generate
from chopmark.artifacts import Digest
from chopmark.channel.publish import build_targets
from chopmark.keys import HYBRID, OwnerRule
from chopmark.release.founding import OWNERS, ROOT_OWNERS, default_trust, found
from chopmark.trust import (
    TrustedRoot,
    TrustFile,
    TrustPolicy,
    build_root,
    encode_trust,
    sign_metadata,
)
from simulators.clock import NOW
from simulators.log import SimLog

YEAR = timedelta(days=365)


def _same(policy: TrustPolicy) -> TrustPolicy:
    return policy


class SimTrust:
    """The people of a workspace, and the files of trust they signed.

    Attributes:
        signers: owner -> private keys.
        policy, root, trust, targets: what stands now; *trust* and *targets* are bytes.

    Args:
        change: alters trust.json before the first root names it.
    """

    def __init__(
        self,
        *,
        workspace: str = "acme",
        channels: tuple[str, ...] = ("production",),
        log: SimLog | None = None,
        now: datetime = NOW,
        change: Callable[[TrustPolicy], TrustPolicy] = _same,
    ) -> None:
        self.log = log or SimLog()
        self.channels = channels
        self.now = now
        self.signers: dict[str, tuple[FileSigner, ...]] = {
            owner: tuple(generate(algorithm) for algorithm in algorithms) for owner, algorithms in OWNERS.items()
        }
        self.policy = change(
            default_trust(
                workspace,
                owners={owner: [s.public for s in signers] for owner, signers in self.signers.items()},
                logs=(self.log.keys,),
                witness_policy=self.log.policy,
            )
        )
        founding = found(self.policy, channels=channels, root_signers=self.keys("owner-a", "owner-b"), now=now)
        self.root: TrustedRoot = founding.root
        self.trust, self.targets = founding.trust, founding.targets
        self.first = founding.root.data

    @property
    def pin(self) -> Digest:
        """The digest of the first root: what a device carries."""
        return Digest.of(self.first)

    @property
    def rule(self) -> OwnerRule:
        """Whom to count for root and targets: two of three owners, hybrid."""
        return OwnerRule(owners=tuple(self.policy.owners[name] for name in ROOT_OWNERS), k=2, algorithms=HYBRID)

    def keys(self, *owners: str) -> tuple[FileSigner, ...]:
        """Return all private keys of *owners*, in order."""
        return tuple(signer for owner in owners for signer in self.signers[owner])

    def build_root(
        self,
        *,
        version: int,
        signers: Iterable[FileSigner] | None = None,
        policy: TrustPolicy | None = None,
        rule: OwnerRule | None = None,
        reset: int = 0,
        workspace: str | None = None,
        expires: datetime | None = None,
    ) -> tuple[bytes, bytes]:
        """Return a signed root and the trust.json it names; neither is adopted.

        Args:
            signers: who signs; by default all keys of owner-a and owner-b.
        """
        policy = policy or self.policy
        trust = encode_trust(policy)
        root = build_root(
            workspace=workspace or policy.workspace,
            version=version,
            expires=expires or self.now + YEAR,
            rule=rule or self.rule,
            operator=[s.public for s in self.signers["operator"]],
            trust=TrustFile(version=policy.version, length=len(trust), sha256=Digest.of(trust)),
            reset=reset,
        )
        sign_metadata(root, self.keys("owner-a", "owner-b") if signers is None else signers)
        return root.to_bytes(), trust

    def build_targets(
        self,
        *,
        version: int,
        signers: Iterable[FileSigner] | None = None,
        status_rule: OwnerRule | None = None,
        operator: tuple[FileSigner, ...] | None = None,
    ) -> bytes:
        """Return targets.json, signed by *signers* (default: all keys of owner-a and owner-b)."""
        keys = [s.public for s in operator or self.signers["operator"]]
        targets = build_targets(
            version=version,
            expires=self.now + YEAR,
            channels=dict.fromkeys(self.channels, keys),
            status=status_rule or self.policy.rule("status"),
        )
        sign_metadata(targets, self.keys("owner-a", "owner-b") if signers is None else signers)
        return targets.to_bytes()

    def renew_policy(self, **changes: object) -> TrustPolicy:
        """Return the next version of trust.json with *changes*; adopt it by a root that names it."""
        return replace(self.policy, version=self.policy.version + 1, **changes)  # type: ignore[arg-type]
