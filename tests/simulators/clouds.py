# SPDX-License-Identifier: Apache-2.0
"""Imitations of Google's and Azure's key services, below the vendors' own SDKs: gRPC messages and HTTP answers, as documented.

They hold one P-256 key, and hash nothing: both services are sent digests.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from chopmark.adapters.kms import file as kms
from chopmark.keys import Algorithm

NAME = "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7"
_PREHASHED = ec.ECDSA(utils.Prehashed(hashes.SHA256()))


@contextmanager
def google(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a key over gRPC; yield its URI."""
    grpc = pytest.importorskip("grpc", reason="the SDKs of the clouds are in an environment of their own: make clouds")
    from google.cloud import kms as service
    from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceGrpcTransport
    from google.cloud.kms_v1.types import CryptoKeyVersion

    signer = kms.generate(Algorithm.ECDSA_P256)

    def public(request, _):
        assert request.name == NAME
        pem = service.ChecksummedData(data=signer.public.pem.encode())
        return service.PublicKey(
            public_key=pem, algorithm=CryptoKeyVersion.CryptoKeyVersionAlgorithm.EC_SIGN_P256_SHA256, name=NAME
        )

    def sign(request, _):
        assert request.name == NAME
        return service.AsymmetricSignResponse(signature=signer.private.sign(request.digest.sha256, _PREHASHED))

    def handler(call, asked, answered):
        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=asked.deserialize, response_serializer=answered.serialize
        )

    methods = {
        "GetPublicKey": handler(public, service.GetPublicKeyRequest, service.PublicKey),
        "AsymmetricSign": handler(sign, service.AsymmetricSignRequest, service.AsymmetricSignResponse),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    service_name = "google.cloud.kms.v1.KeyManagementService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    real = service.KeyManagementServiceClient
    patch.setattr(
        service,
        "KeyManagementServiceClient",
        lambda: real(transport=KeyManagementServiceGrpcTransport(channel=channel)),
    )
    try:
        yield "gcpkms:" + NAME
    finally:
        channel.close()
        server.stop(None)


@contextmanager
def azure(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Answer for a vault below Azure's HTTP pipeline; yield a key's URI."""
    reason = "the SDKs of the clouds are in an environment of their own: make clouds"
    pytest.importorskip("azure.keyvault.keys", reason=reason)
    import azure.identity
    import azure.keyvault.keys
    import securesystemslib.signer._azure_signer as theirs
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.transport import RequestsTransport
    from requests import Response
    from requests.adapters import BaseAdapter

    signer, version = kms.generate(Algorithm.ECDSA_P256), secrets.token_hex(16)
    host = "chopmark-test.vault.azure.net"
    kid = f"https://{host}/keys/packager/{version}"
    numbers = signer.private.public_key().public_numbers()

    def url64(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    def answer(method: str, path: str, body: bytes, token: str | None) -> tuple[int, dict[str, str], object]:
        if token is None:
            where = 'Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"'
            return 401, {"WWW-Authenticate": where}, {}
        assert token == "Bearer let-me-in"
        if (method, path) == ("GET", f"/keys/packager/{version}"):
            x, y = url64(numbers.x.to_bytes(32)), url64(numbers.y.to_bytes(32))
            jwk = {"kid": kid, "kty": "EC", "crv": "P-256", "x": x, "y": y, "key_ops": ["sign", "verify"]}
            return 200, {}, {"key": jwk, "attributes": {"enabled": True}}
        assert (method, path) == ("POST", f"/keys/packager/{version}/sign")
        asked = json.loads(body)
        assert asked["alg"] == "ES256"
        digest = base64.urlsafe_b64decode(asked["value"] + "==")
        r, s = utils.decode_dss_signature(signer.private.sign(digest, _PREHASHED))
        return 200, {}, {"kid": kid, "value": url64(r.to_bytes(32) + s.to_bytes(32))}

    class Wire(BaseAdapter):
        def send(self, request, **_):
            path = request.url.removeprefix(f"https://{host}").partition("?")[0]
            status, headers, body = answer(
                request.method, path, request.body or b"", request.headers.get("Authorization")
            )
            made = Response()
            made.status_code, made.url, made.request = status, request.url, request
            made.headers.update({"Content-Type": "application/json", **headers})
            made._content = json.dumps(body).encode()
            made.raw = _Raw(made._content)
            return made

        def close(self):
            pass

    class Credential:
        def get_token(self, *_scopes, **_):
            return AccessToken("let-me-in", 1 << 40)

        def close(self):
            pass

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

    def transport():
        made = RequestsTransport()
        made.open()
        made.session.mount("https://", Wire())
        return made

    keys = azure.keyvault.keys.KeyClient
    crypto = theirs.CryptographyClient
    patch.setattr(azure.identity, "DefaultAzureCredential", Credential)
    patch.setattr(theirs, "DefaultAzureCredential", Credential)
    patch.setattr(azure.keyvault.keys, "KeyClient", lambda *a, **k: keys(*a, transport=transport(), **k))
    patch.setattr(theirs, "CryptographyClient", lambda *a, **k: crypto(*a, transport=transport(), **k))
    yield kid.replace("https:", "azurekms:")


class _Raw:
    """What requests reads a body from."""

    def __init__(self, data: bytes) -> None:
        self.read = partial(next, iter([data]), b"")
        self.enforce_content_length = False

    def stream(self, *_, **__):
        yield self.read()

    def close(self):
        pass

    release_conn = close
