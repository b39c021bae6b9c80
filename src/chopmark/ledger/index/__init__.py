# SPDX-License-Identifier: Apache-2.0
"""The index of a ledger: for a model, a digest or a signer, *all* entries about it, with a proof that there are no more.

    log --about--> keys --> map: key -> list of indices --> root, published in a log of its own
    answer about a key = its list + its way through the map + proof that the root was published

Told by :mod:`~chopmark.ledger.index.trie` (the map), :mod:`~chopmark.ledger.index.lists`,
:mod:`~chopmark.ledger.index.wire` (the formats), :mod:`~chopmark.ledger.index.verify` (what anybody checks, pure and
offline), :mod:`~chopmark.ledger.index.build` (making one) and :mod:`~chopmark.ledger.index.mirror` (making it again and
comparing). A second face: people, monitors and mirrors rely on it, a device does not.

    >>> key_hash("model:digits").hex()[:16]
    'c039d9ac97dd8949'
"""

from chopmark.ledger.index.build import About, StoredFiles, Updated, look, newest_seen, update
from chopmark.ledger.index.mirror import Mirrored, mirror
from chopmark.ledger.index.trie import key_hash
from chopmark.ledger.index.verify import IndexAnswer, TrustedIndex, TrustedLog, verify_index_answer
from chopmark.ledger.index.wire import MAX_ANSWER_BYTES, Answer, IndexRoot

__all__ = [
    "MAX_ANSWER_BYTES",
    "About",
    "Answer",
    "IndexAnswer",
    "IndexRoot",
    "Mirrored",
    "StoredFiles",
    "TrustedIndex",
    "TrustedLog",
    "Updated",
    "key_hash",
    "look",
    "mirror",
    "newest_seen",
    "update",
    "verify_index_answer",
]
