# SPDX-License-Identifier: Apache-2.0
"""Sigstore's own clients read our bundles and the entries of our log in them; a real Fulcio and a real Rekor sign keyless.

Readers, none of them ours: cosign (Go), sigstore-python, model_signing. Each is also shown altered bundles, and refuses them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from base64 import b64decode
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from attacks.bundles import ALTERED, alter
from attacks.foreign import kit
from attacks.test_foreign_rekor import ORIGIN, rekor_running
from attacks.test_foreign_rekor import programs as rekor_programs
from chopmark.adapters.kms.file import create, generate
from chopmark.apps.cli.main import run
from chopmark.artifacts import Digest, hash_file
from chopmark.keys import Algorithm
from chopmark.ledger.rekor import rekor_key, trusted_root
from chopmark.statements import Statement, Subject, encode_envelope, sign
from simulators.sigstore import ISSUER, SUBJECT, SimSigstore, serving

pytestmark = pytest.mark.slow

BUILD = Path(__file__).resolve().parents[2] / "build"
COSIGN = "github.com/sigstore/cosign/v3/cmd/cosign"
FULCIO = "github.com/sigstore/fulcio"
BIN = Path(sys.executable).parent
rekor = rekor_programs


def built(name, version, package):
    """One large program of somebody else, built once for this checkout."""
    place = BUILD / f"{name}-{version}"
    if not (place / "bin" / name).exists():
        building = place.with_name(f"{place.name}.{os.getpid()}")
        building.mkdir(parents=True)
        try:
            kit.install_go(building, packages=[package], source=kit.HERE / name)
            if not place.exists():
                building.rename(place)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return place / "bin" / name


@pytest.fixture(scope="module")
def cosign():
    return built("cosign", "3.1.3", COSIGN)


@pytest.fixture(scope="module")
def fulcio():
    return built("fulcio", "1.8.8", FULCIO)


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A log of one's own that Sigstore's clients can name, a key, a model; the log is where we stand."""
    assert run(["ledger", "create", str(tmp_path / "log"), "--origin", "log.acme.example"]) == 0
    monkeypatch.chdir(tmp_path / "log")
    key = create(tmp_path / "k.pem", Algorithm.ECDSA_P256)
    (tmp_path / "k.pub").write_text(key.public.pem)
    (tmp_path / "model.onnx").write_bytes(b"weights" * 1000)
    (tmp_path / "filler").write_text("\n".join(map(str, range(5))))
    assert run(["ledger", "append", "--lines", str(tmp_path / "filler")]) == 0
    assert run(["sigstore", "trusted-root", "--out", str(tmp_path / "root.json")]) == 0
    return tmp_path


