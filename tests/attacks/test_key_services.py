# SPDX-License-Identifier: Apache-2.0
"""Key services over the network that lie, stall or are somebody else, and tokens that must not get lost."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chopmark.adapters.http import transit
from chopmark.adapters.kms import file as kms
from chopmark.adapters.kms import open_signer
from chopmark.errors import ChopmarkError, DecodeError, UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm
from simulators.vault import bao

MESSAGE = b"a statement"
TOKEN = "s.this-is-the-token"


def everything(error: BaseException | None) -> str:
    """All that an error and what caused it say to a person or to a log."""
    if error is None:
        return ""
    own = " ".join([error.message, error.hint, str(error.evidence)]) if isinstance(error, ChopmarkError) else ""
    return f"{error!r} {error} {own}"


# Transit engines: a server that answers whatever the test says


@contextmanager
def answering(answer):
    """Serve *answer*: (method, path, body) -> (status, bytes, headers), or something that writes to the socket itself."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.command, self.path, self.headers.get("X-Vault-Token")))
            found = answer(self.command, self.path, body)
            if callable(found):
                found(self)
                return
            status, data, headers = found
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = handle_any  # noqa: N815 - the names that http.server calls
        do_POST = handle_any  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


KEY = kms.generate(Algorithm.ECDSA_P256)
OTHER = kms.generate(Algorithm.ECDSA_P256)
EDWARDS = kms.generate(Algorithm.ED25519)


def key_answer(signer=KEY, **changed):
    public = signer.public
    text = public.pem if public.algorithm is Algorithm.ECDSA_P256 else base64.b64encode(public.raw).decode()
    data = {"type": str(public.algorithm), "latest_version": 1, "keys": {"1": {"public_key": text}}, "derived": False}
    return 200, json.dumps({"request_id": "x", "data": data | changed}).encode(), {}


def signed(signer, *, version=1):
    text = f"vault:v{version}:" + base64.b64encode(signer.sign(MESSAGE)).decode()
    return 200, json.dumps({"data": {"signature": text, "key_version": version}}).encode(), {}


@pytest.fixture
def use(monkeypatch):
    """Point the adapter at an address; it waits a second, and not half a minute."""
    monkeypatch.setattr(transit, "PATIENCE_S", 1.0)
    monkeypatch.setattr(transit, "READ_S", 1.0)

    def point(address):
        monkeypatch.setenv("BAO_ADDR", address)
        monkeypatch.setenv("BAO_TOKEN", TOKEN)

    return point


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(1 << 14):
            handler.wfile.write(b"x" * 65536)
    except OSError:
        handler.close_connection = True


