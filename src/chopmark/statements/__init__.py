# SPDX-License-Identifier: Apache-2.0
"""Statements: signed claims about artifacts, and the only place where one becomes verified.

    Envelope --verify(envelope, trust, role)--> VerifiedStatement

Everything that happens to a model is such a statement: in-toto Statement v1 in a DSSE envelope, recorded as a ledger
leaf. Signatures are counted by owner and algorithm before the payload is decoded.
"""

from chopmark.statements.about import VERSION as ABOUT_VERSION
from chopmark.statements.about import about, check_key
from chopmark.statements.build import add_signatures, sign
from chopmark.statements.model import (
    PAYLOAD_TYPE,
    Envelope,
    PredicateType,
    Signature,
    Statement,
    Subject,
    VerifiedStatement,
    pae,
    short_type,
)
from chopmark.statements.oms import (
    OMS_FILE,
    OmsFailure,
    OmsKey,
    OmsTrust,
    SignedFiles,
    VerifiedFiles,
    build_oms,
    decode_oms,
    default_bundle,
    find_bundle,
    open_oms,
    sign_files,
    verify_files,
    verify_oms,
)
from chopmark.statements.verify import verified, verify, verify_any
from chopmark.statements.wire import (
    decode_envelope,
    decode_leaf,
    decode_statement,
    encode_envelope,
    encode_statement,
    publication_leaf,
    statement_leaf,
)

__all__ = [
    "ABOUT_VERSION",
    "OMS_FILE",
    "PAYLOAD_TYPE",
    "Envelope",
    "OmsFailure",
    "OmsKey",
    "OmsTrust",
    "PredicateType",
    "Signature",
    "SignedFiles",
    "Statement",
    "Subject",
    "VerifiedFiles",
    "VerifiedStatement",
    "about",
    "add_signatures",
    "build_oms",
    "check_key",
    "decode_envelope",
    "decode_leaf",
    "decode_oms",
    "decode_statement",
    "default_bundle",
    "encode_envelope",
    "encode_statement",
    "find_bundle",
    "open_oms",
    "pae",
    "publication_leaf",
    "short_type",
    "sign",
    "sign_files",
    "statement_leaf",
    "verified",
    "verify",
    "verify_any",
    "verify_files",
    "verify_oms",
]
