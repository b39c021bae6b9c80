# SPDX-License-Identifier: Apache-2.0
"""A private Sigstore: a Fulcio's authority, a CT log's key, a timestamp authority (openssl's), an issuer of identity tokens.

Certificates, SCTs, timestamps and tokens are real; only who asks for them is not checked. Servers listen on loopback.
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from simulators.oms import SIGNS

SUBJECT = "ci@acme.example"
ISSUER = "https://accounts.acme.example"
_OLD_ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_SCT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_START = "2020-01-01T00:00:00Z"
_TSA_CONFIG = """
[tsa]
default_tsa = t
[t]
serial = {folder}/serial
digests = sha256, sha512
default_policy = 1.2.3.4
signer_digest = sha256
ess_cert_id_alg = sha256
accuracy = secs:1
"""


def name(text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "acme"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
    )


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authority(text: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name(text))
        .issuer_name(name(text))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


class SimSigstore:
    """The keys of a private Sigstore, and what they sign."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        keys = (ec.generate_private_key(ec.SECP256R1()) for _ in range(5))
        self.ca_key, self.ct_key, self.tsa_root_key, self.tsa_key, self.issuer_key = keys
        self.ca = authority("fulcio", self.ca_key)
        self.tsa_root = authority("tsa root", self.tsa_root_key)
        self.tsa = self._tsa_certificate()
        (folder / "tsa.pem").write_bytes(pem(self.tsa_key))
        (folder / "tsa.crt").write_bytes(self.tsa.public_bytes(Encoding.PEM))
        (folder / "tsa.cnf").write_text(_TSA_CONFIG.format(folder=folder))
        (folder / "serial").write_text("01")

    def _tsa_certificate(self) -> x509.Certificate:
        now = datetime.now(UTC)
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        return (
            x509.CertificateBuilder()
            .subject_name(name("tsa"))
            .issuer_name(self.tsa_root.subject)
            .public_key(self.tsa_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(SIGNS, critical=True)
            .add_extension(purpose, critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.tsa_root_key.public_key()), critical=False
            )
            .sign(self.tsa_root_key, hashes.SHA256())
        )

    def certify(self, public: ec.EllipticCurvePublicKey, *, subject: str = SUBJECT, issuer: str = ISSUER) -> bytes:
        """Return the certificate (PEM) that a Fulcio would give, with the SCT of its CT log."""
        now = datetime.now(UTC)
        text = issuer.encode()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.ca.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(minutes=10))
            .add_extension(SIGNS, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(subject)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_OLD_ISSUER_OID, text), critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_OID, bytes([12, len(text)]) + text), critical=False)
        )
        without = builder.sign(self.ca_key, hashes.SHA256())
        sct = self.sct(without.tbs_certificate_bytes)
        listed = struct.pack(">HH", len(sct) + 2, len(sct)) + sct
        octets = bytes([4, 0x81, len(listed)] if len(listed) > 127 else [4, len(listed)]) + listed
        certificate = builder.add_extension(x509.UnrecognizedExtension(_SCT_OID, octets), critical=False)
        return certificate.sign(self.ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def sct(self, tbs: bytes) -> bytes:
        """Return the CT log's promise about a certificate to be signed (RFC 6962, 3.2)."""
        at, signature = self._promise(tbs)
        head = b"\x00" + self.ct_id + struct.pack(">QH", at, 0)
        return head + b"\x04\x03" + struct.pack(">H", len(signature)) + signature

    @property
    def ct_id(self) -> bytes:
        return hashlib.sha256(der(self.ct_key)).digest()

    def _promise(self, tbs: bytes) -> tuple[int, bytes]:
        at = int(time.time() * 1000)
        issuer = hashlib.sha256(der(self.ca_key)).digest()
        body = struct.pack(">BBQH", 0, 0, at, 1) + issuer + len(tbs).to_bytes(3, "big") + tbs + b"\x00\x00"
        return at, self.ct_key.sign(body, ec.ECDSA(hashes.SHA256()))

    def timestamp(self, query: bytes) -> bytes:
        """Answer an RFC 3161 query, as openssl does."""
        (self.folder / "query").write_bytes(query)
        argv = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-section", "t", "-queryfile", "query"]
        argv += ["-signer", "tsa.crt", "-inkey", "tsa.pem", "-out", "reply"]
        subprocess.run(argv, cwd=self.folder, check=True, capture_output=True)
        return (self.folder / "reply").read_bytes()

    def trusted_root(self) -> bytes:
        """Return its trusted root, without a log."""
        valid = {"start": _START}

        def chain(text: str, *certificates: x509.Certificate) -> dict[str, object]:
            raws = [{"rawBytes": b64encode(c.public_bytes(Encoding.DER)).decode()} for c in certificates]
            subject = {"organization": "acme", "commonName": text}
            return {
                "subject": subject,
                "uri": f"https://{text}.acme.example",
                "certChain": {"certificates": raws},
                "validFor": valid,
            }

        public = {
            "rawBytes": b64encode(der(self.ct_key)).decode(),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": valid,
        }
        ct = {"baseUrl": "https://ct.acme.example", "hashAlgorithm": "SHA2_256", "publicKey": public}
        ct["logId"] = {"keyId": b64encode(self.ct_id).decode()}
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "certificateAuthorities": [chain("fulcio", self.ca)],
            "ctlogs": [ct],
            "timestampAuthorities": [chain("tsa", self.tsa, self.tsa_root)],
        }
        return json.dumps(root).encode()

    def token(self, issuer: str, *, subject: str = SUBJECT, seconds: int = 300) -> str:
        """Return the identity token of *subject*, valid for *seconds*."""
        now = int(time.time())
        claims: dict[str, object] = {"iss": issuer, "aud": "sigstore", "sub": subject, "iat": now, "exp": now + seconds}
        claims |= {"email": subject, "email_verified": True}
        parts = [json.dumps(part).encode() for part in ({"alg": "ES256", "kid": "k", "typ": "JWT"}, claims)]
        text = ".".join(_url64(part) for part in parts)
        r, s = decode_dss_signature(self.issuer_key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_url64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def answer_issuer(self, issuer: str, path: str) -> bytes:
        """Answer who asks for the issuer's configuration, or its keys."""
        if path.endswith("/keys"):
            point = self.issuer_key.public_key().public_numbers()
            x, y = (_url64(value.to_bytes(32, "big")) for value in (point.x, point.y))
            key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k", "x": x, "y": y}
            return json.dumps({"keys": [key]}).encode()
        found = {"issuer": issuer, "jwks_uri": f"{issuer}/keys", "response_types_supported": ["id_token"]}
        found |= {"authorization_endpoint": f"{issuer}/auth", "token_endpoint": f"{issuer}/token"}
        found |= {"subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]}
        return json.dumps(found).encode()

    def answer_ct(self, request: bytes) -> bytes:
        """Answer ``add-pre-chain``: promise the certificate that the poisoned one stands for."""
        poisoned = x509.load_der_x509_certificate(b64decode(json.loads(request)["chain"][0]))
        at, signature = self._promise(without_poison(poisoned.tbs_certificate_bytes))
        signed = b"\x04\x03" + struct.pack(">H", len(signature)) + signature
        answer = {"sct_version": 0, "id": b64encode(self.ct_id).decode(), "timestamp": at, "extensions": ""}
        return json.dumps({**answer, "signature": b64encode(signed).decode()}).encode()


_POISON = bytes.fromhex("3013060a2b06010401d6790204030101ff04020500")


def without_poison(tbs: bytes) -> bytes:
    """Return a certificate to be signed without the extension that keeps a pre-certificate from being used (RFC 6962, 3.1)."""
    assert tbs.count(_POISON) == 1
    body = tbs[_head(tbs) :]
    at = next(i for i in range(len(body)) if body[i] == 0xA3 and i + _head(body[i:]) + _length(body[i:]) == len(body))
    wrapped = body[at + _head(body[at:]) :]
    extensions = wrapped[_head(wrapped) :].replace(_POISON, b"")
    return _der(0x30, body[:at] + _der(0xA3, _der(0x30, extensions)))


def _head(data: bytes) -> int:
    return 2 + (data[1] & 0x7F if data[1] > 0x7F else 0)


def _length(data: bytes) -> int:
    return int.from_bytes(data[2 : _head(data)], "big") if data[1] > 0x7F else data[1]


def _der(tag: int, body: bytes) -> bytes:
    size = len(body).to_bytes(2, "big") if len(body) > 255 else bytes([len(body)])
    return bytes([tag, *([0x80 | len(size)] if len(body) > 127 else []), *size]) + body


def _url64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def serving(sim: SimSigstore) -> Iterator[str]:
    """Serve timestamps, the CT log (``/ct/v1/add-pre-chain``) and the issuer on loopback; give the address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            request = self.rfile.read(int(self.headers["Content-Length"]))
            ct = self.path.endswith("/add-pre-chain")
            body = sim.answer_ct(request) if ct else sim.timestamp(request)
            self._answer(body, "application/json" if ct else "application/timestamp-reply")

        def do_GET(self) -> None:
            issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
            self._answer(sim.answer_issuer(issuer, self.path), "application/json")

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
