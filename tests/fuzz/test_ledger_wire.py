# SPDX-License-Identifier: Apache-2.0
"""Any bytes end in success or in an error of ours; what is read is written back the same."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chopmark.errors import ChopmarkError, Refused
from chopmark.ledger import (
    Checkpoint,
    TlogProof,
    VerifierKey,
    WitnessPolicy,
    decode_bundle,
    decode_lines,
    decode_note,
    decode_tile,
    encode_bundle,
    leaf_hash,
    log_key,
    sign_checkpoint,
    verify_proof,
    witness_key,
)
from chopmark.ledger.carry import answer_to, request_to, take_answers
from chopmark.ledger.place import read_witness_place, write_witness_config
from chopmark.ledger.witness import AddCheckpoint, encode_request
from unit.ledger.kit import LOG_SIGNERS, ORIGIN, MemoryWitnessStore, close, make_ledger, make_witness, policy_of

SIGNED = sign_checkpoint(Checkpoint(origin=ORIGIN, size=1, root=leaf_hash(b"e")), LOG_SIGNERS[:1], timestamp=1).encode()
KEYS = [log_key(ORIGIN, signer.public) for signer in LOG_SIGNERS]
PROOF = TlogProof(index=0, path=(bytes(32), bytes(32)), checkpoint_note=SIGNED, extra=b"extra").encode()
REQUEST = encode_request(0, [bytes(32)], SIGNED)
VKEY = witness_key("w", LOG_SIGNERS[0].public).encode()
POLICY = f"log {KEYS[0].encode()}\nwitness a {VKEY}\ngroup g any a\nquorum g\n".encode()
WITNESS = make_witness("wit", KEYS, store=MemoryWitnessStore())
NONE = WitnessPolicy.parse("quorum none\n")


@st.composite
def near(draw, valid):
    """Valid bytes with a few changes, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(valid)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + draw(st.integers(1, 80))]
            case "insert":
                data[at:at] = draw(
                    st.sampled_from([b"\n", b"\n\n", b" ", b"+", b"=", b"0", "— ".encode(), b"\xff", b"\r"])
                )
            case _:
                data[at:at] = data[at : at + 60]
    return bytes(data)


def text(function):
    """A reader of text, given bytes as a caller would."""
    return lambda data: function(data.decode("utf-8", "surrogateescape"))


READERS = {
    "note": (SIGNED, decode_note, lambda note: note.encode()),
    "proof": (PROOF, TlogProof.decode, lambda proof: proof.encode()),
    "request": (REQUEST, AddCheckpoint.decode, lambda request: request.encode()),
    "bundle": (encode_bundle([b"a", b"", b"bc" * 50]), decode_bundle, encode_bundle),
    "tile": (bytes(320), decode_tile, b"".join),
    "policy": (POLICY, WitnessPolicy.parse, None),
    "checkpoint": (
        SIGNED.split(b"\n\n")[0] + b"\n",
        text(Checkpoint.decode),
        lambda checkpoint: checkpoint.encode().encode(),
    ),
    "vkey": (VKEY.encode(), text(VerifierKey.decode), lambda key: key.encode().encode()),
    "lines": (
        SIGNED.split(b"\n\n")[1],
        text(decode_lines),
        lambda lines: "".join(line.encode() for line in lines).encode(),
    ),
}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
@example(data=None)
def test_readers(name, data):
    valid, read, write = READERS[name]
    received = valid if data is None else data.draw(near(valid))
    try:
        value = read(received)
    except ChopmarkError:
        assert received != valid
        return
    if write is not None:
        assert write(value) == received


@settings(max_examples=150, deadline=None)
@given(near(PROOF), st.binary(max_size=3))
def test_verify_proof_refuses(data, leaf):
    with pytest.raises(Refused):  # two hashes in the path of a tree of one entry: never valid
        verify_proof(data, leaf, origin=ORIGIN, require=[KEYS[0].encode()], policy=NONE)


@settings(max_examples=150, deadline=None)
@given(near(REQUEST))
def test_a_witness_always_answers(data):
    assert WITNESS.add_checkpoint(data).status in {200, 400, 403, 404, 409, 422}


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    """A log, the policy of one witness, and an answer that it gave."""
    ledger = make_ledger(tmp_path_factory.mktemp("log"))
    ledger.append([b"e"])
    witness = make_witness("w", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    yield ledger, policy, answer_to(witness, request_to(ledger, policy, {}, "w0"))
    close(ledger)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_an_answer_that_is_carried_back(carried, data):
    ledger, policy, answer = carried
    received = data.draw(near(answer))
    try:
        fed = take_answers(ledger, policy, [received])
    except ChopmarkError:
        assert received != answer
        return
    assert fed.witnessed.checkpoint == ledger.checkpoint  # a line more or less; nothing else can be changed


CONFIG = write_witness_config("w", [key.encode() for key in KEYS], any_key=[ORIGIN], url="https://w.example")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=near(CONFIG))
@example(data=CONFIG)
def test_a_witness_configuration(tmp_path, data):
    (tmp_path / "witness.toml").write_bytes(data)
    try:
        place = read_witness_place(tmp_path)
    except ChopmarkError:
        assert data != CONFIG
        return
    assert place.logs


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles_round_trip(entries):
    assert decode_bundle(encode_bundle(entries)) == tuple(entries)
