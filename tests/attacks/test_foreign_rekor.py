# SPDX-License-Identifier: Apache-2.0
"""A real Rekor v2 (rekor-tiles, its POSIX backend) logs what we sign; Sigstore's clients read what we log.

Readers, neither of them ours: sigstore-python, and the verifier of rekor-tiles (Go). Each is also shown damaged entries.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import urllib.request
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attacks.foreign import kit
from chopmark.adapters.blobs.logfiles import FolderLog
from chopmark.adapters.http.rekor import HttpRekor
from chopmark.adapters.kms.file import generate
from chopmark.apps.cli.main import run
from chopmark.artifacts import Digest
from chopmark.errors import Refused, VerificationError
from chopmark.keys import Algorithm
from chopmark.ledger import VerifierKey, WitnessPolicy, verify_checkpoint
from chopmark.ledger.rekor import HashedRekord, LogEntry, record_signature, rekor_key, submit, verify_entry
from chopmark.ledger.static import StaticLog
from chopmark.statements import Statement, Subject, encode_envelope, sign
from unit.ledger.kit import make_witness

pytestmark = pytest.mark.slow

ORIGIN = "rekor.test"
NONE = WitnessPolicy.parse("quorum none\n")
SERVER = "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix"
BUILT = Path(__file__).resolve().parents[2] / "build" / "rekor-tiles-2.3.0"
P256 = generate(Algorithm.ECDSA_P256)


@pytest.fixture(scope="module")
def programs():
    """The server and the reader, built once for this checkout: they are large."""
    if not (BUILT / "bin" / "posix").exists():
        building = BUILT.with_name(f"{BUILT.name}.{os.getpid()}")
        building.mkdir(parents=True)
        try:
            kit.install_go(building, packages=[".", SERVER], source=kit.HERE / "rekor")
            if not BUILT.exists():
                building.rename(BUILT)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return BUILT / "bin"


@pytest.fixture(scope="module")
def sigstore_bin(tmp_path_factory):
    return kit.install_python(tmp_path_factory.mktemp("sigstore") / "venv", packages=["sigstore==4.5.1"])


@contextmanager
def rekor_running(programs, folder, signer, *, policy=None):
    """Run rekor-tiles on loopback; give its address. Its files are below ``folder / "log"``."""
    pem = signer.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "log.pem").write_bytes(pem)
    (folder / "log.pub").write_text(signer.public.pem)
    ports = [kit.free_port() for _ in range(3)]
    argv = [programs / "posix", "serve", f"--hostname={ORIGIN}", f"--storage-dir={folder / 'log'}"]
    argv += [f"--signer-filepath={folder / 'log.pem'}", "--checkpoint-interval=1s", "--persistent-antispam=true"]
    names = ("http-port", "grpc-port", "http-metrics-port")
    argv += [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    if policy is not None:
        (folder / "witnesses.txt").write_text(policy)
        argv.append(f"--witness-policy-path={folder / 'witnesses.txt'}")
    with kit.running(argv) as process:
        Thread(target=process.stdout.read, daemon=True).start()  # it talks; nobody may have to wait for that
        url = f"http://127.0.0.1:{ports[0]}"
        wait_until_it_serves(url, process)
        yield url


def wait_until_it_serves(url, process):
    for _ in range(100):
        assert process.poll() is None, "rekor-tiles ended"
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    pytest.fail("rekor-tiles does not serve")


def record(message, signer=P256):
    return record_signature(message, signer.sign(message), signer.public)


PURE = {"PKIX_ED25519": Algorithm.ED25519, "ML_DSA_65": Algorithm.ML_DSA_65}


def pure_request(name, signer):
    """What asks Rekor to log a signature over the message itself; we never do."""
    verifier = {"keyDetails": name, "publicKey": {"rawBytes": b64encode(signer.public.spki).decode()}}
    signature = {"content": b64encode(signer.sign(b"m")).decode(), "verifier": verifier}
    digest = b64encode(hashlib.sha256(b"m").digest()).decode()
    return json.dumps({"hashedRekordRequestV002": {"digest": digest, "signature": signature}}).encode()


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.ECDSA_P256])
def test_a_real_rekor_logs_what_we_sign(algorithm, programs, sigstore_bin, tmp_path):
    signer = generate(algorithm)
    key, files = rekor_key(ORIGIN, signer.public), FolderLog(tmp_path / "log")
    with rekor_running(programs, tmp_path, signer) as url:
        client = HttpRekor(url)
        records = [record(b"%d" % n) for n in range(3)]
        made = [submit(one, client, files, key=key, policy=NONE) for one in records]
        assert [(done.entry.index, done.new) for done in made] == [(0, True), (1, True), (2, True)]
        again = submit(records[1], client, files, key=key, policy=NONE)
        assert (again.entry.index, again.new, again.included.checkpoint.size) == (1, False, 3)
        with pytest.raises(VerificationError) as refused:
            submit(
                HashedRekord(digest=bytes(32), signature=b"0", verifier=P256.public.spki),
                client,
                files,
                key=key,
                policy=NONE,
            )
        assert refused.value.code == "not-accepted"
        for name, other in PURE.items():
            assert client.create_entry(pure_request(name, generate(other))).status >= 400, name
    with rekor_running(programs, tmp_path, signer) as url:  # it remembers after a restart
        assert not submit(records[0], HttpRekor(url), files, key=key, policy=NONE).new
    note = files.find("checkpoint", max_bytes=10_000)
    checkpoint = verify_checkpoint(note, origin=ORIGIN, require=[key], policy=NONE).checkpoint
    assert list(StaticLog(files, checkpoint).entries(0, 3)) == [one.encode() for one in records]
    for done in (*made, again):
        (tmp_path / "entry.json").write_bytes(done.entry.encode())
        assert all(reads(programs, sigstore_bin, tmp_path / "entry.json", tmp_path / "log.pub", ORIGIN).values())


def test_an_altered_tile_is_noticed_when_an_entry_is_looked_up(programs, tmp_path):
    signer = generate(Algorithm.ED25519)
    key, files = rekor_key(ORIGIN, signer.public), FolderLog(tmp_path / "log")
    with rekor_running(programs, tmp_path, signer) as url:
        one = record(b"one")
        submit(one, HttpRekor(url), files, key=key, policy=NONE)
        bundle = tmp_path / "log/tile/entries/000.p/1"
        bundle.write_bytes(bundle.read_bytes().replace(b"hashedrekord", b"hashedrekorD"))
        with pytest.raises(VerificationError) as refused:
            submit(one, HttpRekor(url), files, key=key, policy=NONE)
        assert refused.value.code == "log-altered"


@contextmanager
def witness_serving(witness):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            answer = witness.add_checkpoint(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.end_headers()
            self.wfile.write(answer.body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_our_witness_cosigns_it_and_the_quorum_is_required(programs, tmp_path):
    signer = generate(Algorithm.ED25519)
    key, files = rekor_key(ORIGIN, signer.public), FolderLog(tmp_path / "log")
    witness = make_witness("w.example", [key], origin=ORIGIN)
    vkey = witness.verifier_keys[0].encode()
    ours = WitnessPolicy.parse(f"witness w {vkey}\nquorum w\n")
    one = record(b"seen")
    with witness_serving(witness) as at:
        policy = f"witness w {vkey} {at}\nquorum w\n"
        with rekor_running(programs, tmp_path, signer, policy=policy) as url:
            done = submit(one, HttpRekor(url), files, key=key, policy=ours)
    assert done.included.cosigned_by == ("w",)
    stranger = make_witness("w.example", [key], origin=ORIGIN).verifier_keys[0]
    policy = WitnessPolicy.parse(f"witness w {stranger.encode()}\nquorum w\n")
    with pytest.raises(Refused) as refused:
        verify_entry(done.entry, one.encode(), origin=ORIGIN, require=[key], policy=policy)
    assert refused.value.code == "log-unwitnessed"


def reads(programs, sigstore_bin, entry, key, origin):
    """What each foreign reader says of *entry*."""
    return {
        "sigstore-python": kit.run(sigstore_bin / "python", kit.HERE / "sigstore_entry.py", entry, key).verified,
        "rekor-tiles": kit.run(programs / "foreign-rekor", entry, key, origin).verified,
    }


def resign(entry):
    checkpoint = entry["inclusionProof"]["checkpoint"]
    head, dash, line = checkpoint["envelope"].partition("— ")
    checkpoint["envelope"] = head + dash + line.replace(line[60:64], "AAAA", 1)


DAMAGE = {
    "the body": lambda e: e.update(canonicalizedBody=e["canonicalizedBody"][:-8] + "AAAAAAAA"),
    "the index": lambda e: (e.update(logIndex="0"), e["inclusionProof"].update(logIndex="0")),
    "a hash": lambda e: e["inclusionProof"]["hashes"].__setitem__(0, e["logId"]["keyId"]),
    "a hash too many": lambda e: e["inclusionProof"]["hashes"].append(e["logId"]["keyId"]),
    "the log's signature": resign,
}


def test_sigstore_clients_read_an_entry_of_our_own_log(programs, sigstore_bin, tmp_path, monkeypatch, capsys):

    log = tmp_path / "acme-log"
    assert run(["ledger", "create", str(log), "--origin", "log.acme/models"]) == 0
    monkeypatch.chdir(log)
    statement = Statement(subjects=(Subject("model/m", Digest.of(b"")),), predicate_type="https://acme/x", predicate={})
    (log / "filler").write_text("\n".join(map(str, range(300))))
    (log / "s.json").write_bytes(encode_envelope(sign(statement, [P256])))
    (log / "p256.pub").write_text(P256.public.pem)
    assert run(["ledger", "append", "--lines", "filler"]) == 0
    assert run(["ledger", "rekor", "append", "s.json", "--key", "p256.pub"]) == 0
    assert run(["ledger", "rekor", "verify", "s.json", "--key", "p256.pub"]) == 0
    assert run(["ledger", "rekor", "entry", "300", "--out", "300.tle.json"]) == 0
    assert "entry 300 of 301 in log.acme/models" in capsys.readouterr().out
    vkeys = [
        VerifierKey.decode(line.split()[1]) for line in (log / "policy.txt").read_text().splitlines() if "log " in line
    ]
    (log / "log.pub").write_text(vkeys[0].public.pem)
    entry = log / f"s.json.{P256.public.keyid[:8]}.tle.json"
    assert entry.read_bytes() == (log / "300.tle.json").read_bytes()
    assert LogEntry.decode(entry.read_bytes()).log_id == vkeys[0].key_hash
    assert all(reads(programs, sigstore_bin, entry, log / "log.pub", "log.acme/models").values())
    for name, damage in DAMAGE.items():
        altered = json.loads(entry.read_bytes())
        damage(altered)
        (log / "altered.json").write_text(json.dumps(altered))
        said = reads(programs, sigstore_bin, log / "altered.json", log / "log.pub", "log.acme/models")
        assert not any(said.values()), name
