# SPDX-License-Identifier: Apache-2.0
"""Any bytes end in a dossier or in an error of ours; a changed one never opens as something else."""

from __future__ import annotations

import io
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chopmark.errors import ChopmarkError, VerificationError
from chopmark.release import ustar
from chopmark.release.dossier import open_dossier, read_dossier, write_dossier
from chopmark.release.story import tell
from simulators import NOW
from simulators.dossier import SimLife

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9.-]|/(?=[A-Za-z0-9])){0,98}", fullmatch=True).filter(str.isascii)


@pytest.fixture(scope="module")
def life() -> SimLife:
    return SimLife()


@QUICK
@given(data=st.binary(max_size=2000))
def test_any_bytes_end_in_an_error_of_ours(data):
    with pytest.raises(ChopmarkError):
        read_dossier(io.BytesIO(data))


@QUICK
@given(places=st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=3))
def test_a_changed_dossier_is_refused_and_never_another_story(life, places):
    whole = bytearray(life.written())
    truth = tell(life.open(), life.manifest.digest).as_json()
    for at, change in places:
        whole[at % len(whole)] ^= change
    try:
        opened = open_dossier(read_dossier(io.BytesIO(bytes(whole))), life.trust.pin, now=NOW)
    except VerificationError:
        return
    story = tell(opened, opened.about).as_json()
    assert {**story, "package": None} == {
        **truth,
        "package": None,
    }  # what may change without notice: nothing that is told


@QUICK
@given(members=st.lists(st.tuples(NAMES, st.binary(max_size=1200)), max_size=4))
def test_what_is_written_is_read_back(members):
    out = io.BytesIO()
    for name, data in members:
        ustar.write_member(out, name, len(data), (data[:7], data[7:]))
    ustar.write_end(out)
    source = io.BytesIO(out.getvalue())
    assert [(name, b"".join(content)) for name, content in ustar.read_members(source, lambda *_: None)] == members


@QUICK
@given(members=st.lists(st.tuples(NAMES, st.binary(max_size=600)), max_size=6))
def test_any_archive_ends_in_a_dossier_or_an_error_of_ours(members):
    out = io.BytesIO()
    for name, data in members:
        ustar.write_member(out, name, len(data), (data,))
    ustar.write_end(out)
    with suppress(ChopmarkError):
        write_dossier(io.BytesIO(), read_dossier(io.BytesIO(out.getvalue())))
