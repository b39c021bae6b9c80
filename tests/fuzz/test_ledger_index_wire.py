# SPDX-License-Identifier: Apache-2.0
"""Any bytes end in success or in an error of ours; what is read is written back the same."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from chopmark.errors import ChopmarkError
from chopmark.ledger.index import Answer, IndexRoot
from chopmark.ledger.index.lists import decode_edge, decode_indices, encode_edge, encode_indices
from chopmark.ledger.index.trie import decode_page, encode_page
from unit.ledger.index_kit import World, statement

KEY = "model:digits"


@cache
def samples():
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.append(*(statement(name, n) for n in range(3) for name in ("digits", "faces")))
        world.update()
        answer, entry = world.look(KEY), world.own.entry(0)
        page = world.store.page(b"")
        world.store.close()
        return world.trusted, answer, entry, page


@st.composite
def near(draw, number):
    """Valid bytes with a few changes, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(samples()[number])
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + draw(st.integers(1, 80))]
            case "insert":
                data[at:at] = draw(
                    st.sampled_from([b'"', b"\\n", b"-", b"0", b"9" * 20, b"null", b"[", b"\xff", b",0"])
                )
            case _:
                data[at:at] = data[at : at + 60]
    return bytes(data)


def reads(decode, encode, data):
    try:
        found = decode(data)
    except ChopmarkError:
        return
    assert encode(found) == data


@given(near(1))
@settings(max_examples=300)
def test_answers(data):
    from chopmark.ledger.index import verify_index_answer

    reads(Answer.decode, Answer.encode, data)
    try:
        found = verify_index_answer(data, KEY, trusted=samples()[0])
    except ChopmarkError:
        return
    assert found.indices == (0, 2, 4)


@given(near(2))
@settings(max_examples=300)
def test_roots(data):
    reads(IndexRoot.decode, IndexRoot.encode, data)


@given(near(3))
def test_pages(data):
    reads(decode_page, encode_page, data)


@given(st.one_of(st.binary(max_size=80), st.integers(0, 2**64 - 1).map(lambda n: n.to_bytes(8, "big") + bytes(40))))
def test_edges_and_chunks(data):
    reads(decode_edge, encode_edge, data)
    reads(decode_indices, encode_indices, data)
