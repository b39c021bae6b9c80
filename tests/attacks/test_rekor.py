# SPDX-License-Identifier: Apache-2.0
"""A Rekor that lies, and entries that were altered: nothing is taken as logged that is not proven."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

import pytest

from chopmark.adapters.http.rekor import HttpRekor
from chopmark.adapters.kms.file import generate
from chopmark.apps.cli.main import run
from chopmark.artifacts import Digest
from chopmark.errors import ChopmarkError, DecodeError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.ledger import SignatureLine, WitnessPolicy, cosign, decode_note, leaf_hash, sign_line, witness_key
from chopmark.ledger.ports import RekorAnswer
from chopmark.ledger.rekor import (
    HashedRekord,
    LogEntry,
    record_signature,
    record_signatures,
    rekor_key,
    submit,
    verify_entry,
)
from chopmark.statements import Statement, Subject, encode_envelope, sign
from simulators.rekor import SimRekor, serving

NONE = WitnessPolicy.parse("quorum none\n")
P256, ED, OTHER = (generate(a) for a in (Algorithm.ECDSA_P256, Algorithm.ED25519, Algorithm.ED25519))
MESSAGE = b"DSSEv1 what was signed"


def record(message=MESSAGE):
    return record_signature(message, P256.sign(message), P256.public)


LEAVES = [record(b"%d" % n).encode() for n in range(6)]


def ask(rekor, *, key=None, policy=NONE):
    return submit(record(), rekor, rekor.files, key=key or rekor.key, policy=policy)


@pytest.fixture(params=[Algorithm.ED25519, Algorithm.ECDSA_P256])
def signer(request):
    """The log's key: Rekor has both kinds."""
    return generate(request.param)


def test_an_honest_log(signer):
    rekor = SimRekor(signer, entries=LEAVES)
    done = ask(rekor)
    assert (done.new, done.included.index, done.entry.body in rekor.entries) == (True, 6, True)


