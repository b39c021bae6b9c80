# SPDX-License-Identifier: Apache-2.0
"""What comes to a log's server and back from one: any bytes end in success or in an error of ours."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chopmark.adapters.http.ledger import _refused
from chopmark.adapters.kms.file import generate
from chopmark.apps.service.admission import admitter
from chopmark.artifacts import Digest
from chopmark.errors import ChopmarkError, DecodeError, VerificationError
from chopmark.keys import Algorithm
from chopmark.ledger.submit import KnownLog, judged
from chopmark.ledger.tokens import AppendToken, decode_tokens, encode_tokens, find_token, hash_of, make_token
from chopmark.statements import (
    PredicateType,
    Statement,
    Subject,
    decode_leaf,
    encode_statement,
    sign,
    statement_leaf,
    wire,
)
from fuzz.test_ledger_wire import KEYS, NONE, ORIGIN, PROOF, near
from unit.fleet.kit import Keys, trust_policy

TOKEN = AppendToken(name="ci", sha256=hash_of(make_token(bytes(32))), created="2026-11-24T12:00:00Z", per_minute=60)
FILE = encode_tokens([TOKEN, AppendToken(name="b", sha256=bytes(32), created="")])
STATEMENT = Statement(
    subjects=(Subject("model/digits", Digest.of(b"x")),),
    predicate_type=PredicateType.TEST_RESULT,
    predicate={"result": "PASSED"},
)
LEAF = statement_leaf(sign(STATEMENT, [generate(Algorithm.ED25519)]))
ADMIT = admitter(trust_policy(Keys()))
KNOWN = KnownLog(origin=ORIGIN, require=[KEYS[0].encode()], policy=NONE)


@given(near(FILE))
@example(FILE)
def test_token_files(data: bytes) -> None:
    try:
        tokens = decode_tokens(data)
    except DecodeError:
        return
    assert decode_tokens(encode_tokens(tokens)) == tokens


@given(st.text())
def test_authorizations(header: str) -> None:
    assert find_token([TOKEN], header) is None
    assert find_token([TOKEN], f"Bearer {header}") is None


@given(near(LEAF))
@example(LEAF)
@example(LEAF.replace(b'"v":1', b'"v":1.0'))
@example(LEAF.replace(b'"v":1', b'"v":1,"v":1'))
@example(LEAF.replace(b'"keyid":"', b'"keyid":"\x7f'))
@example(LEAF[:-1] + b',"x-a":1}')
def test_the_fast_reader_of_leaves_reads_what_the_strict_one_does(data: bytes) -> None:
    def read() -> object:
        try:
            return decode_leaf(data)
        except DecodeError:
            return DecodeError

    fast = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_decode_plain", lambda _: None)
        assert read() == fast


@given(st.text(max_size=20))
def test_key_ids_of_any_text_are_read_alike(keyid: str) -> None:
    renamed = wire.Envelope(payload=b"p", signatures=(wire.Signature(keyid, b"s"),))
    try:
        leaf = statement_leaf(renamed)
    except ChopmarkError:  # half a character
        return
    assert decode_leaf(leaf) == renamed


@given(near(LEAF))
@example(b"")
@example(statement_leaf(wire.Envelope(payload=encode_statement(STATEMENT), signatures=())))
def test_admission(entry: bytes) -> None:
    with pytest.raises(VerificationError):  # nobody of this trust signed it
        ADMIT(entry)


@given(near(PROOF))
def test_answers_with_a_proof(data: bytes) -> None:
    with pytest.raises(ChopmarkError):
        judged(data, b"another entry", KNOWN)


@given(st.integers(400, 499), near(b'{"code":"too-fast","message":"slow","hint":"down"}'))
@example(400, b'{"code":7}')
@example(400, b"\xff")
def test_answers_with_an_error(status: int, data: bytes) -> None:
    error = _refused(status, data)
    assert len(error.code) <= 63
    assert len(error.message) <= 300
