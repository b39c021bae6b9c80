# SPDX-License-Identifier: Apache-2.0
"""A change of trust: what several people sign in turn, on different machines, in any order. Pure; the owners' half.

    Wanted -> draft -> Proposal -> sign, sign, … -> merge -> complete -> next root, trust.json, targets.json

A proposal holds the next root, the trust.json that it names, and targets.json, with the signatures that they have so far.
All three are made anew each time: whoever governs signs all of it, and no old file is left that new owners never saw.
What a proposal says is read from the bytes that are signed (:func:`check`), never from words beside them. Its
:attr:`Proposal.digest` covers those bytes and no signature: copies that travelled apart have the same one, and people
compare it aloud.

What root says has to be what trust.json says: each root owner's keys, and the operator's. Who holds which role therefore
stands in one place. targets.json and live releases are looked at in :mod:`chopmark.release.trusting`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from securesystemslib.exceptions import UnverifiedSignatureError
from tuf.api.metadata import Key, Metadata, Root, Targets
from tuf.api.metadata import Role as TufRole

from chopmark.artifacts import Digest
from chopmark.errors import Refused, UsageError, VerificationError
from chopmark.keys import AlgorithmGroup, Owner, OwnerCount, OwnerRule, PublicKey, Signer, count_valid
from chopmark.trust.model import TrustPolicy
from chopmark.trust.proposal import MAX_PROPOSAL_BYTES, Proposal, decode_proposal, encode_proposal, in_order
from chopmark.trust.root import (
    OWNER,
    TrustedRoot,
    TrustFile,
    build_root,
    count_signed,
    next_root,
    open_trust,
    public_key,
    read_claims,
    sign_metadata,
)
from chopmark.trust.wire import decode_trust, encode_trust

__all__ = [
    "MAX_PROPOSAL_BYTES",
    "OPERATOR",
    "Accepted",
    "Progress",
    "Proposal",
    "Standing",
    "Wanted",
    "check",
    "complete",
    "decode_proposal",
    "draft",
    "encode_proposal",
    "merge",
    "progress",
    "sign",
    "trust_of",
    "unchanged",
]

OPERATOR: Final = "operator"
"""The owner in trust.json whose keys sign timestamp, snapshot and channel files."""

_S = TypeVar("_S", Root, Targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What governs now: a verified root, and the trust.json that it names."""

    root: TrustedRoot
    trust: TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to govern: all that a change decides; versions, keys and files follow from it.

    Attributes:
        trust: its version is set by :func:`draft`.
        root_owners: names of owners in *trust*.
        expires: of root.json and targets.json.
    """

    trust: TrustPolicy
    root_owners: tuple[str, ...]
    root_k: int
    root_algorithms: tuple[AlgorithmGroup, ...]
    expires: datetime
    reset: int

    @property
    def rule(self) -> OwnerRule:
        """Whom to count for root and targets."""
        owners = tuple(self.trust.owners[name] for name in self.root_owners)
        return OwnerRule(owners=owners, k=self.root_k, algorithms=self.root_algorithms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Who has signed by now: root by the rule of before and by the new one, targets.json by the new one."""

    old: OwnerCount
    new: OwnerCount
    targets: OwnerCount
    may_old: tuple[str, ...]
    may_new: tuple[str, ...]

    @property
    def complete(self) -> bool:
        return self.old.met and self.new.met and self.targets.met

    @property
    def signed(self) -> tuple[str, ...]:
        """Owners that have signed, under either rule, with every key that it asks for."""
        both = {*self.old.counted, *(set(self.new.counted) & set(self.targets.counted))}
        return tuple(sorted(both))

    @property
    def waiting(self) -> tuple[str, ...]:
        """Owners whose signature would help: by the old rule, the new, or both."""
        open_old = set(self.may_old) - set(self.old.counted) if not self.old.met else set()
        done = set(self.new.counted) & set(self.targets.counted)
        open_new = set(self.may_new) - done if not (self.new.met and self.targets.met) else set()
        return tuple(sorted(open_old | open_new))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A complete change: the files that govern from now on."""

    root: TrustedRoot
    policy: TrustPolicy
    trust: bytes
    targets: bytes


def unchanged(standing: Standing) -> Wanted:
    """Return what governs now, as the start of a change."""
    root = standing.root
    return Wanted(
        trust=standing.trust,
        root_owners=tuple(owner.name for owner in root.rule.owners),
        root_k=root.rule.k,
        root_algorithms=root.rule.algorithms,
        expires=root.expires,
        reset=root.reset,
    )


def trust_of(standing: Standing, wanted: Wanted) -> TrustPolicy:
    """Return the trust.json that a change to *wanted* names: one version up, written and read again.

    Raises:
        UsageError: ``role-unmeetable``: a role that asks for more owners than have the keys for it.
        DecodeError: it is none.
    """
    for role in wanted.trust.roles.values():
        able = [name for name in role.owners if _able(wanted.trust.owners[name], role.algorithms)]
        if not 1 <= role.k <= len(able):
            raise UsageError(
                f"role {role.name} asks for {role.k} owners; {len(able)} have the keys it asks for",
                code="role-unmeetable",
                hint="lower k, name more owners, or give them keys: --role, --add-key",
            )
    return decode_trust(encode_trust(replace(wanted.trust, version=standing.trust.version + 1)))


def draft(standing: Standing, wanted: Wanted, *, targets: Metadata[Targets]) -> Proposal:
    """Return the unsigned proposal that makes *wanted* govern.

    Args:
        targets: the unsigned targets.json that fits it.
    """
    policy = trust_of(standing, wanted)
    data = encode_trust(policy)
    root = build_root(
        workspace=standing.root.workspace,
        version=standing.root.version + 1,
        expires=wanted.expires,
        rule=wanted.rule,
        operator=_operator(policy),
        trust=TrustFile(version=policy.version, length=len(data), sha256=Digest.of(data)),
        reset=wanted.reset,
    )
    return Proposal(
        workspace=standing.root.workspace,
        base_version=standing.root.version,
        base=standing.root.digest,
        root=root,
        trust=data,
        targets=targets,
    )


def check(standing: Standing, proposal: Proposal, *, now: datetime) -> Wanted:
    """Return what *proposal* would make govern, if it can follow what governs now.

    Every signature that it carries has to be good, and of a key that counts: what was changed after somebody signed it
    is found here, and named.

    Raises:
        VerificationError: ``trust-proposal-foreign`` (another workspace, another history), ``trust-proposal-stale``,
            ``trust-proposal-altered``, ``trust-proposal-unfit`` (files that contradict one another),
            ``role-unmeetable``, ``key-expired``, ``key-retired``, ``root-expired``, ``trust-reset``.
        Refused: ``root-untrusted``: a root that no rule can rest on.
    """
    _check_base(standing, proposal)
    wanted = _read(standing, proposal)
    _check_roles(wanted)
    if wanted.expires <= now:
        raise Refused("root-expired", f"root {proposal.version} would expire at {wanted.expires:%Y-%m-%d}, in the past")
    if not standing.root.reset <= wanted.reset <= standing.root.reset + 1:
        raise VerificationError(
            f"reset goes from {standing.root.reset} to {wanted.reset}; it stays, or rises by one",
            code="trust-reset",
            hint="make the proposal again, with or without --reset",
        )
    _check_keys(wanted, now)
    _check_retired(standing, wanted)
    _check_signatures(standing, proposal)
    return wanted


def progress(standing: Standing, proposal: Proposal) -> Progress:
    """Count who has signed *proposal*, by the old rule and by the new."""
    old, new = standing.root.rule, read_claims(proposal.root.signed).rule
    on_root = _valid(standing, proposal, proposal.root)
    on_targets = _valid(standing, proposal, proposal.targets)
    return Progress(
        old=count_valid(old, on_root),
        new=count_valid(new, on_root),
        targets=count_valid(new, on_targets),
        may_old=tuple(owner.name for owner in old.owners),
        may_new=tuple(owner.name for owner in new.owners),
    )


def sign(standing: Standing, proposal: Proposal, signers: Sequence[Signer], *, now: datetime) -> Proposal:
    """Return *proposal* with the signatures of one owner's keys added.

    Args:
        signers: all keys of one root owner, of before or of after the change; of both, where they change.

    Raises:
        UsageError: ``not-a-root-owner``, ``two-owners``, ``already-signed``.
        VerificationError: as :func:`check`; nothing was signed.
    """
    wanted = check(standing, proposal, now=now)
    may = {
        key.keyid: owner.name
        for rule in (standing.root.rule, wanted.rule)
        for owner in rule.owners
        for key in owner.keys
    }
    able = [signer for signer in signers if signer.public.keyid in may]
    names = sorted({may[signer.public.keyid] for signer in able})
    if not able:
        raise UsageError(
            "none of these keys is a root owner's, before or after this change",
            code="not-a-root-owner",
            hint=f"root owners: {', '.join(sorted(set(may.values())))}",
        )
    if len(names) > 1:
        raise UsageError(
            f"these keys are of {' and '.join(names)}; each owner signs alone",
            code="two-owners",
            hint="give the keys of one owner",
        )
    known = set(proposal.root.signatures) & set(proposal.targets.signatures)
    fresh = [signer for signer in able if signer.public.keyid not in known]
    if not fresh:
        raise UsageError(
            f"{names[0]} has signed this already", code="already-signed", hint="chopmark trust status PROPOSAL"
        )
    root, targets = copy.deepcopy(proposal.root), copy.deepcopy(proposal.targets)
    sign_metadata(root, fresh)
    sign_metadata(targets, fresh)
    return replace(proposal, root=root, targets=targets)


def merge(standing: Standing, proposals: Sequence[Proposal], *, now: datetime) -> Proposal:
    """Return one proposal with the signatures of all copies; the order of the copies does not matter.

    Raises:
        UsageError: no copy, or ``trust-proposal-differs``: copies of different proposals.
        VerificationError: as :func:`check`, of any copy.
    """
    if not proposals:
        raise UsageError("no proposal to merge")
    digests = list(dict.fromkeys(proposal.digest for proposal in proposals))
    if len(digests) > 1:
        raise UsageError(
            f"these are copies of {len(digests)} different proposals",
            code="trust-proposal-differs",
            hint="compare their digests with the others who sign; one of them is old, or altered",
            evidence={"digests": [str(digest) for digest in digests]},
        )
    merged = proposals[0]
    for proposal in proposals:
        check(standing, proposal, now=now)
        root, targets = copy.deepcopy(merged.root), copy.deepcopy(merged.targets)
        # Two good signatures of one key may differ (ML-DSA is randomized): the first stays.
        for into, other in ((root, proposal.root), (targets, proposal.targets)):
            into.signatures.update({k: s for k, s in other.signatures.items() if k not in into.signatures})
        merged = replace(merged, root=root, targets=targets)
    return merged


def complete(standing: Standing, proposal: Proposal, *, now: datetime) -> Accepted:
    """Return the files that govern from now on, verified as every device will verify them.

    Raises:
        VerificationError: as :func:`check`; ``trust-proposal-incomplete``, with who is missing.
    """
    check(standing, proposal, now=now)
    found = progress(standing, proposal)
    if not found.complete:
        raise VerificationError(
            f"the change is not complete; still to sign: {', '.join(found.waiting)}",
            code="trust-proposal-incomplete",
            hint="chopmark trust status PROPOSAL",
            evidence={
                "old rule": found.old.explain(),
                "new rule": found.new.explain(),
                "targets": found.targets.explain(),
            },
        )
    new = next_root(standing.root, in_order(proposal.root).to_bytes())
    policy = open_trust(new, proposal.trust)
    if not count_signed(new.tuf, "targets", proposal.targets, new.rule).met:
        raise Refused("targets-untrusted")
    return Accepted(root=new, policy=policy, trust=proposal.trust, targets=in_order(proposal.targets).to_bytes())


def _check_base(standing: Standing, proposal: Proposal) -> None:
    root = standing.root
    if proposal.workspace != root.workspace:
        raise VerificationError(
            f"the proposal is for workspace {proposal.workspace}, not {root.workspace}",
            code="trust-proposal-foreign",
            hint="use it where it belongs",
        )
    evidence = {"base": str(proposal.base), "root": str(root.digest)}
    if proposal.base_version < root.version:
        raise VerificationError(
            f"the proposal changes root {proposal.base_version}; root {root.version} governs now",
            code="trust-proposal-stale",
            hint="make it again on what governs now: chopmark trust change; everybody signs again",
            evidence=evidence,
        )
    if proposal.base_version > root.version:
        raise VerificationError(
            f"the proposal changes root {proposal.base_version}; this machine knows root {root.version}",
            code="trust-root-behind",
            hint="get the newer roots first; each has to follow from yours",
            evidence=evidence,
        )
    if proposal.base != root.digest or proposal.version != root.version + 1:
        raise VerificationError(
            f"the proposal changes another root {proposal.base_version} than the one that governs here",
            code="trust-proposal-foreign",
            hint="compare root and proposal with the other owners",
            evidence=evidence,
        )


def _read(standing: Standing, proposal: Proposal) -> Wanted:
    """Return what the files of *proposal* say, if all three say one thing."""
    root = proposal.root.signed
    claims = read_claims(root)
    named = claims.trust
    if (len(proposal.trust), Digest.of(proposal.trust)) != (named.length, named.sha256):
        raise _unfit("trust.json is not the file that root names")
    policy = decode_trust(proposal.trust)
    if claims.workspace != proposal.workspace or policy.workspace != proposal.workspace:
        raise _unfit("root and trust.json are of different workspaces")
    if not policy.version == named.version == standing.trust.version + 1:
        raise _unfit(f"trust.json {policy.version} does not follow {standing.trust.version}")
    for owner in claims.rule.owners:
        known = policy.owners.get(owner.name)
        if known is None or {k.keyid for k in known.keys} != {k.keyid for k in owner.keys}:
            raise _unfit(f"root and trust.json name different keys of {owner.name}")
    online = {key.keyid for key in _operator(policy)}
    if any(
        set(root.roles[role].keyids) != online or root.roles[role].threshold != 1 for role in ("timestamp", "snapshot")
    ):
        raise _unfit(f"root's online keys are not those of the owner {OPERATOR} in trust.json")
    wanted = Wanted(
        trust=policy,
        root_owners=tuple(owner.name for owner in claims.rule.owners),
        root_k=claims.rule.k,
        root_algorithms=claims.rule.algorithms,
        expires=root.expires,
        reset=claims.reset,
    )
    threshold = wanted.root_k * len(wanted.root_algorithms)
    if any(root.roles[role].threshold != threshold for role in ("root", "targets")):
        raise _unfit("the threshold for stock clients is not the one that the rule gives")
    if proposal.targets.signed.expires != wanted.expires:
        raise _unfit("root.json and targets.json expire at different times")
    return wanted


def _unfit(message: str) -> VerificationError:
    return VerificationError(
        f"the proposal's files do not fit: {message}",
        code="trust-proposal-unfit",
        hint="make it with: chopmark trust change",
    )


def _operator(policy: TrustPolicy) -> tuple[PublicKey, ...]:
    owner = policy.owners.get(OPERATOR)
    if owner is None or not owner.keys:
        raise VerificationError(
            f"trust.json has no key of {OPERATOR}", code="role-unmeetable", hint="name one: --add-key"
        )
    return owner.keys


def _check_roles(wanted: Wanted) -> None:
    """Check that enough owners can sign for root; for roles of trust.json, reading it did."""
    able = [owner.name for owner in wanted.rule.owners if _able(owner, wanted.root_algorithms)]
    if len(able) < wanted.root_k:
        raise VerificationError(
            f"root asks for {wanted.root_k} owners; {len(able)} have the keys it asks for",
            code="role-unmeetable",
            hint="name more owners, or give them keys of both algorithms: --root-owners, --add-key",
        )


def _able(owner: Owner, groups: Iterable[AlgorithmGroup]) -> bool:
    has = {key.algorithm for key in owner.keys}
    return all(has & group for group in groups)


def _check_keys(wanted: Wanted, now: datetime) -> None:
    """Check that no key that may sign something has expired."""
    used = {name for role in wanted.trust.roles.values() for name in role.owners} | {*wanted.root_owners, OPERATOR}
    expired = [
        (name, key.keyid)
        for name in sorted(used)
        for key in wanted.trust.owners[name].keys
        if (end := wanted.trust.key_expiry.get(key.keyid)) is not None and end <= now
    ]
    if expired:
        raise VerificationError(
            f"an expired key would stay in a role: {expired[0][1][:16]} of {expired[0][0]}",
            code="key-expired",
            hint="replace it: chopmark trust change --add-key OWNER=new.pem --remove-key KEYID --reason superseded",
            evidence={"keys": [f"{name} {keyid}" for name, keyid in expired]},
        )


def _check_retired(standing: Standing, wanted: Wanted) -> None:
    """Check that no key comes back that was retired: a thief of it would sign again, under whoever's name."""
    past = {old.key.keyid: old for old in standing.trust.retired}
    for owner in wanted.trust.owners.values():
        for key in owner.keys:
            if (old := past.get(key.keyid)) is not None:
                raise VerificationError(
                    f"key {key.keyid[:16]} of {owner.name} was {old.owner}'s and is {old.reason}; it does not come back",
                    code="key-retired",
                    hint="make a new one: chopmark keys new",
                    evidence={"owner": owner.name, "before": old.owner, "keyid": key.keyid, "reason": str(old.reason)},
                )


