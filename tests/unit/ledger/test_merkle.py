# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chopmark.errors import VerificationError
from chopmark.ledger import (
    EMPTY_EDGE,
    EMPTY_ROOT,
    ProofError,
    consistency_path,
    decode_bundle,
    edge_of,
    inclusion_path,
    integrate,
    leaf_hash,
    node_from_tiles,
    root_of,
    tile_shape,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(b"%d" % n) for n in range(70)]


def node(level, index):
    assert (index + 1) << level <= len(LEAVES)
    return root_of(LEAVES[index << level : (index + 1) << level])


def recursive_root(leaves):
    """RFC 9162, 2.1.1, as it is written."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    from chopmark.ledger import node_hash

    return node_hash(recursive_root(leaves[:k]), recursive_root(leaves[k:]))


def test_every_proof_of_every_small_tree():
    for size in range(1, len(LEAVES) + 1):
        root = root_of(LEAVES[:size])
        assert root == recursive_root(LEAVES[:size])
        for index in range(size):
            verify_inclusion(LEAVES[index], index, size, inclusion_path(index, size, node), root)
        for old in range(1, size + 1):
            path = consistency_path(old, size, node)
            verify_consistency(old, root_of(LEAVES[:old]), size, root, path)


@given(st.integers(1, 70), st.data())
def test_a_changed_inclusion_proof_is_refused(size, data):
    index = data.draw(st.integers(0, size - 1))
    path = list(inclusion_path(index, size, node))
    root = root_of(LEAVES[:size])
    other = data.draw(st.integers(0, size - 1))
    match data.draw(st.sampled_from(["leaf", "index", "longer", "shorter", "hash"])):
        case "leaf":
            change = (b"\0" * 32, index, size, path)
        case "index" if other != index:
            change = (LEAVES[index], other, size, path)
        case "shorter" if path:
            change = (LEAVES[index], index, size, path[:-1])
        case "hash" if path:
            change = (LEAVES[index], index, size, [*path[:-1], bytes(32)])
        case _:
            change = (LEAVES[index], index, size, [*path, bytes(32)])
    with pytest.raises(ProofError):
        verify_inclusion(*change, root)


def test_impossible_proofs():
    for bad in (
        lambda: inclusion_path(3, 3, node),
        lambda: inclusion_path(-1, 3, node),
        lambda: consistency_path(0, 3, node),
        lambda: consistency_path(4, 3, node),
        lambda: verify_inclusion(LEAVES[0], 0, 0, [], EMPTY_ROOT),
        lambda: verify_inclusion(b"short", 0, 1, [], b"short"),
        lambda: verify_inclusion(LEAVES[0], 0, 2**64, [], LEAVES[0]),
        lambda: verify_consistency(3, LEAVES[0], 3, LEAVES[0], [LEAVES[0]]),
        lambda: verify_consistency(1, LEAVES[0], 2**63, LEAVES[0], [LEAVES[0]] * 63),
    ):
        with pytest.raises(ProofError):
            bad()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=5))
def test_batches_make_the_same_tree(sizes):
    """However entries are cut into batches: one tree, and its edge can be derived from what a store keeps."""
    edge, tiles, bundles, count = EMPTY_EDGE, {}, {}, 0
    for size in sizes:
        entries = [b"%d" % n for n in range(count, count + size)]
        built = integrate(edge, entries)
        tiles.update({(tile.level, tile.index): tile.encode() for tile in built.tiles})
        bundles.update({bundle.index: bundle.encode() for bundle in built.bundles})
        edge, count = built.edge, count + size
    leaves = [leaf_hash(b"%d" % n) for n in range(count)]
    assert edge.root == root_of(leaves)
    shape = tile_shape(count)
    assert sorted(tiles) == sorted((level, n) for level, full, width in shape for n in range(full + bool(width)))
    entries = [entry for index in sorted(bundles) for entry in decode_bundle(bundles[index])]
    assert entries == [b"%d" % n for n in range(count)]
    partial = [tiles[level, full] if width else b"" for level, full, width in shape]
    tail = entries[count - count % 256 :]
    again = edge_of(count, partial, tail)
    assert again.root == edge.root
    assert integrate(again, [b"next"]).root == integrate(edge, [b"next"]).root
    if count:
        read = node_from_tiles(lambda level, index: tiles[level, index])
        verify_inclusion(leaves[count // 2], count // 2, count, inclusion_path(count // 2, count, read), edge.root)
        with pytest.raises(VerificationError):
            edge_of(count, partial, [*tail, b"more"])
        with pytest.raises(VerificationError):
            edge_of(count + 1, partial, tail)


def test_a_tile_that_is_too_narrow():
    read = node_from_tiles(lambda level, index: LEAVES[0])
    with pytest.raises(VerificationError, match="narrow"):
        read(0, 1)
