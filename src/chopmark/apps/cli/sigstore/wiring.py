# SPDX-License-Identifier: Apache-2.0
"""The one place of ``sigstore`` that names adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chopmark.statements.sigstore.ports import Sigstore


def open_sigstore() -> Sigstore:
    """Return Sigstore's own client.

    Raises:
        UsageError: ``missing-extra``: its library is not installed.
    """
    from chopmark.adapters.sigstore.library import SigstoreLibrary

    return SigstoreLibrary()
