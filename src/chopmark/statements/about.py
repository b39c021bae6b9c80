# SPDX-License-Identifier: Apache-2.0
"""What a ledger leaf is about, in words that can be looked up: for monitors, and for the index of the ledger.

A key is ``<kind>:<value>``:

    model:digits                  the model that a subject names (``model/digits``)
    digest:sha256:91c4…           a subject's digest, the statement's own, or that of a publication's snapshot
    signer:11ab…                  a key id among the signatures
    predicate:https://…           the predicate type; ``predicate:channel`` for a publication

Nothing is verified: whoever may write to a ledger may claim anything, and is found by it. The answer for given bytes never
changes within one :data:`VERSION`; an index says by which version it was made.
"""

from __future__ import annotations

import re
from typing import Final

from chopmark.artifacts import Digest
from chopmark.errors import ChopmarkError, UsageError
from chopmark.statements.model import Envelope
from chopmark.statements.wire import decode_leaf, decode_publication, decode_statement

VERSION: Final = "chopmark/about/v1"
_MODEL: Final = "model/"
_NONE: Final = re.compile("(?!)")
_KINDS: Final = {
    "model": re.compile(r".+", re.DOTALL),
    "digest": re.compile(r"sha256:[0-9a-f]{64}"),
    "signer": re.compile(r"[0-9a-f]{64}"),
    "predicate": re.compile(r".+", re.DOTALL),
}


def about(leaf: bytes) -> tuple[str, ...]:
    """Return the keys of a ledger leaf, sorted, each once; none for an entry that is not a leaf of ours."""
    try:
        found = decode_leaf(leaf)
    except ChopmarkError:
        return ()
    keys: set[str]
    match found:
        case Envelope():
            keys = _of_envelope(found)
        case Digest():
            keys = {f"digest:{found}"}
        case None:
            keys = {f"digest:{decode_publication(leaf)}", "predicate:channel"}
    return tuple(sorted(keys))


def check_key(key: str) -> str:
    """Return *key* where an entry could be about it: of one that none can have, nothing is ever known.

    Raises:
        UsageError: another kind, or a value that is cut short.
    """
    kind, _, value = key.partition(":")
    if not value or not _KINDS.get(kind, _NONE).fullmatch(value):
        raise UsageError(
            f"{key[:80]!r} is no key of the index",
            hint="model:NAME, digest:sha256:64 hex digits, signer:64 hex digits (a whole key id), or predicate:TYPE",
        )
    return key


def _of_envelope(envelope: Envelope) -> set[str]:
    keys = {f"signer:{signature.keyid}" for signature in envelope.signatures}
    keys.add(f"digest:{envelope.digest}")
    try:
        statement = decode_statement(envelope.payload)
    except ChopmarkError:
        return keys
    keys.add(f"predicate:{statement.predicate_type}")
    for subject in statement.subjects:
        keys.add(f"digest:{subject.digest}")
        if subject.name.startswith(_MODEL):
            keys.add(f"model:{subject.name.removeprefix(_MODEL)}")
    return keys