def _keys(standing: Standing, proposal: Proposal) -> dict[str, tuple[str, Key]]:
    """Return key id -> owner and key, of all who may sign *proposal*."""
    found: dict[str, tuple[str, Key]] = {}
    for root in (standing.root.tuf, proposal.root.signed):
        role: TufRole = root.roles["root"]
        for keyid in role.keyids:
            key = root.keys[keyid]
            if public_key(key).keyid == keyid:
                found[keyid] = (str(key.unrecognized_fields.get(OWNER)), key)
    return found


def _valid(standing: Standing, proposal: Proposal, metadata: Metadata[_S]) -> frozenset[str]:
    """Return the ids of the keys whose signature on *metadata* is good."""
    known = _keys(standing, proposal)
    return frozenset(k for k in metadata.signatures if k in known and _verifies(known[k][1], metadata, k))


def _verifies(key: Key, metadata: Metadata[_S], keyid: str) -> bool:
    try:
        key.verify_signature(metadata.signatures[keyid], metadata.signed_bytes)
    except UnverifiedSignatureError:
        return False
    return True


def _check_signatures(standing: Standing, proposal: Proposal) -> None:
    known = _keys(standing, proposal)
    for name, metadata in _parts(proposal).items():
        bad = sorted(set(metadata.signatures) - _valid(standing, proposal, metadata))
        if bad:
            whose = known[bad[0]][0] if bad[0] in known else "a key that no root owner has"
            raise VerificationError(
                f"the signature of {whose} on {name} is not good: it was changed after it was signed",
                code="trust-proposal-altered",
                hint="get the copy again from whoever sent it, and compare digests",
                evidence={"file": name, "keys": bad, "digest": str(proposal.digest)},
            )


def _parts(proposal: Proposal) -> Mapping[str, Metadata[Any]]:
    return {"root.json": proposal.root, "targets.json": proposal.targets}
