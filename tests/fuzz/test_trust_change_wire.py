# SPDX-License-Identifier: Apache-2.0
"""Any bytes are a trust proposal or a ChopmarkError; what is read is checked into an error of ours or a meaning."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from chopmark.errors import ChopmarkError
from chopmark.release.trusting import examine
from chopmark.trust.change import decode_proposal, encode_proposal, progress
from chopmark.trust.difference import differences
from simulators import NOW
from simulators.ceremony import SimCeremony
from unit.trust.test_change import later

CEREMONY = SimCeremony()
PROPOSAL = CEREMONY.signed(later(CEREMONY.start), "owner-a")
DATA = encode_proposal(PROPOSAL)
MEMBERS = json.loads(DATA)
ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=8), st.integers(), max_size=2)
)


def paths(value, prefix=()):
    yield prefix
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from paths(inner, (*prefix, name))


PATHS = list(paths(MEMBERS))[1:]


def read(data):
    try:
        proposal = decode_proposal(data)
        assert decode_proposal(encode_proposal(proposal)).digest == proposal.digest
        examined = examine(CEREMONY.standing, proposal, now=NOW)
        progress(CEREMONY.standing, proposal)
        assert differences(CEREMONY.start, examined.wanted) == examined.differences
    except ChopmarkError:
        return
    assert proposal.digest == PROPOSAL.digest, "what is signed cannot be bent"


@given(st.binary(max_size=200))
def test_any_bytes(data):
    read(data)


@given(st.integers(0, len(DATA) - 1), st.binary(max_size=3), st.integers(0, 40))
def test_a_proposal_with_a_change(at, put, cut):
    read(DATA[:at] + put + DATA[at + cut :])


@settings(max_examples=300)
@given(st.sampled_from(PATHS), ANY)
def test_any_member_replaced(path, value):
    members = json.loads(DATA)
    inner = members
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    read(json.dumps(members).encode())


@given(st.sampled_from(PATHS))
def test_any_member_missing(path):
    members = json.loads(DATA)
    inner = members
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    read(json.dumps(members).encode())
