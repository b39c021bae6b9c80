# SPDX-License-Identifier: Apache-2.0
"""Staged changes: what is written is read back, and any bytes end in success or an error of ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chopmark.errors import ChopmarkError, DecodeError
from chopmark.ledger import EMPTY_EDGE, bundle_path, integrate, tile_path
from chopmark.ledger.staging import decode_staging, encode_staging, file_name, files_of, staged_size, staging_path

paths = st.one_of(
    st.builds(tile_path, st.integers(0, 7), st.integers(0, 10**12), st.integers(1, 256)),
    st.builds(bundle_path, st.integers(0, 10**12), st.integers(1, 256)),
)
changes = st.dictionaries(paths, st.binary(min_size=1, max_size=40), min_size=1, max_size=8)


@given(changes)
def test_a_change_is_read_back(files):
    assert decode_staging(encode_staging(files)) == files
    assert encode_staging(dict(reversed(files.items()))) == encode_staging(files)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=300), st.lists(st.binary(max_size=20), max_size=300))
def test_a_change_of_a_log_is_read_back(before, after):
    edge = integrate(EMPTY_EDGE, before).edge
    if after:
        files = files_of(integrate(edge, after))
        assert decode_staging(encode_staging(files)) == files


@given(st.binary(max_size=200) | st.binary(max_size=99).map(lambda data: b"chopmark-staging/v1\n" + data))
def test_any_bytes_end_well(data):
    try:
        files = decode_staging(data)
    except ChopmarkError:
        return
    assert encode_staging(files) == data


@given(changes, st.data())
def test_a_changed_byte_is_an_error_or_another_change(files, data):
    encoded = bytearray(encode_staging(files))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_staging(bytes(encoded))
    except ChopmarkError:
        return
    assert encode_staging(found) == bytes(encoded)
    assert found != files


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"chopmark-staging/v2\n\n",
        b"chopmark-staging/v1\n",
        b"chopmark-staging/v1\ncheckpoint 1\n\nx",
        b"chopmark-staging/v1\ntile/0/000 2\n\nx",
        b"chopmark-staging/v1\ntile/0/000 1\n\nxy",
        b"chopmark-staging/v1\ntile/0/000 01\n\nx",
        b"chopmark-staging/v1\ntile/0/000  1\n\nx",
        b"chopmark-staging/v1\ntile/0/001 1\ntile/0/000 1\n\nxy",
        b"chopmark-staging/v1\ntile/0/000 1\ntile/0/000 1\n\nxy",
        b"chopmark-staging/v1\ntile/0/../000 1\n\nx",
        b"chopmark-staging/v1\ntile/0/x000/000 1\n\nx",
        b"chopmark-staging/v1\ntile/0/000.p/256 1\n\nx",
        b"chopmark-staging/v1\n\xfftile/0/000 1\n\nx",
    ],
)
def test_what_is_no_staged_change(data):
    with pytest.raises(DecodeError):
        decode_staging(data)


@given(st.text(max_size=60) | paths)
def test_a_path_has_one_spelling(path):
    name = file_name(path)
    if name is not None:
        own = (
            bundle_path(name.index, name.width) if name.level is None else tile_path(name.level, name.index, name.width)
        )
        assert own == path


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.binary(min_size=32, max_size=32))
def test_the_name_of_a_staged_object_says_its_size(start, size, root):
    assert staged_size(staging_path(start, size, root)) == size
    assert staged_size(staging_path(start, size, root) + "x") > 2**62
