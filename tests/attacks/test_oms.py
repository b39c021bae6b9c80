# SPDX-License-Identifier: Apache-2.0
"""Bundles and folders that lie: each is refused by its own name, and before anything is believed of them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

import chopmark
from chopmark.adapters.kms.file import generate
from chopmark.apps.cli.main import cli
from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.statements import OmsFailure, OmsKey, open_oms, sign_files, verify_files
from chopmark.statements.oms.certificates import MAX_DEPTH, OmsAuthorities
from chopmark.statements.oms.model import MAX_BUNDLE_BYTES
from simulators.oms import (
    CERTIFIES,
    CODE,
    NOW,
    P256,
    P384,
    P521,
    SIGNS,
    authority,
    b64,
    bundle,
    certificate,
    chained,
    hinted,
    old_statement,
    pem,
    private_pem,
    raw,
    rsa_key,
    statement,
)

FILES = {"config.json": b"{}", "model.onnx": b"weights", "tokenizer/a-b.txt": b"1", "tokenizer/a/b.txt": b"2"}
KEY = OmsKey.read(pem(P256))


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def refuse(code, data, *, trust=KEY, path=None):
    """Check that the bundle *data*, alone or with the files at *path*, is refused as *code*."""
    with pytest.raises(VerificationError) as refused:
        open_oms(data, trust) if path is None else accept(data, path, trust=trust)
    assert refused.value.code == code, refused.value
    return refused.value


def accept(data, path, *, trust=KEY, **how):
    (path.parent / "x.sig").write_bytes(data)
    return verify_files(path, trust, signature=path.parent / "x.sig", **how)


# Formats


@pytest.mark.parametrize("key", [P256, P384, P521], ids=["P-256", "P-384", "P-521"])
@pytest.mark.parametrize("material", [hinted, raw], ids=["hint", "raw"])
def test_every_curve_and_both_ways_to_name_a_key(model, key, material):
    made = bundle(statement(FILES), key, material=material(key))
    assert accept(made, model, trust=OmsKey.read(pem(key))).listing.files.keys() == FILES.keys()


def test_a_bundle_of_0_2_is_read_and_its_mistake_is_known(model):
    files = {name: data for name, data in FILES.items() if "/" not in name}
    for name in ("tokenizer/a-b.txt", "tokenizer/a/b.txt"):
        (model / name).unlink()
    for key in (P256, P384):
        made = bundle(old_statement(files), key, old=True)
        assert accept(made, model, trust=OmsKey.read(pem(key))).listing.files.keys() == files.keys()
    (model / "model.onnx").write_bytes(b"weightz")
    assert "model.onnx" in refuse("oms-altered", made, trust=OmsKey.read(pem(P384)), path=model).message


def test_the_mistake_of_0_2_is_not_taken_for_statements_of_today():
    refuse("oms-unsigned", bundle(statement(FILES), P256, old=True))


@pytest.mark.parametrize("version", ["v0.3+json", "+json;version=0.1", "+json;version=0.2", "+json;version=0.3"])
def test_the_names_that_bundles_had(model, version):
    kind = "application/vnd.dev.sigstore.bundle" + (version if version.startswith("+") else "." + version)
    assert accept(bundle(statement(FILES), P256, mediaType=kind), model)


def test_a_single_file_by_either_name(model):
    data = {".": FILES["model.onnx"]}
    assert accept(bundle(statement(data), P256), model / "model.onnx")
    assert accept(bundle(statement({"model.onnx": FILES["model.onnx"]}), P256), model / "model.onnx")
    refuse("oms-missing-files", bundle(statement({"other.onnx": b"weights"}), P256), path=model / "model.onnx")
    refused = refuse("oms-altered", bundle(statement({".": b"weightz"}), P256), path=model / "model.onnx")
    assert refused.evidence == {"altered": ["model.onnx"]}
    assert refused.message.endswith(": model.onnx")
    refuse("oms-missing-files", bundle(statement(data), P256), path=model)


def test_both_orders_are_read_and_no_other(model):
    by_point = sorted(FILES)
    by_parts = sorted(FILES, key=lambda name: name.split("/"))
    assert by_point != by_parts
    for names in (by_point, by_parts):
        assert accept(bundle(statement(FILES, names=names), P256), model)
    refuse("oms-order", bundle(statement(FILES, names=by_point[::-1]), P256))


def test_members_that_are_not_known_are_passed_over(model):
    said = statement(FILES)
    said["predicate"]["resources"][0]["annotations"] = {"x": [{}]}
    said["predicate"]["card"] = {"name": "é"}
    assert accept(bundle(said, P256), model)


# Statements that lie


@pytest.mark.parametrize(
    "name",
    [
        "../../keys/x",
        "/etc/passwd",
        "a/../b",
        "./a",
        "a//b",
        "a/",
        "",
        "a\\b",
        "..",
        "a\nb",
        "a\0b",
        "e\u0301",
        "x" * 2000,
    ],
)
def test_a_name_that_leaves_the_folder_or_means_two_things(name):
    refused = refuse("undecodable" if "\0" in name else "oms-name", bundle(statement({name: b"1", "b": b"2"}), P256))
    assert isinstance(refused, DecodeError)


def test_a_file_that_stands_twice():
    said = statement(FILES)
    resources = said["predicate"]["resources"]
    resources.insert(1, resources[0] | {"digest": hashlib.sha256(b"other").hexdigest()})
    refuse("oms-duplicate", bundle(rooted(said), P256))


def rooted(said):
    """Give *said* the root digest of what it lists."""
    listed = b"".join(bytes.fromhex(r["digest"]) for r in said["predicate"]["resources"])
    said["subject"][0]["digest"]["sha256"] = hashlib.sha256(listed).hexdigest()
    return said


@pytest.mark.parametrize("usual", [True, False], ids=["usual", "unusual"])
@pytest.mark.parametrize(
    "twice",
    [
        (b'"predicate":', b'"predicate":{"resources":[],"serialization":{}},"predicate":'),
        (b'"digest":"', b'"digest":"00","digest":"'),
        (b'"name":"config.json"', b'"name":"other.json","name":"config.json"'),
        (b'"method":"files"', b'"method":"shards","method":"files"'),
        (b'"_type":', b'"_type":":","_type":'),
    ],
    ids=["predicate", "digest", "name", "method", "type"],
)
def test_a_member_that_stands_twice_is_seen_by_both_readers(twice, usual):
    """The fast reader would take the last one; other verifiers take the first."""
    said = statement(FILES)
    if not usual:
        said["predicate"]["resources"][0]["uri"] = "x"
    payload = json.dumps(said, separators=(",", ":")).encode()
    assert payload.count(twice[0]) >= 1
    open_oms(bundle(None, P256, payload=payload), KEY)
    refused = refuse("undecodable", bundle(None, P256, payload=payload.replace(*twice, 1)))
    assert "twice" in refused.message


def test_a_colon_that_is_written_as_an_escape_hides_no_member():
    payload = json.dumps(statement({"a:b": b"1"}), separators=(",", ":")).encode()
    hidden = payload.replace(b'"a:b"', b'"a\\u003ab"').replace(
        b'"method":"files"', b'"method":"shards","method":"files"'
    )
    assert hidden.count(b":") == payload.count(b":")
    assert "twice" in refuse("undecodable", bundle(None, P256, payload=hidden)).message


@pytest.mark.parametrize("method", ["shards", "", None, 7])
def test_shards_are_refused_with_what_to_do(method):
    said = statement({"model.onnx:0:7": b"weights"})
    said["predicate"]["serialization"] |= {"method": method, "shard_size": 1_000_000_000}
    assert "whole files" in refuse("oms-method", bundle(said, P256)).hint


@pytest.mark.parametrize("where", ["serialization", "resources"])
@pytest.mark.parametrize("algorithm", ["blake2b", "blake2", "blake3", "sha512", "sha1", "sha256-sharded-1048576"])
def test_a_hash_that_is_not_read_back_is_refused_with_what_to_do(algorithm, where):
    said = statement(FILES)
    if where == "serialization":
        said["predicate"]["serialization"]["hash_type"] = algorithm
    else:
        said["predicate"]["resources"][1]["algorithm"] = algorithm
    assert "SHA-256" in refuse("oms-hash", bundle(said, P256)).hint


def test_a_root_digest_of_other_files():
    refuse("oms-root", bundle(statement(FILES, subject=[{"name": "m", "digest": {"sha256": "0" * 64}}]), P256))


@pytest.mark.parametrize("digest", ["0" * 63, "0" * 65, "A" * 64, " " * 64, "0" * 62 + "  ", "g" * 64, ""])
def test_digests_that_are_none(digest):
    said = statement(FILES)
    said["predicate"]["resources"][0]["digest"] = digest
    refuse("undecodable", bundle(said, P256))


def test_a_statement_over_nothing():
    refuse("undecodable", bundle(statement({}), P256))


# Bundles that lie


@pytest.mark.parametrize("bogus_first", [True, False])
def test_one_bogus_signature_among_good_ones(bogus_first):
    made = json.loads(bundle(statement(FILES), P256))
    signatures = made["dsseEnvelope"]["signatures"]
    signatures.insert(0 if bogus_first else 1, {"sig": b64(b"bogus")})
    refuse("oms-signatures", json.dumps(made).encode())
    made["dsseEnvelope"]["signatures"] = []
    refuse("oms-signatures", json.dumps(made).encode())


def test_two_kinds_of_key_material_none_and_an_identity():
    leaf = certificate("x", P256, extensions=[(SIGNS, True)])
    both = hinted(P256) | chained(leaf)
    der = leaf.public_bytes(serialization.Encoding.DER)
    for material in (both, {}, {"certificate": {"rawBytes": b64(der)}, "tlogEntries": [{}]}):
        refuse("oms-material", bundle(statement(FILES), P256, material=material))
    refuse("oms-material", bundle(statement(FILES), P256, material=chained(leaf)))
    refuse("oms-material", bundle(statement(FILES), P256, material={"x509CertificateChain": {"certificates": []}}))
    refuse("oms-material", bundle(statement(FILES), P256, material=chained(*[leaf] * 17)))


def test_another_key():
    refuse("oms-key-mismatch", bundle(statement(FILES), P384))
    refuse("oms-key-mismatch", bundle(statement(FILES), P384, material=raw(P384)))
    refuse("oms-unsigned", bundle(statement(FILES), P384, material=hinted(P256)))
    refuse("oms-unsigned", bundle(statement(FILES), P384, material={"publicKey": {}}))


def test_a_payload_changed_after_signing():
    made = json.loads(bundle(statement(FILES), P256))
    made["dsseEnvelope"]["payload"] = b64(json.dumps(statement({"evil": b""})).encode())
    refuse("oms-unsigned", json.dumps(made).encode())


def test_a_bundle_of_100_mb_is_not_read(model, tmp_path):
    place = tmp_path / "huge.sig"
    with place.open("wb") as file:
        file.truncate(100_000_000)
    script = (
        "import resource, sys; from pathlib import Path; from chopmark.errors import DecodeError\n"
        "from chopmark.statements import OmsKey, verify_files\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: verify_files(Path(sys.argv[1]), OmsKey.read(Path(sys.argv[2]).read_bytes()), signature=Path(sys.argv[3]))\n"
        "except DecodeError as error: print(error.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    (tmp_path / "k.pub").write_bytes(pem(P256))
    arguments = [sys.executable, "-c", script, model, tmp_path / "k.pub", place]
    code, grown_kb = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()
    assert code == "oms-too-large"
    assert int(grown_kb) < 1.5 * MAX_BUNDLE_BYTES / 1024
    refuse("oms-too-large", b" " * (MAX_BUNDLE_BYTES + 1))


# Folders that lie


def test_each_difference_has_its_name(model):
    made = bundle(statement(FILES), P256)
    assert accept(made, model)
    (model / "more.txt").write_bytes(b"")
    assert refuse("oms-unsigned-files", made, path=model).evidence == {"unsigned": ["more.txt"]}
    (model / "config.json").rename(model / "renamed.json")
    assert refuse("oms-missing-files", made, path=model).evidence == {"missing": ["config.json"]}
    (model / "model.onnx").write_bytes(b"weightz")
    assert refuse("oms-altered", made, path=model).evidence == {"altered": ["model.onnx"]}


def test_a_link_is_one_more_thing_that_was_not_signed(model):
    made = bundle(statement(FILES), P256)
    (model / "passwd").symlink_to("/etc/passwd")
    refuse("oms-link", made, path=model)
    (model / "passwd").unlink()
    (model / "config.json").unlink()
    (model.parent / "elsewhere").write_bytes(FILES["config.json"])
    (model / "config.json").symlink_to(model.parent / "elsewhere")
    refuse("oms-link", made, path=model)
    (model / "config.json").unlink()
    os.mkfifo(model / "config.json")
    refuse("oms-link", made, path=model)


def test_what_the_signer_ignored_is_unsigned_and_said_so(model):
    """Stock verifiers pass over what the bundle says was left out; whoever can write there runs what nobody signed."""
    said = statement(FILES)
    said["predicate"]["serialization"]["ignore_paths"] = [".git", "cache"]
    made = bundle(said, P256)
    (model / "cache" / "deep").mkdir(parents=True)
    (model / "cache" / "deep" / "evil.py").write_bytes(b"import os")
    refused = refuse("oms-unsigned-files", made, path=model)
    assert "--ignore cache" in refused.hint
    assert accept(made, model, ignore=["cache"]).unsigned == ("cache",)
    assert accept(made, model, ignore=["cache/deep/"]).unsigned == ("cache/deep",)
    (model / "cache" / "more").write_bytes(b"")
    with pytest.raises(VerificationError):
        accept(made, model, ignore=["cache/deep"])
    spaced = statement(FILES)
    spaced["predicate"]["serialization"]["ignore_paths"] = ["cache", "a cache; rm x"]
    (model / "a cache; rm x").write_bytes(b"")
    assert "--ignore 'a cache; rm x'" in refuse("oms-unsigned-files", bundle(spaced, P256), path=model).hint
    (model / "a cache; rm x").unlink()
    (model / "evil.py").write_bytes(b"")
    both = refuse("oms-unsigned-files", made, path=model)
    assert "evil.py" in both.hint
    assert "--ignore" not in both.hint


def test_what_was_signed_cannot_be_ignored(model):
    made = bundle(statement(FILES), P256)
    (model / "tokenizer" / "evil.py").write_bytes(b"")
    for name in ("tokenizer", "tokenizer/a-b.txt"):
        with pytest.raises(VerificationError) as refused:
            accept(made, model, ignore=[name])
        assert refused.value.code == "oms-unsigned-files"
    (model / "tokenizer" / "a-b.txt").write_bytes(b"changed")
    with pytest.raises(VerificationError) as refused:
        accept(made, model, ignore=["tokenizer", "tokenizer/a-b.txt"])
    assert refused.value.code == "oms-altered"


@pytest.mark.parametrize("name", ["../x", "/etc", "a*", "", ".", "a/../../b"])
def test_a_name_to_ignore_that_leaves_the_folder(model, name):
    with pytest.raises(UsageError):
        accept(bundle(statement(FILES), P256), model, ignore=[name])


def test_the_bundle_in_the_folder_is_no_file_of_the_model(model):
    key = generate(Algorithm.ECDSA_P256)
    for place in (model / "model.sig", model / "tokenizer" / "s.sig"):
        place.write_bytes(sign_files(model, key, out=place).bundle)
        found = verify_files(model, OmsKey.from_public(key.public), signature=place)
        assert found.listing.files.keys() == FILES.keys()
        place.unlink()


def test_a_second_bundle_in_the_folder_is_one_more_file(model):
    key = generate(Algorithm.ECDSA_P256)
    (model / "model.sig").write_bytes(sign_files(model, key, out=model / "model.sig").bundle)
    (model.parent / "m.sig").write_bytes((model / "model.sig").read_bytes())
    with pytest.raises(VerificationError) as refused:
        verify_files(model, OmsKey.from_public(key.public), signature=model.parent / "m.sig")
    assert refused.value.code == "oms-unsigned-files"


# Certificates

ROOT_KEY, MIDDLE_KEY = rsa_key(), ec.generate_private_key(ec.SECP384R1())
ROOT = authority("root", ROOT_KEY)
MIDDLE = authority("middle", MIDDLE_KEY, issuer="root", issuer_key=ROOT_KEY, path_length=0)


def leaf(key=P256, **how):
    how = {"issuer": "middle", "issuer_key": MIDDLE_KEY, "extensions": [(SIGNS, True), (CODE, False)]} | how
    return certificate("signer", key, **how)


def anchors(*certificates, now=NOW):
    data = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)
    return OmsAuthorities.read(data, now=now)


def with_chain(*certificates, key=P256):
    return bundle(statement(FILES), key, material=chained(*certificates))


@pytest.mark.parametrize("key", [P256, P384, P521], ids=["P-256", "P-384", "P-521"])
def test_a_chain_to_an_authority_that_was_named(model, key):
    found = accept(with_chain(leaf(key), MIDDLE, ROOT, key=key), model, trust=anchors(ROOT))
    assert found.signer.startswith("CN=signer")
    assert accept(with_chain(leaf(key), MIDDLE, key=key), model, trust=anchors(ROOT))
    assert accept(with_chain(leaf(key), key=key), model, trust=anchors(ROOT, MIDDLE))
    refuse("oms-material", bundle(statement(FILES), P256), trust=anchors(ROOT))


@pytest.mark.parametrize(
    "made",
    [
        lambda: leaf(extensions=[(SIGNS, True)]),
        lambda: leaf(extensions=[(CODE, False)]),
        lambda: leaf(
            extensions=[(x509.BasicConstraints(ca=True, path_length=None), True), (SIGNS, True), (CODE, False)]
        ),
    ],
    ids=["key usage", "extended key usage", "as model_signing's own"],
)
def test_uses_that_are_enough(model, made):
    assert accept(with_chain(made(), MIDDLE), model, trust=anchors(ROOT))


@pytest.mark.parametrize(
    "extensions",
    [
        [],
        [(CERTIFIES, True)],
        [(SIGNS, True), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
        [(SIGNS, True), (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)],
    ],
    ids=["none", "certifies", "a server's", "critical and unknown"],
)
def test_a_certificate_that_is_not_for_signing(extensions):
    refuse("oms-certificate-use", with_chain(leaf(extensions=extensions), MIDDLE), trust=anchors(ROOT))


def test_a_chain_that_leads_nowhere():
    other = authority("root", rsa_key())
    own = authority("root", ROOT_KEY, digest=hashes.SHA256())
    refuse("oms-certificate", with_chain(leaf(), MIDDLE, own), trust=anchors(other))
    refuse("oms-certificate", with_chain(leaf()), trust=anchors(ROOT))
    refuse("oms-certificate", with_chain(certificate("signer", P256, extensions=[(SIGNS, True)])), trust=anchors(ROOT))


def test_a_signer_certifies_nobody():
    """The oldest hole of certificate paths: a signer's certificate as an authority."""
    plain = leaf(MIDDLE_KEY, issuer="root", issuer_key=ROOT_KEY)
    below = certificate("evil", P256, issuer="signer", issuer_key=MIDDLE_KEY, extensions=[(SIGNS, True)])
    refuse("oms-certificate", with_chain(below, plain), trust=anchors(ROOT))
    marked = certificate(
        "signer",
        MIDDLE_KEY,
        issuer="root",
        issuer_key=ROOT_KEY,
        extensions=[(x509.BasicConstraints(ca=True, path_length=None), True), (SIGNS, True)],
    )
    refuse("oms-certificate", with_chain(below, marked), trust=anchors(ROOT))


