# SPDX-License-Identifier: Apache-2.0
"""Adoptions, addresses and first bytes of files: anything ends in success or in an error of ours."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chopmark import canonical
from chopmark.errors import ChopmarkError
from chopmark.inspection import model_format
from chopmark.release.adopt import adoption_statement, names_for, read_adoption, shown, url_source
from chopmark.statements import PredicateType, Statement, Subject, decode_statement, encode_statement
from unit.release.kit import digest
from unit.release.test_adopt import adoption

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MEMBERS = tuple(adoption_statement(adoption()).predicate)


@QUICK
@given(name=st.sampled_from(MEMBERS), value=VALUES, subject=TEXT)
def test_any_predicate_is_read_or_refused(name, value, subject):
    true = adoption_statement(adoption()).predicate
    for predicate in ({**true, name: value}, {key: v for key, v in true.items() if key != name}):
        said = Statement(
            subjects=(Subject(subject, digest("x")),), predicate_type=PredicateType.ADOPTION, predicate=predicate
        )
        with suppress(ChopmarkError):
            read_adoption(said)


@QUICK
@given(reason=TEXT, place=TEXT)
def test_what_is_written_is_read_back(reason, place):
    with suppress(ChopmarkError):
        made = adoption_statement(adoption(reason=reason, model=names_for([place])[place]))
        assert read_adoption(decode_statement(encode_statement(made))) == read_adoption(made)


@QUICK
@given(head=st.binary(max_size=600))
def test_any_first_bytes_are_some_format_or_none(head):
    assert isinstance(model_format(head), str)


@QUICK
@given(text=st.text(max_size=60) | TEXT.map(lambda t: f"https://u:p@{t}"))
def test_any_address_is_shown_without_secrets_or_refused(text):
    with suppress(ChopmarkError):
        assert "@" not in url_source(text).name.split("/", 3)[2]


@QUICK
@example(places=["X", ":X"])
@example(places=["a", ":a", f"a-{sha256(b'a').hexdigest()[:8]}"])
@given(places=st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=12))
def test_any_places_have_names_each_another(places):
    names = names_for(places)
    assert len(set(names.values())) == len(places)
    for place, name in names.items():
        canonical.check_name(name, what="model")
        assert shown(place).isprintable() or "\n" in shown(place)
