# SPDX-License-Identifier: Apache-2.0
"""Envelope -> VerifiedStatement, or an error. Pure: no files, no clock, no network.

(1) count the owners of the role over the bytes received; (2) only then decode the payload; (3) check that the role may
sign this predicate about this subject. Whether the statement is *sufficient* for anything is policy's question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from chopmark.errors import VerificationError
from chopmark.keys import count_owners
from chopmark.statements.model import _MADE_BY_VERIFY, Envelope, VerifiedStatement, short_type
from chopmark.statements.wire import decode_statement

if TYPE_CHECKING:  # a caller that has a policy has loaded it; `chopmark verify` has none, and starts without TUF
    from chopmark.trust import TrustPolicy


def verify(envelope: Envelope, trust: TrustPolicy, role: str) -> VerifiedStatement:
    """Verify *envelope* as a statement of *role*.

    Raises:
        VerificationError: ``statement-unsigned`` (too few owners counted), ``statement-half-signed`` (too few, and one
            came with half a hybrid; evidence names who and which half) or ``statement-forbidden`` (the role may not
            sign this predicate or subject).
        DecodeError: signed properly, and not a statement.
    """
    permitted = trust.role(role)
    count = count_owners(trust.rule(role), ((s.keyid, s.sig) for s in envelope.signatures), envelope.message)
    if not count.met:
        raise VerificationError(
            f"{role}: {count.explain()}",
            code="statement-half-signed" if count.partial else "statement-unsigned",
            hint=f"sign it with all keys of {', '.join(permitted.owners)}",
            evidence={"role": role, **count.evidence()},
        )
    statement = decode_statement(envelope.payload)
    if not permitted.allows(statement.predicate_type, statement.subject.name):
        raise VerificationError(
            f"{role} may not say {short_type(statement.predicate_type)} about {statement.subject.name}",
            code="statement-forbidden",
            hint="see the role's predicates and subjects in trust.json",
            evidence={"role": role, "predicate": statement.predicate_type, "subject": statement.subject.name},
        )
    return VerifiedStatement(
        statement=statement, role=role, owners=count.counted, envelope=envelope, proof=_MADE_BY_VERIFY
    )


def verified(
    entries: Iterable[tuple[int, Envelope]], trust: TrustPolicy, *, kind: str, role: str
) -> Iterator[tuple[int, VerifiedStatement]]:
    """Yield the statements of one kind that *role* made, with their ledger index; what does not verify is passed over.

    Args:
        kind: predicate type.
    """
    for index, envelope in entries:
        try:
            if decode_statement(envelope.payload).predicate_type == kind:  # cheap, and believed in nothing
                yield index, verify(envelope, trust, role)
        except VerificationError:
            continue


def verify_any(envelope: Envelope, trust: TrustPolicy) -> VerifiedStatement:
    """Verify *envelope* as a statement of whichever role signed it.

    Raises:
        VerificationError: no role that may say this signed it with enough owners.
    """
    failures: list[VerificationError] = []
    for role in trust.roles:
        try:
            return verify(envelope, trust, role)
        except VerificationError as error:
            failures.append(error)
    forbidden = next((e for e in failures if e.code != "statement-unsigned"), None)
    raise forbidden or VerificationError(
        "no role signed this statement with enough owners",
        code="statement-unsigned",
        hint="see the roles in trust.json: `chopmark trust show`",
        evidence={"signatures": [s.keyid for s in envelope.signatures]},
    )