def test_a_path_that_is_longer_than_an_authority_allows():
    lower_key = ec.generate_private_key(ec.SECP256R1())
    lower = authority("lower", lower_key, issuer="middle", issuer_key=MIDDLE_KEY)
    end = leaf(issuer="lower", issuer_key=lower_key)
    refuse("oms-certificate", with_chain(end, lower, MIDDLE), trust=anchors(ROOT))
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(MAX_DEPTH + 2)]
    above = [("root", ROOT_KEY), *((f"a{at}", key) for at, key in enumerate(keys))]
    chain = [authority(f"a{at}", key, issuer=above[at][0], issuer_key=above[at][1]) for at, key in enumerate(keys)]
    end = leaf(issuer=f"a{len(keys) - 1}", issuer_key=keys[-1])
    refuse("oms-certificate", with_chain(end, *chain[::-1]), trust=anchors(ROOT))


def test_authorities_that_certify_each_other_end_the_search():
    a, b = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    circle = [authority("a", a, issuer="b", issuer_key=b), authority("b", b, issuer="a", issuer_key=a)]
    refuse("oms-certificate", with_chain(leaf(issuer="a", issuer_key=a), *circle), trust=anchors(ROOT))


@pytest.mark.parametrize("weak", ["key", "hash"])
def test_weak_authorities(weak):
    key = rsa_key(1024) if weak == "key" else rsa_key()
    root = authority("root", key)
    signed = leaf(issuer="root", issuer_key=key, digest=hashes.SHA224() if weak == "hash" else hashes.SHA256())
    refuse("oms-certificate", with_chain(signed), trust=anchors(root))


