# SPDX-License-Identifier: Apache-2.0
"""The map and the lists against the simplest way to compute them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chopmark.errors import UsageError, VerificationError
from chopmark.ledger import leaf_hash, root_of
from chopmark.ledger.index.lists import EMPTY_LIST, decode_edge, encode_edge, extend, list_root
from chopmark.ledger.index.trie import (
    EMPTY,
    Change,
    climb,
    decode_page,
    encode_page,
    find,
    grow,
    key_hash,
    stands_on_path,
)

# Keys whose ways part early and late: the first bytes are few, the last is any.
NEAR = st.builds(
    lambda head, zeros, tail: (bytes([head]) + bytes(zeros) + bytes([tail])).ljust(32, b"\xaa"),
    st.sampled_from([0, 1, 0x80, 0xFF]),
    st.sampled_from([0, 1, 5, 30]),
    st.integers(0, 255),
)
KEYS = st.one_of(NEAR, st.binary(min_size=32, max_size=32))


def reference(leaves: dict[bytes, bytes], depth: int = 0) -> bytes:
    """The root over *leaves*, written as the definition reads."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        return next(iter(leaves.values()))
    halves: tuple[dict, dict] = ({}, {})
    for key, leaf in leaves.items():
        halves[key[depth // 8] >> (7 - depth % 8) & 1][key] = leaf
    left, right = (reference(half, depth + 1) for half in halves)
    return hashlib.sha256(b"chopmark/map/v1/node\0" + left + right).digest()


def built(batches) -> tuple[bytes, dict[bytes, bytes], dict[bytes, bytes]]:
    root, pages, leaves = EMPTY, {}, {}
    for batch in batches:
        changes = [Change(key, leaves.get(key), leaf) for key, leaf in sorted(batch.items())]
        grown = grow(pages.get, root, changes, leaf_of=leaves.get)
        root = grown.root
        pages.update(grown.pages)
        leaves.update(batch)
    return root, pages, leaves


@given(st.lists(st.dictionaries(KEYS, st.binary(min_size=32, max_size=32), max_size=20), max_size=5), KEYS)
def test_a_map_grown_in_batches_is_the_map(batches, stranger):
    root, pages, leaves = built(batches)
    assert root == reference(leaves)
    for key in [*leaves, stranger]:
        found, path = find(pages.get, root, key)
        assert climb(key, EMPTY if found is None else found[1], path) == root
        if found is not None:
            assert stands_on_path(key, found[0], len(path))
        assert leaves.get(key) == (found[1] if found and found[0] == key else None)


def test_a_page_that_is_missing_or_another_is_noticed():
    root, pages, leaves = built([{key_hash(str(n)): bytes([n]) * 32 for n in range(64)}])
    change = [Change(key_hash("64"), None, b"l" * 32)]
    for wrong in (None, pages[bytes([key_hash("64")[0] >> 4])]):
        with pytest.raises(VerificationError, match="damaged"):
            grow({**pages, b"": wrong}.get, root, change, leaf_of=leaves.get)
    with pytest.raises(VerificationError, match="not the one that the map names"):
        grow(pages.get, root, [Change(key_hash("1"), b"x" * 32, b"l" * 32)], leaf_of=leaves.get)
    with pytest.raises(VerificationError, match="not the one that the map names"):
        grow(pages.get, root, [Change(key_hash("64"), b"x" * 32, b"l" * 32)], leaf_of=leaves.get)


@pytest.mark.parametrize("data", [b"", b"\0" * 3, b"\x00\x01\x00\x01" + bytes(96), b"\x00\x01\x00\x00" + bytes(63)])
def test_pages_that_cannot_be(data):
    with pytest.raises(VerificationError, match="shape"):
        decode_page(data)


@pytest.mark.parametrize("data", [b"", bytes(9), (256).to_bytes(8, "big"), (1).to_bytes(8, "big")])
def test_edges_that_cannot_be(data):
    with pytest.raises(VerificationError, match="damaged"):
        decode_edge(data)


@given(st.lists(st.integers(0, 700), max_size=4))
def test_a_list_grown_in_parts_is_the_list(parts):
    edge, chunks, count = EMPTY_LIST, [], 0
    for part in parts:
        edge, full = extend(decode_edge(encode_edge(edge)), range(count, count + part))
        chunks += full
        count += part
    assert edge.count == count
    assert edge.root == list_root(range(count)) == root_of([leaf_hash(n.to_bytes(8, "big")) for n in range(count)])
    assert [number for number, _ in chunks] == list(range(count // 256))
    assert [n for _, chunk in chunks for n in chunk] + list(edge.tail) == list(range(count))


def test_a_leaf_that_is_kept_under_another_key_is_noticed_before_it_moves():
    """The hash of a page is right then: only the way on which the leaf would go on is wrong."""
    root, pages, leaves = built([{bytes(32): b"a" * 32, b"\x80".ljust(32): b"b" * 32}])
    slots = decode_page(pages[b""])
    slots[0] = (b"\x07".ljust(32), b"a" * 32)
    with pytest.raises(VerificationError, match="under another key"):
        grow({b"": encode_page(slots)}.get, root, [Change(b"\x01".ljust(32), None, b"c" * 32)], leaf_of=leaves.get)


def test_hashes_are_kept_apart():
    """A key, a leaf, an inner node, nothing, and a node of a list: none can stand for another."""
    lone = built([{bytes(32): b"a" * 32}])[0]
    assert lone == b"a" * 32
    assert len({EMPTY, key_hash(""), list_root([]), climb(bytes(32), EMPTY, [EMPTY]), root_of([EMPTY, EMPTY])}) == 5


def test_half_a_character_is_no_key():
    with pytest.raises(UsageError):
        key_hash("model:\ud800")
