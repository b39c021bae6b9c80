# SPDX-License-Identifier: Apache-2.0
"""Who signed a bundle: an owner who holds a role in trust.json that may sign it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chopmark.errors import DecodeError
from chopmark.statements.model import PredicateType
from chopmark.statements.oms.keys import OmsKey
from chopmark.statements.oms.model import Bundle, OmsFailure, refused
from chopmark.statements.oms.wire import decode_listing

if TYPE_CHECKING:
    from chopmark.trust import TrustPolicy

_WHO = "see the roles in trust.json: `chopmark trust show`"


@dataclass(frozen=True, slots=True)
class OmsRoles:
    """The roles of a trust policy, as far as they may sign bundles.

    A bundle has one signature: a role counts that asks for one owner and one algorithm, and for its subject.
    """

    policy: TrustPolicy

    def check(self, bundle: Bundle) -> str:
        """Check that an owner of such a role signed *bundle*, and return the role and the owner.

        Raises:
            VerificationError: ``oms-material`` or ``oms-unsigned``.
        """
        if bundle.chain:
            raise refused(OmsFailure.MATERIAL, "signed with a certificate, and not by a key of trust.json", hint=_WHO)
        for role, owner, key in self._keys():
            if bundle.hint in {"", key.hint} and key.signed(bundle):
                subject = decode_listing(bundle.payload).subject
                if self.policy.role(role).allows(PredicateType.OMS, subject):
                    return f"{role} {owner}"
                raise refused(
                    OmsFailure.UNSIGNED,
                    f"signed by {owner}, who as {role} may not sign for {subject[:80]!r}",
                    hint=f"`chopmark build package` names the model as the role does; {_WHO}",
                )
        raise refused(OmsFailure.UNSIGNED, "signed by nobody whose role may sign it", hint=_WHO)

    def _keys(self) -> Iterator[tuple[str, str, OmsKey]]:
        for name, role in self.policy.roles.items():
            if PredicateType.OMS not in role.predicates or role.k != 1 or len(role.algorithms) != 1:
                continue
            for owner in role.owners:
                for key in self.policy.owners[owner].keys:
                    try:
                        yield name, owner, OmsKey.from_public(key)
                    except DecodeError:
                        continue  # of another algorithm: it signs other statements
