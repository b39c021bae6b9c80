# SPDX-License-Identifier: Apache-2.0
"""Keys: who signed, counted by owner and algorithm.

A rule names owners and the algorithm groups each must sign with; :func:`count_owners` tells who counts. It never looks
at clocks or files; private keys live behind the port :class:`Signer`.
"""

from chopmark.keys.model import (
    HYBRID,
    Algorithm,
    AlgorithmGroup,
    Owner,
    OwnerCount,
    OwnerRule,
    PublicKey,
    count_owners,
    count_valid,
    read_public_key,
)
from chopmark.keys.ports import Passphrase, Signer

__all__ = [
    "HYBRID",
    "Algorithm",
    "AlgorithmGroup",
    "Owner",
    "OwnerCount",
    "OwnerRule",
    "Passphrase",
    "PublicKey",
    "Signer",
    "count_owners",
    "count_valid",
    "read_public_key",
]