def said(*argv):
    """Run a client as a user would: whether it verifies, and its words."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=kit.ENV)
    return kit.Verdict(verified=done.returncode == 0, words=done.stdout + done.stderr)


def by_key(cosign, folder, bundle, *, file="model.onnx"):
    return said(
        cosign,
        "verify-blob",
        folder / file,
        "--bundle",
        bundle,
        "--trusted-root",
        folder / "root.json",
        "--key",
        folder / "k.pub",
    )


def test_cosign_verifies_our_bundle_and_its_log_entry_and_refuses_altered_ones(acme, cosign):
    assert run(["sigstore", "sign", str(acme / "model.onnx"), "--key", str(acme / "k.pem"), "--ledger"]) == 0
    bundle = acme / "model.onnx.sigstore.json"
    assert by_key(cosign, acme, bundle).verified
    (acme / "other.onnx").write_bytes(b"weights" * 999)
    assert not by_key(cosign, acme, bundle, file="other.onnx").verified
    for name in ALTERED:
        (acme / "altered.json").write_bytes(alter(bundle.read_bytes(), name))
        assert not by_key(cosign, acme, acme / "altered.json").verified, name


def test_cosign_refuses_the_entry_of_a_log_that_the_root_does_not_name(acme, cosign, monkeypatch):
    assert run(["ledger", "create", str(acme / "twin"), "--origin", "log.acme.example"]) == 0
    monkeypatch.chdir(acme / "twin")
    assert run(["sigstore", "sign", str(acme / "model.onnx"), "--key", str(acme / "k.pem"), "--ledger"]) == 0
    assert not by_key(cosign, acme, acme / "model.onnx.sigstore.json").verified


def test_cosign_and_sigstore_python_verify_a_certificate_logged_by_us(acme, cosign):
    sim = SimSigstore(acme / "sim")
    (acme / "k.crt").write_bytes(sim.certify(public_of(acme / "k.pem")))
    (acme / "fulcio.json").write_bytes(sim.trusted_root())
    assert run(["sigstore", "trusted-root", "--into", str(acme / "fulcio.json"), "--out", str(acme / "root.json")]) == 0
    bundle = acme / "model.onnx.sigstore.json"
    with serving(sim) as url:
        words = ["sigstore", "sign", str(acme / "model.onnx"), "--key", str(acme / "k.pem"), "--ledger", "--tsa", url]
        assert run([*words, "--certificate", str(acme / "k.crt")]) == 0
    assert_read_by_identity(acme, cosign, bundle, ISSUER)


def entries(bundle):
    return json.loads(bundle.read_bytes())["verificationMaterial"]["tlogEntries"]


def assert_read_by_identity(folder, cosign, bundle, issuer):
    """Both stock clients and ours take *bundle*, and none takes an altered one, another file or somebody else."""
    assert set(identity_readers(folder, cosign, bundle, issuer)) == {True}
    assert set(identity_readers(folder, cosign, bundle, issuer, subject="eve@acme.example")) == {False}
    assert set(identity_readers(folder, cosign, bundle, "https://accounts.evil.example")) == {False}
    (folder / "other.onnx").write_bytes(b"weights" * 999)
    assert set(identity_readers(folder, cosign, bundle, issuer, file="other.onnx")) == {False}
    assert sum(len(e["inclusionProof"]["hashes"]) for e in entries(bundle)) > 0
    for name in (*ALTERED, "the certificate", "the timestamp"):
        (folder / "altered.json").write_bytes(alter(bundle.read_bytes(), name))
        assert set(identity_readers(folder, cosign, folder / "altered.json", issuer)) == {False}, name


def identity_readers(folder, cosign, bundle, issuer, *, subject=SUBJECT, file="model.onnx"):
    root = folder / "root.json"
    who = ["--certificate-identity", subject, "--certificate-oidc-issuer", issuer]
    yield said(
        cosign,
        "verify-blob",
        folder / file,
        "--bundle",
        bundle,
        "--trusted-root",
        root,
        "--use-signed-timestamps",
        *who,
    ).verified
    yield said(BIN / "python", kit.HERE / "sigstore_bundle.py", folder / file, bundle, root, subject, issuer).verified
    words = ["sigstore", "verify", str(folder / file), "--bundle", str(bundle), "--trusted-root", str(root)]
    yield run([*words, "--identity", subject, "--issuer", issuer]) == 0


def test_exported_statements_and_packages_are_read_by_stock_tools(acme, cosign):
    subject = Subject("model.onnx", hash_file(acme / "model.onnx").sha256)
    key = create(acme / "k2.pem", Algorithm.ECDSA_P256)
    (acme / "k.pub").write_text(key.public.pem)
    statement = Statement(subjects=(subject,), predicate_type="https://acme.example/x", predicate={})
    (acme / "s.json").write_bytes(encode_envelope(sign(statement, [key, generate(Algorithm.ML_DSA_65)])))
    assert run(["sigstore", "export", str(acme / "s.json"), "--key", str(acme / "k.pub"), "--ledger"]) == 0
    attested = [cosign, "verify-blob-attestation", "--trusted-root", acme / "root.json", "--key", acme / "k.pub"]
    words = ["--bundle", acme / "s.json.sigstore.json", "--type", "https://acme.example/x", acme / "model.onnx"]
    assert said(*attested, *words).verified
    (acme / "other").write_bytes(b"other")
    assert not said(*attested, *words[:-1], acme / "other").verified
    (acme / "model").mkdir()
    shutil.copy(acme / "model.onnx", acme / "model")
    assert run(["sign", str(acme / "model"), "--key", str(acme / "k2.pem")]) == 0
    assert run(["sigstore", "export", str(acme / "model.sig"), "--key", str(acme / "k.pub"), "--ledger"]) == 0
    bundle = acme / "model.sig.sigstore.json"
    oms = [
        BIN / "model_signing",
        "verify",
        "key",
        acme / "model",
        "--signature",
        bundle,
        "--public_key",
        acme / "k.pub",
    ]
    assert said(*oms).verified
    payload = json.loads(b64decode(json.loads(bundle.read_bytes())["dsseEnvelope"]["payload"]))
    digest = ["--digest", payload["subject"][0]["digest"]["sha256"], "--digestAlg", "sha256"]
    assert said(*attested, "--bundle", bundle, "--type", payload["predicateType"], *digest).verified
    assert not said(*attested, "--bundle", bundle, "--type", payload["predicateType"], *wrong(digest)).verified


def wrong(digest):
    return [digest[0], Digest.of(b"other").hex, *digest[2:]]


def public_of(path):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(path.read_bytes(), None).public_key()


@contextmanager
def fulcio_running(program, folder, sim, issuer):
    """Run a Fulcio with the authority of *sim* that gives certificates to whom *issuer* vouches for; give its address."""
    secret = BestAvailableEncryption(b"test")
    (folder / "ca.pem").write_bytes(sim.ca_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    (folder / "ca.crt").write_bytes(sim.ca.public_bytes(Encoding.PEM))
    known = {issuer: {"IssuerURL": issuer, "ClientID": "sigstore", "Type": "email"}}
    (folder / "fulcio.yaml").write_text(json.dumps({"OIDCIssuers": known}))
    ports = [str(kit.free_port()) for _ in range(3)]
    argv = [program, "serve", "--ca=fileca", "--fileca-cert", folder / "ca.crt", "--fileca-key", folder / "ca.pem"]
    argv += [
        "--fileca-key-passwd=test",
        "--fileca-watch=false",
        "--config-path",
        folder / "fulcio.yaml",
        "--ct-log-url",
        issuer,
    ]
    argv += [
        "--host=127.0.0.1",
        "--grpc-host=127.0.0.1",
        "--port",
        ports[0],
        "--grpc-port",
        ports[1],
        "--metrics-port",
        ports[2],
    ]
    argv += ["--legacy-unix-domain-socket", f"@{folder.name}"]
    with kit.running(argv) as process:
        lines = []
        Thread(target=lambda: lines.extend(process.stdout), daemon=True).start()
        url = f"http://127.0.0.1:{ports[0]}"
        for _ in range(100):
            assert process.poll() is None, "".join(lines)
            try:
                with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield url


def config(root, **urls):
    """Return what tells Sigstore's clients where everything is."""

    def service(url, version):
        return [
            {"url": url, "majorApiVersion": version, "validFor": {"start": "2020-01-01T00:00:00Z"}, "operator": "acme"}
        ]

    signing = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": service(urls["fulcio"], 1),
        "oidcUrls": service(urls["issuer"], 1),
        "rekorTlogUrls": service(urls["rekor"], 2),
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaUrls": service(urls["issuer"] + "/tsa", 1),
        "tsaConfig": {"selector": "ANY"},
    }
    kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
    return json.dumps({"mediaType": kind, "trustedRoot": json.loads(root), "signingConfig": signing})


