# SPDX-License-Identifier: Apache-2.0
"""What signing and verifying in a process of somebody's own work with: key stores, this machine's clock, workspaces."""

from __future__ import annotations

from pathlib import Path

from chopmark.adapters.kms import open_signer
from chopmark.clock import Clock, SystemClock
from chopmark.errors import UsageError
from chopmark.keys import Signer
from chopmark.trust import TrustPolicy


def open_key(key: str | Path) -> Signer:
    """Open a private key: a path, or a URI of docs/reference/signers.md. Nobody is asked for a passphrase.

    Raises:
        UsageError: something else; it is not repeated, since it may be the key itself.
    """
    if not isinstance(key, str | Path):
        raise UsageError(f"a {type(key).__name__} is no private key", hint="name its file, or its URI")
    return open_signer(str(key))


def clock() -> Clock:
    return SystemClock()


def workspace_trust(folder: Path) -> TrustPolicy:
    """Return the trust of the workspace that *folder* is in, verified from its pin.

    Raises:
        UsageError: it is in none.
        Refused: ``root-untrusted``, ``trust-mismatch``.
    """
    from chopmark.release.workspace import open_workspace

    return open_workspace(folder).trusted()[1]