@pytest.mark.parametrize("days", [-2, 2], ids=["not yet", "no more"])
def test_certificates_are_valid_now_or_not_at_all(days):
    now = NOW + timedelta(days=days)
    refuse("oms-certificate-expired", with_chain(leaf(), MIDDLE), trust=anchors(ROOT, now=now))
    long = {"days": (-10, 10)}
    root = authority("root", ROOT_KEY, **long)
    middle = authority("middle", MIDDLE_KEY, issuer="root", issuer_key=ROOT_KEY, **long)
    made = with_chain(leaf(**long), MIDDLE)
    refuse("oms-certificate-expired", made, trust=anchors(root, now=now))
    assert open_oms(with_chain(leaf(**long), middle), anchors(root, now=now))


def test_a_signature_by_another_key_than_the_certified_one():
    refuse("oms-unsigned", with_chain(leaf(P256), MIDDLE, key=P384), trust=anchors(ROOT))


def test_a_certificate_of_a_key_that_signs_no_bundle():
    end = leaf(ed25519.Ed25519PrivateKey.generate())
    refuse("undecodable", with_chain(end, MIDDLE), trust=anchors(ROOT))
    made = {"x509CertificateChain": {"certificates": [{"rawBytes": b64(b"0\0")}]}}
    refuse("undecodable", bundle(statement(FILES), P256, material=made), trust=anchors(ROOT))


