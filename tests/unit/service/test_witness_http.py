# SPDX-License-Identifier: Apache-2.0
"""A witness of its own as a process: every answer of the protocol over real HTTP."""

from __future__ import annotations

from contextlib import contextmanager
from hashlib import sha256

import pytest
import urllib3

from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql import witness as sql_witness
from chopmark.errors import DecodeError
from chopmark.keys import Algorithm
from chopmark.ledger import (
    Checkpoint,
    decode_lines,
    decode_note,
    sign_checkpoint,
    verify_lines,
    witness_key,
)
from chopmark.ledger.place import read_witness_place, write_witness_config
from chopmark.ledger.witness import encode_request
from unit.ledger.kit import LOG_SIGNERS, ORIGIN, close, make_ledger
from unit.service.kit import running

NAME = "witness.example/w1"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    made = make_ledger(tmp_path_factory.mktemp("log"))
    yield made
    close(made)


def make_place(folder, ledger, **options):
    public = [kms.create(folder / "keys" / f"{a}.pem", a).public for a in (Algorithm.ED25519, Algorithm.ML_DSA_44)]
    config = write_witness_config(NAME, [key.encode() for key in ledger.verifier_keys], **options)
    (folder / "witness.toml").write_bytes(config)
    sql_witness.create(folder / "witness.db").close()
    return [witness_key(NAME, each) for each in public]


@contextmanager
def asked(folder):
    """Run the witness; give a function that posts, and one that gets."""
    http = urllib3.PoolManager(retries=False)
    with running("witness", "--folder", str(folder)) as (_, url):

        def post(old, proof, note):
            return http.request("POST", f"{url}/add-checkpoint", body=encode_request(old, proof, note))

        yield post, lambda path: http.request("GET", f"{url}/{path}")
        http.clear()


def test_every_answer_of_the_protocol(ledger, tmp_path):
    keys = make_place(tmp_path, ledger)
    ledger.append([b"%d" % n for n in range(5)])
    five = ledger.signed_checkpoint()
    ledger.append([b"more"])
    six = ledger.signed_checkpoint()
    growth = ledger.prove_consistency(5, 6)
    monitored = f"{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    plain = "text/plain; charset=utf-8"
    with asked(tmp_path) as (post, get):
        assert get(monitored).status == 404
        found = post(0, (), five)
        assert (found.status, found.headers["content-type"]) == (200, plain)
        lines = verify_lines(decode_note(five).text, decode_lines(found.data.decode()), keys)
        assert {line.key for line in lines} == set(keys)
        conflict = post(0, (), six)
        assert (conflict.status, conflict.data) == (409, b"5\n")
        assert conflict.headers["content-type"] == "text/x.tlog.size"
        assert post(7, (), six).status == 400
        assert post(5, [bytes(32)], six).status == 422
        half = sign_checkpoint(ledger.checkpoint, LOG_SIGNERS[:1], timestamp=1).encode()
        assert post(5, growth, half).status == 403
        point = Checkpoint(origin="log.other", size=6, root=ledger.checkpoint.root)
        assert post(5, growth, sign_checkpoint(point, LOG_SIGNERS, timestamp=1).encode()).status == 404
        served = get(monitored)
        assert Checkpoint.decode(decode_note(served.data).text).size == 5
        assert post(5, growth, six).status == 200
        assert post(6, (), six).status == 200  # an idle head, for a newer time
        assert get("0" * 64 + "/checkpoint").status == 404
        assert get("x/checkpoint").status == 404
    with asked(tmp_path) as (post, get):  # another process remembers
        assert Checkpoint.decode(decode_note(get(monitored).data).text).size == 6
        assert post(5, growth, six).status == 409


def test_one_key_is_enough_where_witness_toml_says_so(ledger, tmp_path):
    make_place(tmp_path, ledger, any_key=[ORIGIN])
    half = sign_checkpoint(ledger.checkpoint, LOG_SIGNERS[:1], timestamp=1).encode()
    with asked(tmp_path) as (post, _):
        assert post(0, (), half).status == 200


@pytest.mark.parametrize(
    ("logs", "options"),
    [
        ([], {}),
        (["log.acme/m+00000000+AAAA"], {}),
        (["{0}", "{0}"], {}),
        (["{witness}"], {}),
        (["{0}"], {"any_key": ["log.other"]}),
    ],
)
def test_a_configuration_that_cannot_be_meant(ledger, tmp_path, logs, options):
    vkey = ledger.verifier_keys[0].encode()
    own = witness_key("w", LOG_SIGNERS[0].public).encode()
    texts = [text.replace("{0}", vkey).replace("{witness}", own) for text in logs]
    (tmp_path / "witness.toml").write_bytes(write_witness_config("w", texts, **options))
    with pytest.raises(DecodeError):
        read_witness_place(tmp_path)
