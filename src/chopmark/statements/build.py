# SPDX-License-Identifier: Apache-2.0
"""Make signed envelopes."""

from __future__ import annotations

from collections.abc import Iterable

from chopmark.keys import Signer
from chopmark.statements.model import Envelope, Signature, Statement
from chopmark.statements.wire import encode_statement


def sign(statement: Statement, signers: Iterable[Signer]) -> Envelope:
    """Return *statement* in an envelope signed by *signers* (all keys of a hybrid, for a role that wants one)."""
    return add_signatures(Envelope(payload=encode_statement(statement)), signers)


def add_signatures(envelope: Envelope, signers: Iterable[Signer]) -> Envelope:
    """Return *envelope* with the signatures of *signers* added; its digest stays what it was."""
    message = envelope.message
    return envelope.with_signatures(Signature(s.public.keyid, s.sign(message)) for s in signers)