def test_authorities_that_are_none():
    for data in (b"", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", pem(P256)):
        with pytest.raises(UsageError):
            OmsAuthorities.read(data, now=NOW)
    with pytest.raises(UsageError):
        anchors(ROOT, leaf())


# Beside stock tools


def test_model_signing_is_laxer_in_each_way_that_is_written_down(model, tmp_path):
    """What ADR 21 says of stock verifiers, tried: when one of these fails, they have become stricter."""
    (tmp_path / "packager.pem").write_bytes(pem(P256))
    for made in (two_signatures(), bundle(statement(FILES) | {"predicate": ignoring(FILES, "cache")}, P256)):
        (tmp_path / "x.sig").write_bytes(made)
        (model / "cache").mkdir(exist_ok=True)
        (model / "cache" / "evil.py").write_bytes(b"")
        ignore = ["--ignore-paths", str(model / "cache")] if made == two_signatures() else []
        arguments = ["--signature", tmp_path / "x.sig", "--public_key", tmp_path / "packager.pem", *ignore, model]
        command = [Path(sys.executable).parent / "model_signing", "verify", "key", *arguments]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        with pytest.raises(VerificationError):
            accept(made, model)


_TWO: list[bytes] = []


def two_signatures():
    if not _TWO:
        made = json.loads(bundle(statement(FILES), P256))
        made["dsseEnvelope"]["signatures"].append({"sig": b64(b"bogus"), "keyid": ""})
        _TWO.append(json.dumps(made).encode())
    return _TWO[0]


def ignoring(files, *names):
    predicate = statement(files)["predicate"]
    predicate["serialization"]["ignore_paths"] = list(names)
    return predicate


def test_what_we_sign_oms_validate_accepts(model, tmp_path):
    """The specification's own validator, where it is at hand."""
    schemas = pytest.importorskip("oms_schemas", reason="oms-validate is not installed: ossf/model-signing-spec")
    key = generate(Algorithm.ECDSA_P256)
    for path in (model, model / "model.onnx"):
        (tmp_path / "x.sig").write_bytes(sign_files(path, key, out=tmp_path / "x.sig").bundle)
        schemas.validate_bundle(tmp_path / "x.sig", method="key")


# The command and the call


def test_the_command_names_each_refusal(model, tmp_path):
    (tmp_path / "k.pem").write_bytes(private_pem(P256))
    (tmp_path / "k.pem").chmod(0o600)
    (tmp_path / "k.pub").write_bytes(pem(P256))
    run = CliRunner().invoke
    assert run(cli, ["sign", str(model), "--key", str(tmp_path / "k.pem")]).exit_code == 0
    verify = ["verify", str(model), "--key", str(tmp_path / "k.pub"), "--json"]
    said = json.loads(run(cli, verify).stdout)
    assert (said["ok"], said["files"]) == (True, len(FILES))
    (model / "model.onnx").write_bytes(b"weightz")
    assert run(cli, verify).exception.code == OmsFailure.ALTERED
    chain = ["verify", str(model), "--certificate-chain", str(tmp_path / "k.pub")]
    for arguments in (verify[:2], [*verify, "--certificate-chain", "x"], chain):
        assert isinstance(run(cli, arguments).exception, UsageError)


def test_nothing_is_written_where_nothing_is_signed(model, tmp_path):
    (model / "link").symlink_to("/etc/passwd")
    (tmp_path / "k.pem").write_bytes(private_pem(P256))
    (tmp_path / "k.pem").chmod(0o600)
    with pytest.raises(UsageError):
        chopmark.sign(model, key=tmp_path / "k.pem")
    assert not (tmp_path / "model.sig").exists()


def test_what_a_notebook_and_a_terminal_show_is_text(tmp_path):
    """A file name or a certificate's subject becomes no element of a page, and no command of a terminal."""
    evil = "<img src=x onerror=alert(1)>"
    (tmp_path / evil).mkdir()
    place = tmp_path / evil / "m"
    place.write_bytes(b"1")
    key = generate(Algorithm.ECDSA_P256)
    signed = chopmark.sign(place, key=key)
    found = replace(chopmark.verify(place, key=key.public), signer=evil)
    for shown in (signed._repr_html_(), found._repr_html_()):
        assert "<img" not in shown
        assert "&lt;img" in shown
    end = certificate("\x1b]0;evil\x07", P256, issuer="root", issuer_key=ROOT_KEY, extensions=[(SIGNS, True)])
    (tmp_path / "x.sig").write_bytes(bundle(statement({"m": b"1"}), P256, material=chained(end)))
    assert verify_files(place, anchors(ROOT), signature=tmp_path / "x.sig").signer.isprintable()