def spoil(text):
    data = bytearray(b64decode(text))
    data[len(data) // 2] ^= 1
    return b64encode(data).decode()


def of_another_leaf(answer):
    """A whole, valid entry of the same log, about something else."""
    answer.clear()
    answer.update(json.loads(SimRekor(ED, entries=LEAVES).entry(2).encode()))


def resigned_by(signer, origin):
    """The same tree, said by somebody else."""

    def bend(answer):
        other = SimRekor(signer, origin=origin)
        note = decode_note(answer["inclusionProof"]["checkpoint"]["envelope"].encode())
        text = note.text.replace("rekor.example", origin)
        line = sign_line(other.key, signer, text)
        answer["inclusionProof"]["checkpoint"]["envelope"] = text + "\n" + line.encode()

    return bend


def member(*path, change):
    def bend(answer):
        *above, last = path
        for name in above:
            answer = answer[name]
        answer[last] = change(answer[last])

    return bend


LIES = {
    "another leaf": of_another_leaf,
    "another key under this name": resigned_by(OTHER, "rekor.example"),
    "this key under another name": resigned_by(ED, "rekor.other"),
    "a body altered": member("canonicalizedBody", change=spoil),
    "a hash altered": member("inclusionProof", "hashes", 0, change=spoil),
    "a hash too few": member("inclusionProof", "hashes", change=lambda hashes: hashes[1:]),
    "a hash too many": member("inclusionProof", "hashes", change=lambda hashes: [*hashes, hashes[0]]),
    "another index above": member("logIndex", change=lambda _: "5"),
    "another index below": member("inclusionProof", "logIndex", change=lambda _: "5"),
    "another size": member("inclusionProof", "treeSize", change=lambda _: "6"),
    "another root": member("inclusionProof", "rootHash", change=spoil),
    "another log's id": member("logId", "keyId", change=spoil),
    "a time that nobody signed": member("integratedTime", change=lambda _: "1700000000"),
    "a promise": member("inclusionPromise", change=lambda _: {"signedEntryTimestamp": "AAAA"}),
    "another kind": member("kindVersion", "kind", change=lambda _: "dsse"),
    "another version": member("kindVersion", "version", change=lambda _: "0.0.1"),
    "no signature": member("inclusionProof", "checkpoint", "envelope", change=lambda note: note.split("—")[0]),
    "no checkpoint": member("inclusionProof", "checkpoint", change=lambda _: {"envelope": ""}),
    "no proof": member("inclusionProof", change=lambda _: None),
    "a member nobody reads": member("logId", change=lambda value: {**value, "more": 1}),
    "half a character": member("inclusionProof", "checkpoint", "envelope", change=lambda note: note + "\ud800"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_answer_is_no_proof(lie):
    rekor = SimRekor(ED, entries=LEAVES, bend=LIES[lie])
    with pytest.raises(Refused) as refused:
        ask(rekor)
    assert refused.value.code == "log-unproven"
    assert refused.value.evidence["answer"]  # what it said is kept


def test_both_indices_altered_together():
    def bend(answer):
        answer["logIndex"] = answer["inclusionProof"]["logIndex"] = "5"

    with pytest.raises(Refused) as refused:
        ask(SimRekor(ED, entries=LEAVES, bend=bend))
    assert refused.value.code == "log-unproven"


@pytest.mark.parametrize("signer", [Algorithm.ECDSA_P256], indirect=True)
def test_an_ecdsa_line_is_verified_and_not_passed_over(signer):
    rekor = SimRekor(signer, entries=LEAVES, bend=member("inclusionProof", "checkpoint", "envelope", change=forge))
    with pytest.raises(Refused, match="does not verify"):
        ask(rekor)


def forge(note):
    """Another signature by nobody in the log's own line."""
    text, _, line = note.rpartition("\n\n")
    (found,) = decode_note(note.encode()).signatures
    forged = SignatureLine(name=found.name, key_id=found.key_id, signature=OTHER.sign(b"") + b"\0")
    assert line
    return text + "\n\n" + forged.encode()


def test_an_ed25519_key_does_not_vouch_as_an_ecdsa_key():
    """The key id of an ECDSA line is the hash of the key alone; a line is checked by the kind its key has."""
    key = rekor_key("rekor.example", P256.public)
    assert key.key_hash == bytes.fromhex(P256.public.keyid)
    with pytest.raises(UsageError):
        key.encode()
    with pytest.raises(UsageError):
        rekor_key("rekor.example", generate(Algorithm.ML_DSA_44).public)


DENIALS = {
    "the entry at that place is another": ("2", Refused, "log-unproven"),
    "a place beyond the log": ("6", UndecidedError, "not-published-yet"),
    "no place": ("", DecodeError, "undecodable"),
    "a place that is none": ("-1", DecodeError, "undecodable"),
    "a place beyond all logs": ("9" * 30, DecodeError, "undecodable"),
}


@pytest.mark.parametrize("denial", DENIALS)
def test_exists_already_is_looked_up_and_not_believed(denial):
    at, error, code = DENIALS[denial]
    rekor = SimRekor(ED, entries=LEAVES, says=RekorAnswer(status=409, body=b"", at=at))
    with pytest.raises(error) as raised:
        ask(rekor)
    assert raised.value.code == code
    if error is Refused:
        assert raised.value.evidence["entry"] == LEAVES[2]  # what stands there instead is kept


def test_exists_already_in_files_of_another_log():
    rekor = SimRekor(ED, entries=[*LEAVES, record().encode()])
    rekor.says = RekorAnswer(status=409, body=b"", at="6")
    other = SimRekor(OTHER, entries=rekor.entries)
    with pytest.raises(Refused) as refused:
        submit(record(), rekor, other.files, key=rekor.key, policy=NONE)
    assert refused.value.code == "log-unproven"


def test_what_exists_already_is_found_once(signer):
    rekor = SimRekor(signer, entries=LEAVES)
    known = record()
    first = submit(known, rekor, rekor.files, key=rekor.key, policy=NONE)
    rekor.entries.append(record(b"later").encode())
    again = submit(known, rekor, rekor.files, key=rekor.key, policy=NONE)
    assert (first.new, again.new, first.entry.index, again.entry.index) == (True, False, 6, 6)
    assert again.included.checkpoint.size == 8


def test_a_log_without_the_quorum_is_refused():
    witness = generate(Algorithm.ED25519)
    policy = WitnessPolicy.parse(f"witness w {witness_key('w.example', witness.public).encode()}\nquorum w\n")
    rekor = SimRekor(ED, entries=LEAVES)
    with pytest.raises(Refused) as refused:
        ask(rekor, policy=policy)
    assert refused.value.code == "log-unwitnessed"
    seen = SimRekor(ED, entries=[*LEAVES, record().encode()])
    seen.lines = (cosign(decode_note(seen.note()).text, witness, "w.example", timestamp=1),)
    leaf = seen.entries[6]
    assert verify_entry(seen.entry(6), leaf, origin="rekor.example", require=[seen.key], policy=policy).cosigned_by


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, VerificationError, "not-accepted"),
        (403, VerificationError, "not-accepted"),
        (404, VerificationError, "not-accepted"),
        (405, UsageError, "log-frozen"),
        (429, UndecidedError, "unreachable"),
        (500, UndecidedError, "unreachable"),
        (503, UndecidedError, "unreachable"),
        (302, UndecidedError, "unreachable"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"{", b'{"message": 1}', b"\xff\x1b[31m", b"[" * 100_000])
def test_other_answers_say_what_to_do(status, error, code, body):
    with pytest.raises(error) as raised:
        ask(SimRekor(ED, says=RekorAnswer(status=status, body=body)))
    assert (raised.value.code, "\x1b" in raised.value.message) == (code, False)
    assert raised.value.hint


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[" * 100_000, b'{"logIndex":' + b"9" * 5000 + b"}"])
def test_made_without_an_entry(body):
    with pytest.raises(Refused):
        ask(SimRekor(ED, says=RekorAnswer(status=201, body=body)))


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.ML_DSA_44, Algorithm.ML_DSA_65])
def test_what_rekor_cannot_log_is_said_and_never_dropped(algorithm):
    signer = generate(algorithm)
    with pytest.raises(UsageError) as refused:
        record_signature(MESSAGE, signer.sign(MESSAGE), signer.public)
    assert refused.value.code == "not-loggable"
    both = [(s.public.keyid, s.sign(MESSAGE)) for s in (signer, P256)]
    with pytest.raises(UsageError, match=str(algorithm)):
        record_signatures(MESSAGE, both[:1], [signer.public, P256.public])
    found = record_signatures(MESSAGE, both, [signer.public, P256.public])
    assert [key for key, _ in found.made] == [P256.public]
    assert str(algorithm) in found.passed_over[0]


