# SPDX-License-Identifier: Apache-2.0
"""Sigstore bundles, altered one thing at a time."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode


def spoil(text):
    data = bytearray(b64decode(text))
    data[len(data) // 2] ^= 1
    return b64encode(data).decode()


def _in(*path, change=spoil):
    def bend(value):
        *above, last = path
        for name in above:
            value = value[name]
        value[last] = change(value[last])

    return bend


_ENTRY = ("verificationMaterial", "tlogEntries", 0)
_PROOF = (*_ENTRY, "inclusionProof")


def _index(bundle):
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    entry["logIndex"] = entry["inclusionProof"]["logIndex"] = str(int(entry["logIndex"]) ^ 1)


def _line(note):
    head, dash, line = note.partition("— ")
    return head + dash + line.replace(line[60:64], "AAAA", 1)


ALTERED = {
    "the signature": _in("messageSignature", "signature"),
    "the artifact's digest": _in("messageSignature", "messageDigest", "digest"),
    "the log index": _index,
    "a hash of the proof": _in(*_PROOF, "hashes", 0),
    "a hash too few": _in(*_PROOF, "hashes", change=lambda hashes: hashes[1:]),
    "the tree's size in the checkpoint": _in(
        *_PROOF, "checkpoint", "envelope", change=lambda note: note.replace("\n", "\n1", 1)
    ),
    "the log's signature": _in(*_PROOF, "checkpoint", "envelope", change=_line),
    "no entry": _in("verificationMaterial", "tlogEntries", change=lambda _: []),
}
"""What is altered, in any bundle that is logged. Everybody refuses each of them."""

_CERTIFIED = {
    "the certificate": _in("verificationMaterial", "certificate", "rawBytes"),
    "the timestamp": _in(
        "verificationMaterial", "timestampVerificationData", "rfc3161Timestamps", 0, "signedTimestamp"
    ),
}


def alter(bundle, name):
    """Return *bundle* with one thing altered."""
    value = json.loads(bundle)
    (ALTERED | _CERTIFIED)[name](value)
    return json.dumps(value).encode()
