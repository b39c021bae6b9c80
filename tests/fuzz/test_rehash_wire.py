# SPDX-License-Identifier: Apache-2.0
"""The fast reader of bundles takes what the plain one takes, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chopmark.errors import DecodeError
from chopmark.ledger import decode_bundle, encode_bundle, leaf_hash
from chopmark.ledger.rehash import leaves_of


def plain(data):
    try:
        return b"".join(map(leaf_hash, decode_bundle(data)))
    except DecodeError:
        return None


def fast(data):
    try:
        return leaves_of(data)
    except DecodeError:
        return None


@given(st.binary(max_size=600))
def test_any_bytes(data):
    assert fast(data) == plain(data)


@given(st.lists(st.binary(max_size=40), max_size=260), st.integers(0, 20), st.binary(max_size=3))
def test_bundles_that_are_cut_or_lengthened(entries, cut, more):
    data = encode_bundle(entries)
    for changed in (data, data[: len(data) - cut], data + more):
        assert fast(changed) == plain(changed)
