# SPDX-License-Identifier: Apache-2.0
"""Any bytes are a seal or a ChopmarkError."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chopmark import canonical
from chopmark.errors import ChopmarkError
from chopmark.ledger import Checkpoint, leaf_hash, sign_checkpoint
from chopmark.ledger.seal import decode_seal, encode_seal
from unit.ledger.kit import LOG_SIGNERS, ORIGIN

NOTE = sign_checkpoint(Checkpoint(origin=ORIGIN, size=1, root=leaf_hash(b"e")), LOG_SIGNERS[:1], timestamp=1).encode()
SEAL = encode_seal(NOTE)
MEMBERS = canonical.decode(SEAL, what="seal", max_bytes=65_535)
ANY = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.integers(), max_size=2)


def read(data):
    try:
        seal = decode_seal(data)
    except ChopmarkError:
        return
    if b'"x-' not in data:
        assert encode_seal(seal.note) == data


@given(st.binary(max_size=200))
def test_any_bytes(data):
    read(data)


@given(st.integers(0, len(SEAL) - 1), st.binary(max_size=3), st.integers(0, 40))
def test_a_seal_with_a_change(at, put, cut):
    read(SEAL[:at] + put + SEAL[at + cut :])


@given(st.dictionaries(st.sampled_from([*MEMBERS, "x-note", "more"]), ANY))
def test_other_members(change):
    try:
        data = canonical.encode({**MEMBERS, **change})
    except ChopmarkError:
        return
    read(data)