@pytest.fixture(scope="module")
def services(fulcio, rekor):
    return fulcio, rekor


def test_keyless_with_a_real_fulcio_and_a_real_rekor(tmp_path, services, cosign, capsys, monkeypatch):
    fulcio, rekor = services
    sim, log = SimSigstore(tmp_path / "sim"), generate(Algorithm.ED25519)
    root = trusted_root(rekor_key(ORIGIN, log.public), into=sim.trusted_root())
    (tmp_path / "root.json").write_bytes(root)
    (tmp_path / "model.onnx").write_bytes(b"weights" * 1000)
    words = [
        "sigstore",
        "sign",
        str(tmp_path / "model.onnx"),
        "--keyless",
        "--trust-config",
        str(tmp_path / "config.json"),
    ]
    with (
        serving(sim) as issuer,
        fulcio_running(fulcio, tmp_path, sim, issuer) as ca,
        rekor_running(rekor, tmp_path, log) as tlog,
    ):
        (tmp_path / "config.json").write_text(config(root, fulcio=ca, issuer=issuer, rekor=tlog))
        token = tmp_path / "token"
        token.touch(mode=0o600)
        token.write_text(sim.token(issuer))
        assert run([*words, "--identity-token", str(token), "--out", str(tmp_path / "first.json")]) == 0
        assert run([*words, "--identity-token", str(token)]) == 0
        monkeypatch.setenv("SIGSTORE_ID_TOKEN", sim.token(issuer, seconds=-100))
        capsys.readouterr()
        assert run([*words, "--out", str(tmp_path / "late.json")]) == 3
        forged = SimSigstore(tmp_path / "evil").token(issuer)
        monkeypatch.setenv("SIGSTORE_ID_TOKEN", forged)
        assert run([*words, "--out", str(tmp_path / "forged.json")]) == 3
        assert forged not in capsys.readouterr().err
        assert not (tmp_path / "forged.json").exists()
        assert not (tmp_path / "late.json").exists()
    assert_read_by_identity(tmp_path, cosign, tmp_path / "model.onnx.sigstore.json", issuer)


def test_what_cosign_signs_and_a_real_rekor_logs_is_verified_here(acme, cosign, rekor):
    sim, log = SimSigstore(acme / "sim"), generate(Algorithm.ED25519)
    root, bundle = acme / "root.json", acme / "b.json"
    root.write_bytes(trusted_root(rekor_key(ORIGIN, log.public), into=sim.trusted_root()))
    (acme / "predicate.json").write_text('{"accuracy": 0.97}')
    env = {**kit.ENV, "COSIGN_PASSWORD": "x"}

    def signed(*argv):
        subprocess.run([cosign, *argv], cwd=acme, check=True, capture_output=True, env=env, timeout=120)

    signed("import-key-pair", "--key", "k.pem", "--output-key-prefix", "c")
    words = ["--key", "c.key", "--bundle", bundle, "--signing-config", "signing.json", "--trusted-root", root, "-y"]
    statement = ["--predicate", "predicate.json", "--type", "https://acme.example/x"]
    with serving(sim) as issuer, rekor_running(rekor, acme, log) as url:
        settings = config(root.read_bytes(), fulcio=issuer, issuer=issuer, rekor=url)
        (acme / "signing.json").write_text(json.dumps(json.loads(settings)["signingConfig"]))
        for what in (["sign-blob"], ["attest-blob", *statement]):
            signed(*what, "model.onnx", *words)
            verify = [
                "sigstore",
                "verify",
                "--bundle",
                str(bundle),
                "--trusted-root",
                str(root),
                "--key",
                str(acme / "k.pub"),
            ]
            assert run([*verify, str(acme / "model.onnx")]) == 0
            assert run([*verify, str(acme / "filler")]) == 1
