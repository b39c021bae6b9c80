# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chopmark.artifacts import Digest
from chopmark.errors import UsageError
from chopmark.statements import (
    Envelope,
    PredicateType,
    Signature,
    Statement,
    Subject,
    about,
    check_key,
    encode_envelope,
    encode_statement,
    publication_leaf,
    statement_leaf,
)

MODEL, DATA, SNAPSHOT = (Digest.of(name) for name in (b"model", b"data", b"snapshot"))


def envelope(padding: str = "") -> Envelope:
    statement = Statement(
        subjects=(Subject("model/digits", MODEL), Subject("data/digits", DATA)),
        predicate_type=PredicateType.TEST_RESULT,
        predicate={"x": padding},
    )
    return Envelope(payload=encode_statement(statement), signatures=(Signature("aa", b"1"), Signature("bb", b"2")))


def test_a_statement():
    found = envelope()
    assert about(statement_leaf(found)) == tuple(
        sorted(
            [
                f"digest:{MODEL}",
                f"digest:{DATA}",
                f"digest:{found.digest}",
                "model:digits",
                f"predicate:{PredicateType.TEST_RESULT}",
                "signer:aa",
                "signer:bb",
            ]
        )
    )


def test_a_statement_that_stands_elsewhere():
    found = envelope("x" * 70_000)
    assert about(statement_leaf(found)) == (f"digest:{Digest.of(encode_envelope(found))}",)


def test_a_publication():
    assert about(publication_leaf(SNAPSHOT)) == (f"digest:{SNAPSHOT}", "predicate:channel")


def test_a_payload_that_is_no_statement():
    found = Envelope(payload=b"[]", signatures=(Signature("aa", b"1"),))
    assert about(statement_leaf(found)) == (f"digest:{found.digest}", "signer:aa")


@given(st.binary(max_size=300))
def test_any_bytes(data):
    assert about(data) == ()


@pytest.mark.parametrize(
    "key", ["", "garbage", "model:", "Model:digits", "signer:14be1", "digest:sha256:00", f"digest:{'a' * 64}", "x:y"]
)
def test_a_key_that_nothing_can_be_about_is_a_slip_of_the_pen(key):
    with pytest.raises(UsageError):
        check_key(key)


def test_every_key_of_an_entry_can_be_asked_for():
    whole = replace(envelope(), signatures=(Signature("ab" * 32, b"1"),))
    for leaf in (statement_leaf(whole), publication_leaf(SNAPSHOT)):
        assert [check_key(key) for key in about(leaf)] == list(about(leaf))
