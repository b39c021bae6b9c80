# SPDX-License-Identifier: Apache-2.0
"""Trust: who may say what. root.json says who may act and names trust.json, which says how.

    pinned_root -> next_root -> ... -> open_trust -> TrustPolicy

Each device, operator, approver and monitor pins root outside the repository it governs.
"""

from chopmark.trust.model import Frozen, Limits, LogKeys, RetiredFor, RetiredKey, Role, TrustPolicy
from chopmark.trust.root import (
    EXTENSION,
    MAX_ROOT_BYTES,
    TrustedRoot,
    TrustFile,
    build_root,
    count_signed,
    next_root,
    open_trust,
    owner_keys,
    pinned_root,
    sign_metadata,
    tuf_key,
)
from chopmark.trust.wire import MAX_TRUST_BYTES, decode_trust, encode_trust

__all__ = [
    "EXTENSION",
    "MAX_ROOT_BYTES",
    "MAX_TRUST_BYTES",
    "Frozen",
    "Limits",
    "LogKeys",
    "RetiredFor",
    "RetiredKey",
    "Role",
    "TrustFile",
    "TrustPolicy",
    "TrustedRoot",
    "build_root",
    "count_signed",
    "decode_trust",
    "encode_trust",
    "next_root",
    "open_trust",
    "owner_keys",
    "pinned_root",
    "sign_metadata",
    "tuf_key",
]