def slow(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        for _ in range(1000):
            handler.wfile.write(b"x")
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True


BAD_SIGNATURES = {
    "another key": (lambda: signed(OTHER), VerificationError, "key-mismatch"),
    "another algorithm": (lambda: signed(EDWARDS), VerificationError, "key-mismatch"),
    "another version": (lambda: signed(KEY, version=2), DecodeError, "undecodable"),
    "garbage": (lambda: (200, b"\xff\x00garbage", {}), DecodeError, "undecodable"),
    "no signature": (lambda: (200, b'{"data":{"signature":"vault:v1:"}}', {}), VerificationError, "key-mismatch"),
    "no base64": (lambda: (200, b'{"data":{"signature":"vault:v1:!!"}}', {}), DecodeError, "undecodable"),
    "deep": (lambda: (200, b"[" * 100_000, {}), DecodeError, "undecodable"),
    "endless": (lambda: endless, DecodeError, "undecodable"),
    "slow": (lambda: slow, UndecidedError, "key-unavailable"),
    "redirect": (lambda: (307, b"", {"Location": "http://127.0.0.1:1/"}), UndecidedError, "key-unavailable"),
    "sealed": (lambda: (503, b'{"errors":["s.this-is-the-token"]}', {}), UndecidedError, "key-unavailable"),
    "forbidden": (lambda: (403, b'{"errors":["s.this-is-the-token"]}', {}), UndecidedError, "key-locked"),
    "gone": (lambda: (404, b"", {}), UndecidedError, "key-missing"),
}


@pytest.mark.parametrize("name", BAD_SIGNATURES)
def test_a_key_store_that_answers_with_something_else(name, use):
    answer, kind, code = BAD_SIGNATURES[name]
    with answering(lambda method, path, body: key_answer() if method == "GET" else answer()) as (address, seen):
        use(address)
        signer = open_signer("openbao:transit/k?version=1")
        start = time.monotonic()
        with pytest.raises(kind) as refused:
            signer.sign(MESSAGE)
        assert time.monotonic() - start < 10
    assert refused.value.code == code
    assert TOKEN not in everything(refused.value)
    assert TOKEN not in everything(refused.value.__cause__)
    assert len(seen) == 2  # nothing was followed or tried again


BAD_KEYS = {
    "another algorithm than it says": (lambda: key_answer(type="ed25519"), VerificationError),
    "rsa": (lambda: key_answer(type="rsa-4096"), UsageError),
    "derived": (lambda: key_answer(derived=True), UsageError),
    "no such version": (lambda: key_answer(keys={"2": {"public_key": "x"}}), UndecidedError),
    "symmetric": (lambda: key_answer(keys={"1": 1700000000}), UndecidedError),
    "no key": (lambda: key_answer(keys={"1": {"public_key": "x"}}), VerificationError),
    "a number": (lambda: (200, b"7", {}), DecodeError),
    "endless": (lambda: endless, DecodeError),
    "slow": (lambda: slow, UndecidedError),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_key_store_that_describes_no_key_of_ours(name, use):
    answer, kind = BAD_KEYS[name]
    with answering(lambda *_: answer()) as (address, _seen):
        use(address)
        with pytest.raises(kind) as refused:
            open_signer("openbao:transit/k?version=1")
    assert TOKEN not in everything(refused.value)


def test_a_token_is_not_sent_in_the_clear_or_to_a_stranger(monkeypatch, use):
    for address in (
        "http://vault.example:8200",
        "http://10.0.0.1:8200",
        "http://127.0.0.1.example",
        "ftp://localhost",
        "",
    ):
        use(address)
        monkeypatch.delenv("VAULT_ADDR", raising=False)
        with pytest.raises(UsageError):
            open_signer("openbao:transit/k")


def test_a_server_whose_certificate_nobody_vouches_for(use, tmp_path):
    """The handshake fails, and the token was not sent."""
    import ssl

    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            "k.pem",
            "-out",
            "c.pem",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    received = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            try:
                with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as wrapped:
                    received.append(wrapped.recv(1000))
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        use(f"https://localhost:{listener.getsockname()[1]}")
        with pytest.raises(UndecidedError) as refused:
            open_signer("openbao:transit/k")
        thread.join(5)
    assert refused.value.code == "key-unavailable"
    assert not any(received)


def test_no_server_at_all(use):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        use(f"http://127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(UndecidedError) as refused:
            open_signer("openbao:transit/k")
    assert refused.value.code == "key-unavailable"


# A real OpenBao


@pytest.fixture(scope="module")
def server():
    with bao() as running:
        yield running


def test_a_rotated_key_signs_with_the_version_that_was_named(server, monkeypatch):
    server.environment(monkeypatch)
    name = server.make("ed25519")
    pinned, newest = open_signer(f"openbao:transit/{name}?version=1"), open_signer(f"openbao:transit/{name}")
    server.ask("POST", f"transit/keys/{name}/rotate", {})
    for signer in (pinned, newest):
        assert signer.version == 1
        assert signer.public.verify(signer.sign(MESSAGE), MESSAGE)
    after = open_signer(f"openbao:transit/{name}")
    assert after.version == 2
    assert after.public != pinned.public
    server.ask("POST", f"transit/keys/{name}/config", {"min_encryption_version": 2})
    with pytest.raises(UndecidedError):  # the old version may sign no more
        pinned.sign(MESSAGE)


def test_a_token_that_may_only_look_does_not_sign(server, monkeypatch):
    name = server.make("ecdsa-p256")
    look = f'path "transit/keys/{name}" {{ capabilities = ["read"] }}'
    sign = f'path "transit/sign/{name}/sha2-256" {{ capabilities = ["update"] }}'
    server.environment(monkeypatch, token=server.token_for(look))
    with pytest.raises(UndecidedError) as locked:
        open_signer(f"openbao:transit/{name}").sign(MESSAGE)
    assert locked.value.code == "key-locked"
    server.environment(monkeypatch, token=server.token_for(look, sign))
    signer = open_signer(f"openbao:transit/{name}")
    assert signer.public.verify(signer.sign(MESSAGE), MESSAGE)
    server.environment(monkeypatch, token="s.nobody")
    with pytest.raises(UndecidedError) as locked:
        open_signer(f"openbao:transit/{name}")
    assert locked.value.code == "key-locked"
    assert "s.nobody" not in everything(locked.value)


@pytest.mark.parametrize("kind", ["rsa-2048", "aes256-gcm96", "ecdsa-p384"])
def test_a_key_of_another_kind_is_refused(server, monkeypatch, kind):
    server.environment(monkeypatch)
    with pytest.raises(UsageError):
        open_signer(f"openbao:transit/{server.make(kind)}")


def test_a_key_that_is_not_there(server, monkeypatch):
    server.environment(monkeypatch)
    for uri in ("openbao:transit/none", "openbao:nowhere/none", f"openbao:transit/{server.make('ed25519')}?version=9"):
        with pytest.raises(UndecidedError) as missing:
            open_signer(uri)
        assert missing.value.code == "key-missing"
        if "none" in uri:
            mount = uri.removeprefix("openbao:").removesuffix("/none")
            assert f"{mount}/keys/none" in missing.value.message
            assert missing.value.hint.endswith(f"bao list {mount}/keys")


def test_the_token_comes_from_a_file_of_its_owner(server, monkeypatch, tmp_path):
    server.environment(monkeypatch)
    monkeypatch.delenv("BAO_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    name = server.make("ed25519")
    with pytest.raises(UndecidedError) as locked:
        open_signer(f"openbao:transit/{name}")
    assert locked.value.code == "key-locked"
    (tmp_path / ".vault-token").write_text(server.token + "\n")
    (tmp_path / ".vault-token").chmod(0o600)
    assert open_signer(f"openbao:transit/{name}").sign(MESSAGE)