def test_a_signature_that_does_not_verify_is_not_sent():
    with pytest.raises(VerificationError, match="does not verify"):
        record_signature(MESSAGE, P256.sign(b"other"), P256.public)
    with pytest.raises(VerificationError, match="does not verify"):
        record_signatures(MESSAGE, [(P256.public.keyid, P256.sign(b"other"))], [P256.public])
    with pytest.raises(UsageError):
        record_signatures(MESSAGE, [("somebody", b"x"), ("", P256.sign(b"other"))], [P256.public])


TWISTS = {
    "spaces": lambda leaf: leaf.replace(b":", b": ", 1),
    "another order": lambda leaf: json.dumps(dict(reversed(json.loads(leaf).items())), separators=(",", ":")).encode(),
    "another hash than the key's": lambda leaf: leaf.replace(b"SHA2_256", b"SHA2_512", 1),
    "another version": lambda leaf: leaf.replace(b"0.0.2", b"0.0.1"),
    "another kind": lambda leaf: leaf.replace(b'"hashedrekord"', b'"dsse"'),
    "pure Ed25519": lambda leaf: leaf.replace(b"PKIX_ECDSA_P256_SHA_256", b"PKIX_ED25519"),
    "ML-DSA": lambda leaf: leaf.replace(b"PKIX_ECDSA_P256_SHA_256", b"ML_DSA_65"),
    "an annotation": lambda leaf: leaf.replace(b'"spec"', b'"x-a":1,"spec"'),
    "base64 in another spelling": lambda leaf: leaf.replace(b'=="', b'"', 1) if b'=="' in leaf else leaf[:-1],
    "a key twice": lambda leaf: leaf.replace(b'"kind"', b'"kind":"hashedrekord","kind"', 1),
    "key and certificate": lambda leaf: leaf.replace(b"}}}}}}", b'},"x509Certificate":{"rawBytes":"AAAA"}}}}}}'),
}  # fmt: skip


