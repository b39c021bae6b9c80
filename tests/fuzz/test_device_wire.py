# SPDX-License-Identifier: Apache-2.0
"""Any bytes: a value or an error of ours, and what was written comes back."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.artifacts.selftest import Case, Vectors, decode_vectors, encode_vectors
from chopmark.channel import LogHead, Status, StatusEntry, Top
from chopmark.device import (
    Chain,
    Config,
    FileVersion,
    Slot,
    Slots,
    State,
    TimeFloor,
    decode_config,
    decode_state,
    encode_config,
    encode_state,
)
from chopmark.errors import ChopmarkError, DecodeError

KEY = b"k" * 32
names = st.from_regex(r"(?!x-)[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True)
numbers = st.integers(0, canonical.MAX_INTEGER)
digests = st.binary(min_size=32, max_size=32).map(Digest)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
times = st.integers(0, 4_000_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))
files = st.builds(FileVersion, version=numbers, digest=digests)
entries = st.builds(
    StatusEntry, kind=st.sampled_from(["release", "manifest"]), digest=digests, reason=texts, since=times
)
slots = st.one_of(
    st.builds(lambda d: Slots(active=Slot.A, releases={Slot.A: d}), digests),
    st.builds(lambda a, b: Slots(active=Slot.B, releases={Slot.A: a, Slot.B: b}), digests, digests),
)


@st.composite
def states(draw):
    versions = draw(st.dictionaries(names, numbers, max_size=4))
    status = draw(
        st.none()
        | st.builds(
            Status,
            version=st.just(versions.get("status", 0)),
            issued=times,
            revoked=st.lists(entries, max_size=3).map(tuple),
            min_epoch=st.dictionaries(names, numbers, max_size=2),
            holds=st.just(()),
        )
    )
    return State(
        gen=draw(numbers),
        root=draw(files),
        trust=draw(st.none() | files),
        reset=draw(numbers),
        versions=versions,
        logs=draw(st.dictionaries(names, st.builds(LogHead, numbers, st.binary(max_size=40)), max_size=2)),
        status=status,
        assigned=draw(st.dictionaries(names, digests, max_size=2)),
        top=draw(
            st.dictionaries(
                names,
                st.builds(Top, counter=numbers, release=digests, fallbacks=st.lists(digests, max_size=2).map(tuple)),
                max_size=2,
            )
        ),
        slots=draw(st.dictionaries(names, slots, max_size=2)),
        floor=draw(st.none() | st.builds(TimeFloor, moment=times, boot_id=texts, boot_s=numbers)),
        chain=draw(
            st.builds(
                Chain,
                seq=numbers,
                head=st.none() | digests,
                nonce=texts,
                said=st.dictionaries(names, texts, max_size=2),
            )
        ),
    )


@given(states())
def test_any_state_comes_back(state):
    assert decode_state(encode_state(state, KEY), KEY) == state


@given(states(), st.data())
def test_any_change_of_a_state_file_is_refused(state, data):
    good = bytearray(encode_state(state, KEY))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DecodeError):
        decode_state(bytes(good), KEY)


@given(st.binary(max_size=300))
def test_any_bytes(data):
    for decode in (lambda d: decode_state(d, KEY), decode_config, decode_vectors):
        try:
            decode(data)
        except ChopmarkError:
            continue


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["v", "gen", "root", "trust", "reset", "versions", "logs", "status", "slots", "time", "report"]
        ),
        json_values,
    )
)
def test_any_body_with_a_good_mac(body):
    mac = hmac.digest(KEY, b"chopmark-device-state-v1\0" + canonical.encode(body), "sha256")
    with pytest.raises(DecodeError):
        decode_state(canonical.encode({"v": 1, "state": body, "mac": canonical.encode_base64(mac)}), KEY)


@given(
    st.builds(
        Config,
        workspace=names,
        device=names,
        name=texts,
        channel=names,
        models=st.lists(names, unique=True, max_size=3).map(tuple),
        channel_url=texts,
        fleet_url=texts,
        pin=digests,
        key=digests.map(lambda digest: digest.hex),
        runtime=names,
        app=texts,
        poll_s=st.integers(1, 604_800),
    )
)
def test_any_configuration_comes_back(config):
    assert decode_config(encode_config(config)) == config


cases = st.integers(1, 3).flatmap(
    lambda n: st.builds(
        Case,
        inputs=st.lists(st.integers(-100, 100), min_size=2, max_size=2).map(tuple),
        expect=st.lists(st.integers(-(10**6), 10**6), min_size=3, max_size=3).map(tuple),
        label=st.integers(0, n - 1),
    )
)


@given(st.lists(cases, min_size=1, max_size=5), st.integers(0, 10**6))
def test_any_vectors_come_back(made, tolerance):
    vectors = Vectors(cases=tuple(made), tolerance=tolerance)
    assert decode_vectors(encode_vectors(vectors)) == vectors
