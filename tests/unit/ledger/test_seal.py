# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from chopmark import canonical
from chopmark.errors import DecodeError, UsageError
from chopmark.ledger import Checkpoint, SignatureLine, SignedNote, leaf_hash, sign_checkpoint
from chopmark.ledger.seal import decode_seal, encode_seal
from unit.ledger.kit import LOG_SIGNERS, ORIGIN

LAST = Checkpoint(origin=ORIGIN, size=1, root=leaf_hash(b"e"))
NOTE = sign_checkpoint(LAST, LOG_SIGNERS, timestamp=1).encode()
SEAL = canonical.decode(encode_seal(NOTE), what="seal", max_bytes=65_535)


def test_a_seal_keeps_the_last_checkpoint_byte_for_byte():
    seal = decode_seal(encode_seal(NOTE))
    assert (seal.checkpoint, seal.note) == (LAST, NOTE)
    assert sorted(SEAL) == ["checkpoint", "kind", "origin", "root", "size", "v"]
    assert (SEAL["v"], SEAL["kind"], SEAL["origin"], SEAL["size"]) == (1, "log", ORIGIN, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"kind": "channel"},
        {"origin": "log.other/m"},
        {"size": 2},
        {"size": True},
        {"size": -1},
        {"root": canonical.encode_base64(bytes(32))},
        {"root": canonical.encode_base64(bytes(31))},
        {"checkpoint": ""},
        {"checkpoint": canonical.encode_base64(b"no note")},
        {"more": 1},
    ],
)
def test_a_seal_that_is_none_or_contradicts_itself(change):
    with pytest.raises(DecodeError):
        decode_seal(canonical.encode({**SEAL, **change}))


def test_a_seal_in_another_spelling():
    with pytest.raises(DecodeError):
        decode_seal(encode_seal(NOTE).replace(b",", b", ", 1))


def test_annotations_are_dropped_and_everything_else_is_refused():
    assert decode_seal(canonical.encode({**SEAL, "x-why": "a new key"})).checkpoint == LAST


def test_what_cannot_be_sealed():
    with pytest.raises(DecodeError):
        encode_seal(b"no note")
    with pytest.raises(UsageError):
        encode_seal(
            sign_checkpoint(Checkpoint(origin=ORIGIN, size=2**60, root=bytes(32)), LOG_SIGNERS, timestamp=1).encode()
        )
    lines = tuple(SignatureLine(name=f"w{n}", key_id=bytes(4), signature=bytes(2428)) for n in range(20))
    with pytest.raises(UsageError):
        encode_seal(SignedNote(text=LAST.encode(), signatures=lines).encode())
