# SPDX-License-Identifier: Apache-2.0
"""Who may commit, and whether a branch only ever grew.

Git's signatures decide who may *propose* and *merge*; what a device runs is decided by the envelope. They are Ed25519
and not hybrid.
"""

from __future__ import annotations

import base64
import hashlib
import struct

from chopmark.errors import VerificationError
from chopmark.keys import Algorithm, PublicKey
from chopmark.release.ports import Commit, GitHost
from chopmark.trust import TrustPolicy

GIT_ROLE = "git"
_KIND = b"ssh-ed25519"


def allowed_signers(trust: TrustPolicy) -> str:
    """Return the OpenSSH allowed-signers file for trust.json's role ``git``: its owners' Ed25519 keys.

    Raises:
        VerificationError: there is no such role, or it asks for more than one signature, which a commit cannot carry.
    """
    return "".join(
        f'{owner} namespaces="git" {_KIND.decode()} {base64.b64encode(_ssh(key)).decode()}\n'
        for owner, key in _signers(trust)
    )


def verify_range(host: GitHost, *, since: str | None, to: str, trust: TrustPolicy) -> tuple[Commit, ...]:
    """Check every commit between *since* and *to*, merged branches included; return them, oldest first.

    Args:
        since: the last commit that was applied; None for the whole history.

    Raises:
        VerificationError: ``history-rewritten`` (*to* does not contain *since*: a force-push, or a branch set back) or
            ``commit-untrusted`` (unsigned, altered, or signed by a stranger).
    """
    if since is not None and not host.is_ancestor(since, to):
        raise VerificationError(
            f"the branch no longer contains {since[:10]}: its history was rewritten or set back",
            code="history-rewritten",
            hint="find out who moved it; put the old commit back",
            evidence={"since": since, "to": to},
        )
    known = {(owner, fingerprint(key)) for owner, key in _signers(trust)}
    commits = host.log(since, to, allowed_signers=allowed_signers(trust))
    for commit in commits:
        if (commit.signer, commit.fingerprint) not in known:
            raise VerificationError(
                f"commit {commit.id[:10]} ({commit.subject[:60]}) is not signed by one who may commit",
                code="commit-untrusted",
                hint=f"those who may: {', '.join(trust.role(GIT_ROLE).owners)}",
                evidence={"commit": commit.id, "signer": commit.signer},
            )
    return commits


def fingerprint(key: PublicKey) -> str:
    """Return ``SHA256:…`` as OpenSSH prints it for an Ed25519 key."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(_ssh(key)).digest()).decode().rstrip("=")


def _signers(trust: TrustPolicy) -> list[tuple[str, PublicKey]]:
    rule = trust.rule(GIT_ROLE)
    if rule.k != 1:
        raise VerificationError("the role git asks for several signatures; a commit carries one", code="role-unknown")
    return [(o.name, key) for o in rule.owners for key in o.keys if key.algorithm is Algorithm.ED25519]


def _ssh(key: PublicKey) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in (_KIND, key.raw))
