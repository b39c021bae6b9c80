# SPDX-License-Identifier: Apache-2.0
"""OpenSSF Model Signing bundles, both ways: what ``model_signing`` signs we verify, what we sign it verifies.

A bundle lies beside a model and gives no authority on a device: its subject is the hash of concatenated file digests, which
does not bind names (docs/concepts/trust.md). We sign what stock tools accept, and read more strictly than they do: one
signature, an order, no ``..``, every file listed and every listed file there.

Not read, and refused by name: shards, BLAKE2 and BLAKE3, which stock tools cannot read back, and identities of Sigstore.

Source: OMS specification 1.0; Sigstore bundle 0.3; DSSE 1.0.
"""

from chopmark.statements.oms.build import build_oms
from chopmark.statements.oms.check import OmsTrust, decode_oms, open_oms, verify_oms
from chopmark.statements.oms.files import (
    SignedFiles,
    VerifiedFiles,
    check_key_outside,
    default_bundle,
    find_bundle,
    sign_files,
    verify_files,
)
from chopmark.statements.oms.keys import OmsKey
from chopmark.statements.oms.model import OMS_FILE, OmsFailure

__all__ = [
    "OMS_FILE",
    "OmsFailure",
    "OmsKey",
    "OmsTrust",
    "SignedFiles",
    "VerifiedFiles",
    "build_oms",
    "check_key_outside",
    "decode_oms",
    "default_bundle",
    "find_bundle",
    "open_oms",
    "sign_files",
    "verify_files",
    "verify_oms",
]
