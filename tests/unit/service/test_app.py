# SPDX-License-Identifier: Apache-2.0
"""The three configurations as processes: wired, listening, stopped."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from litestar.testing import TestClient

from chopmark.apps.service import wiring
from chopmark.apps.service.main import main
from chopmark.artifacts import Digest, write_file
from chopmark.channel.status import revocation
from chopmark.errors import UndecidedError, UsageError
from chopmark.ledger import Checkpoint, decode_lines, decode_note, verify_lines, witness_key
from chopmark.ledger.witness import encode_request
from chopmark.statements import encode_envelope, sign
from simulators import NOW
from unit.fleet.kit import ORIGIN
from unit.service.kit import found_workspace, running


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    return found_workspace(tmp_path_factory.mktemp("acme"))


def test_the_service_as_a_process(founded, tmp_path):
    folder = founded.workspace.folder
    write_file(founded.workspace.published / "metadata/timestamp.json", b"{}")
    port_file = tmp_path / "port"
    argv = ("service", "--workspace", str(folder), "--create", "--port-file", str(port_file))
    with running(*argv) as (process, url):
        assert url == f"http://127.0.0.1:{port_file.read_text().strip()}"
        http = urllib3.PoolManager(retries=False)
        assert http.request("GET", f"{url}/channel/metadata/timestamp.json").data == b"{}"
        checkpoint = http.request("GET", f"{url}/ledger/checkpoint")
        assert Checkpoint.decode(decode_note(checkpoint.data).text).size == 3
        assert len(http.request("GET", f"{url}/ledger/tile/0/000.p/3").data) == 3 * 32
        assert http.request("GET", f"{url}/v1/devices").json() == {"devices": []}
        for path in ("/channel/../keys/log/ed25519.pem", "/channel/%2e%2e/fleet.db", "/channel/..%2ffleet.db"):
            assert http.request("GET", url + path).status == 404
        head = http.request("HEAD", f"{url}/channel/metadata/timestamp.json")
        assert (head.status, head.data, head.headers["content-length"]) == (200, b"", "2")
        assert "server" not in head.headers
        http.clear()
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert not port_file.exists()
    token = founded.workspace.token_file
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_tls_below_1_3_is_refused(founded, tmp_path):
    cert, key = certificate(tmp_path)
    argv = ("security", "--workspace", str(founded.workspace.folder), "--create", "--certificate", cert, "--key", key)
    with running(*argv) as (_, url):
        assert url.startswith("https://")
        old = ssl.create_default_context(cafile=cert)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        here = urllib3.util.parse_url(url)
        with socket.create_connection((here.host, here.port)) as raw, pytest.raises(ssl.SSLError):
            old.wrap_socket(raw, server_hostname=here.host)
        context = ssl.create_default_context(cafile=cert)
        with urllib3.PoolManager(retries=False, ssl_context=context) as http:
            answer = http.request("GET", f"{url}/status.json", headers={"Connection": "close"})
            assert (answer.status, answer.headers["cache-control"]) == (200, "no-cache")


def test_a_witness_cosigns_and_remembers(founded):
    app = wiring.witness(founded.workspace, name="witness-1", create=True)
    note = founded.ledger.signed_checkpoint()
    key = witness_key("witness-1", founded.keys["witness-1"][0].public)
    with TestClient(app) as client:
        answer = client.post("/add-checkpoint", content=encode_request(0, (), note))
        assert answer.status_code == 200
        assert verify_lines(decode_note(note).text, decode_lines(answer.text), [key])
        again = client.post("/add-checkpoint", content=encode_request(0, (), note))
        assert (again.status_code, again.text) == (409, "3\n")
        assert again.headers["content-type"].startswith("text/x.tlog.size")
        assert client.post("/add-checkpoint", content=b"x").status_code == 400
        assert client.post("/add-checkpoint", content=b"x" * 1_100_000).json()["code"] == "too-large"
        newest = client.get(f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint")
        assert newest.status_code == 200
        assert client.get("/nothing/checkpoint").status_code == 404


def test_the_security_host_takes_what_two_people_signed(founded, tmp_path):
    app = wiring.security(founded.workspace, create=True, interval=timedelta(hours=4))
    statement = revocation(
        workspace="acme", model="digits", kind="release", digest=Digest.of(b"bad"), reason="backdoor", since=NOW
    )
    both = [*founded.keys["security-a"], *founded.keys["security-b"]]
    with TestClient(app) as client:
        before = json.loads(client.get("/status.json").content)["signed"]["version"]
        one = client.post("/statements", content=encode_envelope(sign(statement, both[:2])))
        assert (one.status_code, one.json()["code"]) == (403, "statement-unsigned")
        two = client.post("/statements", content=encode_envelope(sign(statement, both)))
        assert two.json() == {"version": before + 1, "changed": True}
        status = json.loads(client.get("/status.json").content)["signed"]
        assert status["version"] == before + 1
        assert status["x-chopmark"]["revoked"][0]["release"] == str(Digest.of(b"bad"))
        assert client.post("/statements", content=b"x" * 300_000).status_code == 413


def test_what_remembers_the_past_is_not_begun_unasked(tmp_path):
    made = found_workspace(tmp_path).workspace
    with pytest.raises(UndecidedError):
        wiring.service(made, create=False, paths=wiring.ServicePaths())
    with pytest.raises(UndecidedError):
        wiring.witness(made, name="witness-1", create=False)
    with pytest.raises(UndecidedError):
        wiring.security(made, create=False, interval=timedelta(hours=4))
    with pytest.raises(UsageError):
        wiring.witness(made, name="../x", create=True)


def test_a_token_that_others_may_read_is_refused(tmp_path):
    made = found_workspace(tmp_path).workspace
    write_file(made.token_file, b"t" * 32, mode=0o644)
    with pytest.raises(UsageError, match="others may read"):
        wiring.service(made, create=True, paths=wiring.ServicePaths())


def test_what_cannot_be_started_is_said(founded, tmp_path):
    here = str(founded.workspace.folder)
    with pytest.raises(UsageError):
        main(["service", "--workspace", str(tmp_path)])
    with pytest.raises(UsageError) as beyond_this_machine:
        main(["security", "--workspace", here, "--create", "--host", "0.0.0.0"])  # noqa: S104
    assert beyond_this_machine.value.hint.startswith("give --certificate")
    with pytest.raises(UsageError):
        main(["security", "--workspace", here, "--port", "99999"])
    with pytest.raises(UndecidedError):
        main(["witness", "--workspace", here, "--name", "witness-9", "--create"])


def test_the_command_line_shows_an_error_of_the_service_as_any_other(tmp_path, capsys):
    from chopmark.apps.cli.main import run

    assert run(["--workspace", str(tmp_path), "serve"]) == 2
    assert "error no-workspace: " in capsys.readouterr().err


def test_the_newest_snapshot_is_read_from_what_is_published(tmp_path):
    assert wiring.snapshot_version(tmp_path) == 0
    for content, version in ((b"{}", 0), (b'{"signed":{"meta":{"snapshot.json":{"version":12}}}}', 12), (b"[1]", 0)):
        write_file(tmp_path / "metadata/timestamp.json", content)
        assert wiring.snapshot_version(tmp_path) == version
