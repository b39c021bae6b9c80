# SPDX-License-Identifier: Apache-2.0
"""Any bytes are a monitor's state, or what devices saw, or a ChopmarkError."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chopmark.errors import ChopmarkError
from chopmark.ledger import Checkpoint, leaf_hash, sign_checkpoint
from chopmark.ledger.compare import decode_reported
from chopmark.ledger.followed import Alarm, Followed, decode_followed, encode_followed
from unit.ledger.kit import LOG_SIGNERS, ORIGIN

NOTE = sign_checkpoint(Checkpoint(origin=ORIGIN, size=1, root=leaf_hash(b"e")), LOG_SIGNERS[:1], timestamp=1).encode()
ALARM = Alarm(code="log-fork", message="two", time="2026-11-22T10:00:00Z", evidence=("a", "b"))
FOLLOWED = Followed(note=NOTE, promised=NOTE, scanned=1, watch=("model:m",), before=("log.old/m",), alarm=ALARM)
STATE = encode_followed(FOLLOWED)
SEEN = json.dumps(
    {"ok": True, "checkpoints": [{"device": "kiosk-1", "origin": ORIGIN, "size": 1, "root": bytes(32).hex()}]}
).encode()


def test_what_is_written_is_read_back():
    assert decode_followed(STATE) == FOLLOWED
    assert decode_reported(SEEN)[0].root == bytes(32)


def state(data):
    try:
        found = decode_followed(data)
    except ChopmarkError:
        return
    assert encode_followed(found) == data


def seen(data):
    try:
        found = decode_reported(data)
    except ChopmarkError:
        return
    assert all(len(each.root) == 32 and each.size >= 0 for each in found)


@given(st.binary(max_size=200))
def test_any_bytes(data):
    state(data)
    seen(data)


@given(st.integers(0, len(STATE) - 1), st.binary(max_size=3), st.integers(0, 40))
def test_a_state_with_a_change(at, put, cut):
    state(STATE[:at] + put + STATE[at + cut :])


@given(st.integers(0, len(SEEN) - 1), st.binary(max_size=3), st.integers(0, 40))
def test_a_list_with_a_change(at, put, cut):
    seen(SEEN[:at] + put + SEEN[at + cut :])


@pytest.mark.parametrize("root", ["", "0" * 63, "0" * 62, "zz" * 32, "A" * 64, " " + "0" * 64, "0 " * 32])
def test_roots_that_cannot_be(root):
    file = {"ok": True, "checkpoints": [{"device": "k", "origin": ORIGIN, "size": 1, "root": root}]}
    with pytest.raises(ChopmarkError):
        decode_reported(json.dumps(file).encode())
