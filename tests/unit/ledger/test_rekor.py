# SPDX-License-Identifier: Apache-2.0
"""Rekor's leaves and entries, and the commands on a log of one's own."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from chopmark.adapters.kms.file import generate
from chopmark.apps.cli.main import run
from chopmark.apps.cli.wiring import Site, create_workspace
from chopmark.artifacts import Digest, Manifest, hash_bytes
from chopmark.errors import DecodeError, UsageError
from chopmark.keys import Algorithm
from chopmark.ledger import SignatureLine, VerifierKey, WitnessPolicy, log_key, verify_checkpoint, witness_key
from chopmark.ledger.feed import feed
from chopmark.ledger.rekor import (
    HashedRekord,
    LogEntry,
    from_proof,
    is_hashed_rekord,
    record_signature,
    rekor_key,
    verify_entry,
)
from chopmark.statements import Statement, Subject, build_oms, decode_oms, encode_envelope, sign
from simulators.rekor import SimRekor
from unit.ledger.kit import LOG_SIGNERS, NONE, ORIGIN, DirectClient, close, make_ledger, make_witness, policy_of

P256 = generate(Algorithm.ECDSA_P256)
ED = generate(Algorithm.ED25519)
LEAF = record_signature(b"m", P256.sign(b"m"), P256.public)
STATEMENT = Statement(subjects=(Subject("model/m", Digest.of(b"")),), predicate_type="https://acme/x", predicate={})


def test_a_leaf_and_its_request():
    leaf = json.loads(LEAF.encode())
    record = leaf["spec"]["hashedRekordV002"]
    assert (leaf["kind"], leaf["apiVersion"], record["data"]["algorithm"]) == ("hashedrekord", "0.0.2", "SHA2_256")
    assert record["data"]["digest"] == b64encode(Digest.of(b"m").value).decode()
    verifier = record["signature"]["verifier"]
    assert verifier == {
        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        "publicKey": {"rawBytes": b64encode(P256.public.spki).decode()},
    }
    request = json.loads(LEAF.request())["hashedRekordRequestV002"]
    assert request == {"digest": record["data"]["digest"], "signature": record["signature"]}


@pytest.mark.parametrize(
    ("details", "length"),
    [("PKIX_ECDSA_P384_SHA_384", 48), ("PKIX_ED25519_PH", 64), ("PKIX_RSA_PKCS1V15_2048_SHA256", 32)],
)
def test_leaves_of_others_are_read(details, length):
    for certificate in (True, False):
        leaf = HashedRekord(
            digest=bytes(length), signature=b"s", verifier=b"der", certificate=certificate, key_details=details
        )
        assert HashedRekord.decode(leaf.encode()) == leaf
    with pytest.raises(DecodeError):
        HashedRekord(digest=bytes(20), signature=b"s", verifier=b"der", key_details=details)


def test_an_entry_survives_a_round_trip():
    rekor = SimRekor(ED, entries=[LEAF.encode()] * 5)
    entry = rekor.entry(3)
    assert LogEntry.decode(entry.encode()) == entry
    assert verify_entry(entry, LEAF.encode(), origin=rekor.key.name, require=[rekor.key], policy=NONE).index == 3


def test_an_entry_of_our_log_needs_both_keys_and_the_witness(tmp_path):
    ledger = make_ledger(tmp_path)
    witness = make_witness("w.example", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    ledger.append([b"filler", LEAF.encode()])
    feed(ledger, policy, {"w0": DirectClient(witness)})
    key = log_key(ORIGIN, LOG_SIGNERS[0].public)
    entry = from_proof(ledger.prove(1), LEAF.encode(), key=key)
    require = [one.encode() for one in ledger.verifier_keys]
    found = verify_entry(entry, LEAF.encode(), origin=ORIGIN, require=require, policy=policy)
    assert (found.index, found.cosigned_by, entry.log_id) == (1, ("w0",), key.key_hash)
    with pytest.raises(DecodeError):
        from_proof(ledger.prove(0), b"filler", key=key)
    with pytest.raises(UsageError):
        from_proof(ledger.prove(1), LEAF.encode(), key=ledger.verifier_keys[1])
    close(ledger)


def test_a_checkpoint_under_a_p256_key():
    rekor = SimRekor(P256, entries=[LEAF.encode()])
    note = rekor.note()
    seen = verify_checkpoint(note, origin=rekor.key.name, require=[rekor.key], policy=NONE)
    assert seen.checkpoint.size == 1
    with pytest.raises(UsageError):
        log_key("rekor.example", P256.public)  # no log of ours signs so
    with pytest.raises(DecodeError, match="a signature type that is not used here"):
        VerifierKey.decode(f"x+{P256.public.keyid[:8]}+{b64encode(bytes([2]) + P256.public.spki).decode()}")


def test_lines_beside_the_log_s_own_are_passed_over():
    rekor = SimRekor(ED, entries=[LEAF.encode()])
    rekor.lines = (SignatureLine(name=rekor.key.name, key_id=b"\1\2\3\4", signature=b"\5" * 70),)
    assert verify_entry(rekor.entry(0), LEAF.encode(), origin=rekor.key.name, require=[rekor.key], policy=NONE)


def test_the_envelope_in_a_bundle():
    manifest = Manifest(files=(hash_bytes("m.onnx", b"1"),))
    envelope = decode_oms(build_oms(manifest, P256, name="m"))
    assert P256.public.verify(envelope.signatures[0].sig, envelope.message)


@pytest.fixture
def log(tmp_path, monkeypatch, capsys):
    assert run(["ledger", "create", str(tmp_path / "log"), "--origin", "log.acme/models"]) == 0
    monkeypatch.chdir(tmp_path / "log")
    Path("s.json").write_bytes(encode_envelope(sign(STATEMENT, [P256, ED])))
    Path("p256.pub").write_text(P256.public.pem)
    capsys.readouterr()
    return tmp_path / "log"


def test_a_log_of_one_s_own(log, capsys):
    key = ["--key", "p256.pub"]
    assert run(["ledger", "rekor", "append", "s.json", *key, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(entry["index"], entry["size"], entry["new"]) for entry in said["entries"]] == [(0, 1, True)]
    assert len(said["not_logged"]) == 1
    assert run(["ledger", "rekor", "append", "s.json", *key, "--json"]) == 0
    assert [entry["new"] for entry in json.loads(capsys.readouterr().out)["entries"]] == [False]
    assert run(["ledger", "rekor", "verify", "s.json", *key]) == 0
    assert run(["ledger", "rekor", "entry", "0", "--out", "0.tle.json"]) == 0
    assert run(["ledger", "rekor", "verify", "s.json", *key, "--entry", "0.tle.json"]) == 0
    capsys.readouterr()
    assert run(["ledger", "rekor", "entry", "0"]) == 0
    assert LogEntry.decode(capsys.readouterr().out.strip().encode()).index == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["entry", "7"], 2, "has no entries 7"),
        (["verify", "s.json", "--key", "p256.pub"], 1, "error not-logged"),
        (["append", "s.json"], 2, "workspace"),
        (["append", "s.json", "--key", "ed.pub"], 2, "error not-loggable"),
        (["append", "p256.pub", "--key", "p256.pub"], 1, "error undecodable"),
        (["append", "s.json", "--key", "p256.pub", "--log-key", "p256.pub"], 2, "a key without an address"),
        (["verify", "s.json", "--key", "p256.pub", "--log-key", "p256.pub"], 2, "--origin"),
        (["verify", "s.json", "--key", "p256.pub", "--log-key", "s.json"], 1, "vkey"),
    ],
)
def test_what_is_said_when_it_cannot_be(log, words, code, said, capsys):
    Path("ed.pub").write_text(ED.public.pem)
    assert run(["ledger", "rekor", *words]) == code
    assert said in capsys.readouterr().err


def test_two_signatures_are_two_entries(log, capsys):
    second = generate(Algorithm.ECDSA_P256)
    Path("second.pub").write_text(second.public.pem)
    Path("two.json").write_bytes(encode_envelope(sign(STATEMENT, [P256, second])))
    keys = ["--key", "p256.pub", "--key", "second.pub"]
    assert run(["ledger", "rekor", "append", "two.json", *keys]) == 0
    verify = ["ledger", "rekor", "verify", "two.json", *keys]
    entries = [f"two.json.{signer.public.keyid[:8]}.tle.json" for signer in (P256, second)]
    assert [run(verify), *(run([*verify, "--entry", entry]) for entry in entries)] == [0, 0, 0]
    Path(entries[0]).write_bytes(Path(entries[1]).read_bytes())
    assert run(verify) == 1
    assert "about something else" in capsys.readouterr().err


def test_an_entry_that_is_no_hashedrekord(log, capsys):
    assert run(["ledger", "append", "p256.pub"]) == 0
    assert run(["ledger", "rekor", "entry", "0"]) == 1
    assert "hashedrekord" in capsys.readouterr().err


def test_a_vkey_names_the_log(log):
    rekor = SimRekor(ED, entries=[])
    leaf = record_signature(b"m", P256.sign(b"m"), P256.public)
    assert leaf.digest == LEAF.digest
    envelope = sign(STATEMENT, [P256])
    Path("one.json").write_bytes(encode_envelope(envelope))
    rekor.entries.append(record_signature(envelope.message, envelope.signatures[0].sig, P256.public).encode())
    Path("e.json").write_bytes(rekor.entry(0).encode())
    words = ["ledger", "rekor", "verify", "one.json", "--key", "p256.pub", "--entry", "e.json", "--log-key"]
    Path("log.vkey").write_text(rekor.key.encode() + "\n")
    assert run([*words, "log.vkey"]) == 0
    Path("other.vkey").write_text(rekor_key(rekor.key.name, generate(Algorithm.ED25519).public).encode())
    assert run([*words, "other.vkey"]) == 1
    Path("w.txt").write_text(f"witness w {witness_key('w', ED.public).encode()}\nquorum w\n")
    assert WitnessPolicy.parse(Path("w.txt").read_text()).quorum == "w"
    assert run([*words, "log.vkey", "--policy", "w.txt"]) == 1


def test_in_a_workspace(tmp_path, capsys):
    """The keys are those of trust.json; an entry is kept when the workspace's witness saw it; statements stay readable."""
    workspace = create_workspace(tmp_path / "acme", name="acme", channel="production", port=8400)
    site = Site.at(workspace.folder)
    _, envelope = site.record(STATEMENT, "packager")
    site.record(STATEMENT, "builder")
    (tmp_path / "s.json").write_bytes(encode_envelope(envelope))
    words = ["--workspace", str(workspace.folder), "ledger", "rekor"]
    assert run([*words, "append", str(tmp_path / "s.json")]) == 3
    assert "error not-witnessed-yet" in capsys.readouterr().err
    feed(site.ledger, site.log_place.policy, {"witness-1": site.own_witness()})
    assert run([*words, "append", str(tmp_path / "s.json")]) == 0
    assert "entry 2 of 3 in log.acme/m; witnessed by witness-1" in capsys.readouterr().out
    assert run([*words, "verify", str(tmp_path / "s.json")]) == 0
    assert [index for index, _ in site.statements()] == [0, 1]
    assert is_hashed_rekord(site.ledger.entry(2))
    assert not is_hashed_rekord(site.ledger.entry(2)[:-1])
    assert not is_hashed_rekord(site.ledger.entry(1))
