# SPDX-License-Identifier: Apache-2.0
"""Sigstore bundles that lie, and those that two readers would read in two ways: each is refused by its own name."""

from __future__ import annotations

import json
import socket
import sys
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from attacks.bundles import ALTERED, alter
from chopmark.adapters.kms.file import create
from chopmark.adapters.sigstore import library
from chopmark.apps.cli.ledger.wiring import LogSite
from chopmark.apps.cli.main import run
from chopmark.apps.cli.wiring import WITNESS, Site
from chopmark.keys import Algorithm
from chopmark.ledger.rekor import trusted_root
from simulators.rekor import SimRekor
from simulators.sigstore import ISSUER, SUBJECT, SimSigstore, serving


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A log, a signed and logged model, and its bundle."""
    folder = tmp_path_factory.mktemp("acme")
    assert run(["ledger", "create", str(folder / "log"), "--origin", "log.acme.example"]) == 0
    key = create(folder / "k.pem", Algorithm.ECDSA_P256)
    (folder / "k.pub").write_text(key.public.pem)
    (folder / "model.onnx").write_bytes(b"weights")
    (folder / "filler").write_text("\n".join(map(str, range(5))))
    assert run(["-w", str(folder / "log"), "ledger", "append", "--lines", str(folder / "filler")]) == 0
    words = ["-w", str(folder / "log"), "sigstore"]
    assert run([*words, "trusted-root", "--out", str(folder / "root.json")]) == 0
    assert run([*words, "sign", str(folder / "model.onnx"), "--key", str(folder / "k.pem"), "--ledger"]) == 0
    (folder / "other.onnx").write_bytes(b"other")
    assert run([*words, "sign", str(folder / "other.onnx"), "--key", str(folder / "k.pem"), "--ledger"]) == 0
    return folder


@pytest.fixture
def verify(made, capsys):
    """Verify a bundle of the model as the command line does; return the name of the refusal, or None."""
    bundle = made / "tried.json"

    def told(data, *words, file="model.onnx"):
        bundle.write_bytes(data)
        asked = [
            "sigstore",
            "verify",
            str(made / file),
            "--bundle",
            str(bundle),
            "--json",
            "--key",
            str(made / "k.pub"),
        ]
        capsys.readouterr()
        code = run([*asked, *(words or ("--trusted-root", str(made / "root.json")))])
        said = json.loads(capsys.readouterr().out)
        assert (code == 0) is said["ok"]
        assert code in (0, 1, 2)
        return said.get("error")

    return told


def read(made, file="model.onnx"):
    return (made / f"{file}.sigstore.json").read_bytes()


def test_the_honest_bundle(made, verify):
    assert verify(read(made)) is None


NAMES = {
    "the signature": "bad-signature",
    "the artifact's digest": "bundle-mismatch",
    "the log index": "log-unproven",
    "a hash of the proof": "log-unproven",
    "a hash too few": "log-unproven",
    "the tree's size in the checkpoint": "undecodable",
    "the log's signature": "log-unproven",
    "no entry": "not-logged",
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_bundle(made, verify, name):
    assert verify(alter(read(made), name)) == NAMES[name]


def test_the_bundle_of_another_file(made, verify):
    assert verify(read(made, "other.onnx")) == "bundle-mismatch"
    value = json.loads(read(made, "other.onnx"))
    del value["messageSignature"]["messageDigest"]
    assert verify(json.dumps(value).encode()) == "bad-signature"


def test_the_log_entry_of_another_artifact(made, verify):
    value, other = json.loads(read(made)), json.loads(read(made, "other.onnx"))
    value["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    assert verify(json.dumps(value).encode()) == "log-unproven"
    both = json.loads(read(made))
    both["verificationMaterial"]["tlogEntries"] += other["verificationMaterial"]["tlogEntries"]
    assert verify(json.dumps(both).encode()) == "log-unproven"  # one good entry does not cover for a false one


def test_another_signers_key(made, verify):
    create(made / "evil.pem", Algorithm.ECDSA_P256)
    out = str(made / "evil.json")
    signed = ["sigstore", "sign", str(made / "model.onnx"), "--key", str(made / "evil.pem"), "--ledger", "--out", out]
    assert run(["-w", str(made / "log"), *signed]) == 0
    assert verify((made / "evil.json").read_bytes()) == "bad-signature"


def test_a_log_that_the_trusted_root_does_not_name(made, verify):
    other = made / "other_root.json"
    other.write_bytes(trusted_root(SimRekor(create_once(made), origin="log.acme.example").key))
    assert verify(read(made), "--trusted-root", str(other)) == "log-unproven"


def create_once(made):
    path = made / "otherlog.pem"
    path.unlink(missing_ok=True)
    return create(path, Algorithm.ED25519)


def twice(data):
    return data.replace(b'"mediaType"', b'"mediaType":"x","mediaType"', 1)


def with_material(**more):
    def bend(data):
        value = json.loads(data)
        value["verificationMaterial"] |= more
        return json.dumps(value).encode()

    return bend


def with_members(**more):
    return lambda data: json.dumps({**json.loads(data), **more}).encode()


def respelled(change):
    def bend(data):
        value = json.loads(data)
        value["messageSignature"]["signature"] = change(value["messageSignature"]["signature"])
        return json.dumps(value).encode()

    return bend


DSSE = {"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "AAAA"}]}
RAW = {"rawBytes": "AAAA"}
AMBIGUOUS = {
    "a member twice": (twice, "undecodable"),
    "two kinds of material": (with_material(certificate=RAW), "bundle-ambiguous"),
    "two kinds of certificates": (
        with_material(certificate=RAW, x509CertificateChain={"certificates": [RAW]}),
        "bundle-ambiguous",
    ),
    "two kinds of content": (with_members(dsseEnvelope=DSSE), "bundle-ambiguous"),
    "no material": (with_material(publicKey=None), "undecodable"),
    "no content": (with_members(messageSignature=None), "undecodable"),
    "another version": (
        with_members(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
        "bundle-version",
    ),
    "no media type": (with_members(mediaType=None), "bundle-version"),
    "a member nobody reads": (with_members(more=1), "undecodable"),
    "base64 for addresses": (
        respelled(lambda text: b64encode(b64decode(text)).decode().replace("=", "") + "-_"),
        "undecodable",
    ),
    "base64 without its padding": (
        respelled(lambda text: b64encode(b64decode(text)[:4]).decode().rstrip("=")),
        "undecodable",
    ),
    "base64 with line ends": (respelled(lambda text: text[:40] + "\n" + text[40:]), "undecodable"),
    "no signature": (respelled(lambda _: ""), "undecodable"),
    "many entries": (with_material(tlogEntries=[{}] * 33), "undecodable"),
    "a digest by another hash": (
        with_members(
            messageSignature={"signature": "AAAA", "messageDigest": {"algorithm": "SHA2_512", "digest": "AAAA"}}
        ),
        "undecodable",
    ),
    "two signatures in an envelope": (
        with_members(messageSignature=None, dsseEnvelope={**DSSE, "signatures": [{"sig": "AAAA"}] * 2}),
        "undecodable",
    ),
    "another payload": (
        with_members(messageSignature=None, dsseEnvelope={**DSSE, "payloadType": "text/plain"}),
        "undecodable",
    ),
    "not JSON": (lambda _: b"\xff", "undecodable"),
    "nothing": (lambda _: b"", "undecodable"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_bundle_that_could_be_read_in_two_ways_or_not_at_all(made, verify, name):
    bend, code = AMBIGUOUS[name]
    assert verify(bend(read(made))) == code


def test_a_bundle_of_100_megabytes_is_not_read(made, verify):
    assert verify(b" " * 100_000_000 + read(made)) == "undecodable"


def test_a_bundle_without_an_entry_is_taken_only_where_that_is_asked_for(made, verify):
    unlogged = alter(read(made), "no entry")
    assert verify(unlogged) == "not-logged"
    assert verify(unlogged, "--unlogged") is None
    assert verify(unlogged, "--unlogged", "--trusted-root", str(made / "root.json")) is None
    assert verify(read(made), "--json") == "usage"  # nobody said which log is believed


def test_a_false_entry_is_refused_where_none_was_needed(made, verify):
    false = alter(read(made), "a hash of the proof")
    assert verify(false, "--unlogged", "--trusted-root", str(made / "root.json")) == "log-unproven"


def test_a_trusted_root_that_is_none(made, verify):
    bad = made / "bad_root.json"
    for data in (b"{}", b'{"mediaType":"x"}', b'{"mediaType":"a","mediaType":"b"}', b"[" * 100_000):
        bad.write_bytes(data)
        assert verify(read(made), "--trusted-root", str(bad)) == "undecodable"


def test_an_identity_is_decided_by_the_library_and_its_no_has_a_name(made, tmp_path, capsys):
    sim = SimSigstore(tmp_path / "sim")
    private = load_pem_private_key((made / "k.pem").read_bytes(), None)
    (tmp_path / "k.crt").write_bytes(sim.certify(private.public_key()))
    (tmp_path / "fulcio.json").write_bytes(sim.trusted_root())
    words, out, root = ["-w", str(made / "log"), "sigstore"], str(tmp_path / "b.json"), str(tmp_path / "root.json")
    assert run([*words, "trusted-root", "--into", str(tmp_path / "fulcio.json"), "--out", root]) == 0
    with serving(sim) as tsa:
        signed = [
            "sign",
            str(made / "model.onnx"),
            "--key",
            str(made / "k.pem"),
            "--ledger",
            "--tsa",
            tsa,
            "--out",
            out,
        ]
        assert run([*words, *signed, "--certificate", str(tmp_path / "k.crt")]) == 0
    asked = ["sigstore", "verify", str(made / "model.onnx"), "--bundle", out, "--trusted-root", root, "--json"]
    assert run([*asked, "--identity", SUBJECT, "--issuer", ISSUER]) == 0
    evil = SimSigstore(tmp_path / "evil")
    (tmp_path / "evil.json").write_bytes(evil.trusted_root())
    assert (
        run([*words, "trusted-root", "--into", str(tmp_path / "evil.json"), "--out", str(tmp_path / "evil_root.json")])
        == 0
    )
    capsys.readouterr()
    others = [
        [*asked, "--identity", "eve@acme.example", "--issuer", ISSUER],
        [*asked, "--identity", SUBJECT, "--issuer", "https://evil.example"],
        [*asked[:-2], str(tmp_path / "evil_root.json"), "--json", "--identity", SUBJECT, "--issuer", ISSUER],
    ]
    for argv in others:
        assert run(argv) == 1
        assert json.loads(capsys.readouterr().out)["error"] == "sigstore-refused"


def test_a_token_is_no_argument_and_no_file_that_others_read(made, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text("{}")
    token = tmp_path / "token"
    token.write_text("secret.secret.secret")
    token.chmod(0o644)
    words = ["sigstore", "sign", str(made / "model.onnx"), "--keyless", "--trust-config", str(tmp_path / "config.json")]
    monkeypatch.delenv("SIGSTORE_ID_TOKEN", raising=False)
    assert run(words) == 2
    assert run([*words, "--identity-token", str(token)]) == 2
    token.chmod(0o600)
    assert run([*words, "--identity-token", str(token)]) == 3
    assert "secret" not in capsys.readouterr().err


def test_a_fulcio_that_hangs_does_not_hang_us(tmp_path, monkeypatch, made, capsys):
    monkeypatch.setattr(library, "ANSWER_S", 0.3)
    sim = SimSigstore(tmp_path / "sim")
    with socket.create_server(("127.0.0.1", 0)) as silent, serving(sim) as issuer:
        from attacks.test_foreign_sigstore import config

        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        root = trusted_root(SimRekor(create_once(made)).key, into=sim.trusted_root())
        (tmp_path / "config.json").write_text(config(root, fulcio=url, rekor=url, issuer=issuer))
        monkeypatch.setenv("SIGSTORE_ID_TOKEN", sim.token(issuer))
        out = tmp_path / "never.json"
        words = ["sigstore", "sign", str(made / "model.onnx"), "--keyless", "--out", str(out)]
        assert run([*words, "--trust-config", str(tmp_path / "config.json")]) == 3
    assert "not-signed" in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_library_says_what_to_install(made, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "sigstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sigstore", None)
    asked = ["sigstore", "verify", str(made / "model.onnx"), "--trusted-root", str(made / "root.json")]
    assert run([*asked, "--identity", SUBJECT, "--issuer", ISSUER]) == 2
    said = capsys.readouterr().err
    assert "missing-extra" in said
    assert "pip install 'chopmark[sigstore]'" in said
    assert run([*asked, "--key", str(made / "k.pub")]) == 0  # which a key does not need


def test_a_file_too_large_for_a_signature_over_itself_says_what_to_do(made, monkeypatch, capsys):
    monkeypatch.setattr("chopmark.apps.cli.sigstore.sign.MAX_SIGNED_BYTES", 3)
    out = made / "large.json"
    assert run(["sigstore", "sign", str(made / "model.onnx"), "--key", str(made / "k.pem"), "--out", str(out)]) == 2
    assert "too-large" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_says_what_to_do(made, capsys):
    assert run(["sigstore", "sign", str(made), "--key", str(made / "k.pem"), "--out", str(made / "large.json")]) == 2
    assert "chopmark sign FOLDER" in capsys.readouterr().err


def test_a_proof_of_an_entry_is_not_lost_by_signing_again(made, tmp_path, capsys):
    bundle = next(path for path in made.glob("model.onnx.*json"))
    held = bundle.read_bytes()
    assert b"tlogEntries" in held
    words = ["sigstore", "sign", str(made / "model.onnx"), "--key", str(made / "k.pem")]
    assert run([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "entry-lost"
    assert bundle.read_bytes() == held
    assert run([*words, "--out", str(tmp_path / "b.json")]) == 0


def test_a_signature_that_waits_for_a_witness_is_neither_made_nor_logged_twice(made, tmp_path, monkeypatch, capsys):
    assert run(["init", str(tmp_path / "acme")]) == 0
    out = tmp_path / "b.json"
    words = ["-w", str(tmp_path / "acme"), "sigstore", "sign", str(made / "model.onnx"), "--key", str(made / "k.pem")]
    capsys.readouterr()
    assert run([*words, "--ledger", "--out", str(out)]) == 3  # its witness does not run
    assert "not-witnessed-yet" in capsys.readouterr().err
    unlogged = json.loads(out.read_bytes())
    assert "tlogEntries" not in unlogged["verificationMaterial"]
    site = Site.at(tmp_path / "acme")
    size = site.ledger.checkpoint.size
    monkeypatch.setattr(LogSite, "witnesses", lambda _: {WITNESS: site.own_witness()})
    assert run([*words, "--ledger", "--out", str(out)]) == 0
    logged = json.loads(out.read_bytes())
    assert logged["messageSignature"] == unlogged["messageSignature"]
    assert len(logged["verificationMaterial"]["tlogEntries"]) == 1
    assert Site.at(tmp_path / "acme").ledger.checkpoint.size == size


def test_a_timestamp_authority_that_gives_none_leaves_nothing_behind(made, tmp_path, capsys):
    sim, out = SimSigstore(tmp_path / "sim"), tmp_path / "b.json"
    sim.timestamp = lambda _: b"no reply"
    words = [
        "-w",
        str(made / "log"),
        "sigstore",
        "sign",
        str(made / "model.onnx"),
        "--key",
        str(made / "k.pem"),
        "--ledger",
    ]
    before = LogSite.at(made / "log").ledger.checkpoint.size
    with serving(sim) as tsa:
        assert run([*words, "--tsa", tsa, "--out", str(out)]) == 3
    assert "no-timestamp" in capsys.readouterr().err
    assert not out.exists()
    assert LogSite.at(made / "log").ledger.checkpoint.size == before  # nothing was logged in vain


def test_a_certificate_of_another_key(made, tmp_path, verify, capsys):
    other = create(tmp_path / "other.pem", Algorithm.ECDSA_P256)
    (tmp_path / "k.crt").write_bytes(SimSigstore(tmp_path / "sim").certify(other._key.public_key()))
    words = ["sigstore", "sign", str(made / "model.onnx"), "--out", str(tmp_path / "b.json")]
    assert run([*words, "--key", str(made / "k.pem"), "--certificate", str(tmp_path / "k.crt")]) == 2
    assert run([*words, "--key", str(tmp_path / "other.pem"), "--certificate", str(tmp_path / "k.crt")]) == 0
    assert verify((tmp_path / "b.json").read_bytes(), "--unlogged") == "wrong-key"
