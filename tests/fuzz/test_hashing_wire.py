# SPDX-License-Identifier: Apache-2.0
"""What `chopmark hash` reads back: a state of any bytes, leaves of any bytes. Success, or an error of ours."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chopmark.artifacts import HashState, check_leaves, hash_bytes, manifest_of, verify_blocks
from chopmark.errors import ChopmarkError, VerificationError

DATA = bytes(range(256)) * 700
ENTRY = hash_bytes("model", DATA)

lines = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b'{"v":1,"what":"chopmark hash state","of":"OF"}',
            b'{"finished":true}',
            b'{"file":{"name":"model","length":1,"sha256":"%s","fsverity":{"4096":"%s","65536":"%s"}},"seen":[1,2,3,4,5],"at":1}'
            % ((b"0" * 64,) * 3),
            b'{"file":null,"seen":[1,2,3,4,5]}',
            b'{"file":{"name":"../x","length":1,"sha256":"","fsverity":{}},"seen":[],"at":9e999}',
            b'{"finished":false}',
            b'{"at":123456789012345678901234567890}',
            b'{"seen":[1.5]}',
            b"[" * 5000,
        ]
    ),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(lines, max_size=6), st.booleans(), st.binary(max_size=20), st.booleans())
def test_a_state_of_any_bytes(several, header, rest, changed_only):
    with tempfile.TemporaryDirectory() as folder:
        model, path = Path(folder, "model"), Path(folder, "state")
        model.write_bytes(DATA)
        first = [b'{"v":1,"what":"chopmark hash state","of":"OF"}'] * header
        data = b"".join(line + b"\n" for line in [*first, *several]) + rest
        path.write_bytes(data.replace(b"OF", os.fsencode(model.resolve())))
        path.chmod(0o600)
        code = ""
        try:
            with HashState(path, of=model, changed_only=changed_only, now_ns=lambda: 10**18) as state:
                assert manifest_of(model, state=state).files == (ENTRY,)
                state.finish()
        except ChopmarkError as error:
            code = error.code
        assert code in ("", "state-undecodable", "usage")  # usage: the state of something else


@given(st.binary(max_size=200) | st.binary(min_size=96, max_size=96))
def test_leaves_of_any_bytes(leaves):
    with pytest.raises(VerificationError) as caught:
        check_leaves(ENTRY, leaves)
    assert caught.value.code == "leaves-altered"


@given(st.integers(-10, len(DATA) + 10), st.integers(-10, len(DATA) + 10))
def test_any_range(start, stop):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        path.write_bytes(DATA)
        entry = manifest_of(path, leaves=Path(folder)).files[0]
        leaves = Path(folder, "model.leaves").read_bytes()
        with path.open("rb") as file:
            try:
                pieces = list(verify_blocks(file.fileno(), entry, leaves, [range(start, stop)]))
            except ChopmarkError:
                assert not 0 <= start <= stop <= len(DATA)
            else:
                assert b"".join(piece for _, piece in pieces) == DATA[start:stop]
