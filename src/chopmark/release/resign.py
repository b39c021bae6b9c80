# SPDX-License-Identifier: Apache-2.0
"""Sign a release again with the keys of now, so that its approval outlives the keys that it was made with.

Devices know current keys only: before an approver's old key goes, what devices run has to carry signatures of other keys.
Nothing new is approved: the release is approved as it stands, its payload does not change, and so its hash does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.errors import UsageError, VerificationError
from chopmark.keys import OwnerCount, Signer, count_owners
from chopmark.release.keyring import APPROVER
from chopmark.release.model import MAIN
from chopmark.release.ports import Committer, GitHost, StatementLog
from chopmark.release.repository import check_approved, envelope_path, head, read_envelope
from chopmark.statements import Envelope, add_signatures, encode_envelope
from chopmark.trust import TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAgain:
    """What came of it.

    Attributes:
        commit: on main.
        index: of the envelope, with all its signatures, in the ledger.
    """

    release: Release
    count: OwnerCount
    commit: str
    index: int


def sign_again(
    digest: Digest,
    *,
    host: GitHost,
    ledger: StatementLog,
    trust: TrustPolicy,
    signers: Sequence[Signer],
    by: Committer,
    at: datetime,
) -> SignedAgain:
    """Add one owner's signatures to the envelope of *digest* on main.

    Args:
        signers: the keys of one approver that may be used now.

    Raises:
        Refused: ``release-unapproved``: it is not approved now, so it takes a new decision: propose it.
        UsageError: the keys add nothing.
        VerificationError: ``envelope-missing``.
    """
    base = head(host, MAIN)
    envelope = read_envelope(host, base, digest)
    if envelope is None:
        raise VerificationError(
            f"the envelope of {digest} is not in the repository",
            code="envelope-missing",
            hint="see: chopmark release history",
        )
    release = check_approved(encode_envelope(envelope), trust)
    fresh = _fresh(envelope, signers, trust)
    signed = add_signatures(envelope, fresh)
    count = count_owners(trust.rule(APPROVER), ((s.keyid, s.sig) for s in signed.signatures), signed.message)
    index = ledger.log(signed)  # before the commit: what devices are told to run stands in the ledger
    commit = host.commit(
        MAIN,
        {envelope_path(digest): encode_envelope(signed)},
        parent=base,
        message=f"Sign {release.model} {release.version} again\n\nRelease: {digest}\n"
        f"Keys: {', '.join(signer.public.keyid[:16] for signer in fresh)}\n",
        by=by,
        at=at,
    )
    return SignedAgain(release=release, count=count, commit=commit, index=index)


def _fresh(envelope: Envelope, signers: Sequence[Signer], trust: TrustPolicy) -> list[Signer]:
    may = {key.keyid for owner in trust.rule(APPROVER).owners for key in owner.keys}
    there = {signature.keyid for signature in envelope.signatures}
    fresh = [s for s in signers if s.public.keyid in may and s.public.keyid not in there]
    if not fresh:
        ours = any(signer.public.keyid in may for signer in signers)
        raise UsageError(
            "it carries the signatures of these keys already" if ours else "these keys are no approver's",
            code="already-signed" if ours else "not-an-approver",
            hint="next: chopmark keys rotate OWNER --finish" if ours else "see: chopmark keys list",
        )
    return fresh