@pytest.mark.parametrize("twist", TWISTS)
def test_a_leaf_has_one_form(twist):
    leaf = record().encode()
    assert HashedRekord.decode(leaf).encode() == leaf
    twisted = TWISTS[twist](leaf)
    assert twisted != leaf
    with pytest.raises(DecodeError):
        HashedRekord.decode(twisted)


def test_an_entry_is_not_moved_to_another_log_with_the_same_leaves():
    ours, theirs = SimRekor(ED, entries=LEAVES), SimRekor(OTHER, entries=LEAVES)
    entry = LogEntry.decode(theirs.entry(3).encode())
    assert leaf_hash(entry.body) == leaf_hash(LEAVES[3])
    with pytest.raises(ChopmarkError):
        verify_entry(entry, LEAVES[3], origin="rekor.example", require=[ours.key], policy=NONE)
    with pytest.raises(Refused, match="about something else"):
        verify_entry(ours.entry(3), LEAVES[2], origin="rekor.example", require=[ours.key], policy=NONE)


@pytest.fixture
def envelope(tmp_path):
    """An envelope of one P-256 and one Ed25519 signature, and the keys beside it."""
    statement = Statement(
        subjects=(Subject("model/digits", Digest.of(b"")),), predicate_type="https://acme/x", predicate={}
    )
    (tmp_path / "s.json").write_bytes(encode_envelope(sign(statement, [P256, OTHER])))
    for name, signer in {"p256": P256, "other": OTHER, "log": ED}.items():
        (tmp_path / f"{name}.pub").write_text(signer.public.pem)
    return tmp_path / "s.json"


def append(envelope, url):
    folder = envelope.parent
    words = ["--url", url, "--origin", "rekor.example", "--log-key", str(folder / "log.pub")]
    keys = ["--key", str(folder / "p256.pub"), "--key", str(folder / "other.pub")]
    return run(["ledger", "rekor", "append", str(envelope), *words, *keys])


@pytest.mark.parametrize("lie", ["a body altered", "another key under this name", "no signature"])
def test_nothing_is_written_that_does_not_verify(lie, envelope, capsys):
    before = sorted(path.name for path in envelope.parent.iterdir())
    with serving(SimRekor(ED, entries=LEAVES, bend=LIES[lie])) as url:
        assert append(envelope, url) == 1
    assert "error log-unproven" in capsys.readouterr().err
    assert sorted(path.name for path in envelope.parent.iterdir()) == before


def test_over_http_new_then_known(envelope, capsys):
    with serving(SimRekor(ED, entries=LEAVES)) as url:
        assert append(envelope, url) == append(envelope, url) == 0
    said = capsys.readouterr().out
    assert "Rekor does not log signatures with ed25519" in said
    assert said.count("entry 6 of 7 in rekor.example; witnessed by nobody") == 2
    words = ["--origin", "rekor.example", "--log-key", str(envelope.parent / "log.pub")]
    verify = ["ledger", "rekor", "verify", str(envelope), *words]
    assert run([*verify, "--key", str(envelope.parent / "p256.pub")]) == 0
    entry = envelope.with_name(f"s.json.{P256.public.keyid[:8]}.tle.json")
    data = json.loads(entry.read_bytes())
    data["canonicalizedBody"] = spoil(data["canonicalizedBody"])
    entry.write_text(json.dumps(data))
    assert run([*verify, "--key", str(envelope.parent / "p256.pub")]) == 1
    entry.unlink()
    assert run([*verify, "--key", str(envelope.parent / "p256.pub")]) == 1
    assert "error not-logged" in capsys.readouterr().err


def test_an_address_is_not_used_without_a_key(envelope, capsys):
    assert run(["ledger", "rekor", "append", str(envelope), "--url", "http://127.0.0.1:9"]) == 2
    assert "verified before it is kept" in capsys.readouterr().err


def test_an_answer_that_is_too_long():
    rekor = SimRekor(ED, says=RekorAnswer(status=201, body=b" " * (3 * 1024 * 1024)))
    with serving(rekor) as url, pytest.raises(DecodeError, match="too long"):
        HttpRekor(url).create_entry(b"{}")
