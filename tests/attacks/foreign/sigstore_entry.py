# SPDX-License-Identifier: Apache-2.0
"""Verify a TransparencyLogEntry with sigstore-python: ENTRY.json KEY.pem. Exit 1 with words where it is not."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from sigstore._internal.trust import Keyring, RekorKeyring
from sigstore.models import TransparencyLogEntry
from sigstore_models.common.v1 import PublicKey, PublicKeyDetails
from sigstore_models.rekor.v1 import TransparencyLogEntry as Inner

entry = json.loads(Path(sys.argv[1]).read_bytes())
key = load_pem_public_key(Path(sys.argv[2]).read_bytes())
der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
edwards = isinstance(key, ed25519.Ed25519PublicKey)
details = PublicKeyDetails.PKIX_ED25519 if edwards else PublicKeyDetails.PKIX_ECDSA_P256_SHA_256
keyring = RekorKeyring(Keyring([PublicKey(raw_bytes=base64.b64encode(der), key_details=details)]))
try:
    TransparencyLogEntry(Inner.from_dict(entry))._verify(keyring)
except Exception as error:  # noqa: BLE001 - whatever it calls a no
    print(type(error).__name__, error)
    sys.exit(1)
print("verified")
