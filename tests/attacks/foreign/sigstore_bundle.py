# SPDX-License-Identifier: Apache-2.0
"""Verify a bundle with sigstore-python: FILE BUNDLE TRUSTED_ROOT SUBJECT ISSUER. Exit 1 with words where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy

file, bundle, root, subject, issuer = sys.argv[1:]
try:
    verifier = Verifier(trusted_root=TrustedRoot.from_file(root))
    who = policy.Identity(identity=subject, issuer=issuer)
    verifier.verify_artifact(Path(file).read_bytes(), Bundle.from_json(Path(bundle).read_bytes()), who)
except Exception as error:  # noqa: BLE001 - whatever it calls a no
    print(type(error).__name__, error)
    sys.exit(1)
print("verified")
