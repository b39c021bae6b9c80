# SPDX-License-Identifier: Apache-2.0
"""Keys in the transit engine of OpenBao or Vault: ``openbao:MOUNT/KEY?version=N``, ``hashivault:…``.

Where the server is and what lets one in comes from the variables that its own command line reads, ``BAO_`` before
``VAULT_``: ``ADDR``, ``TOKEN``, ``NAMESPACE``; or from a file that holds the token (``?token-file=PATH``, mode 0600, else
``~/.vault-token``). A token is sent over TLS, or to this machine; it never shows in an error. Private authorities are
named as OpenSSL wants it (``SSL_CERT_FILE``).

One version of the key signs: that of the URI, or the newest when it was opened. Rotating the key changes nothing until
somebody names the new one, since trust.json does not know it yet.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from chopmark.adapters.http.client import Client
from chopmark.artifacts import read_secret
from chopmark.canonical import decode_base64, encode_base64
from chopmark.errors import DecodeError, UndecidedError, UsageError, foreign
from chopmark.keys import Algorithm, Passphrase, PublicKey, Signer, read_public_key

MAX_ANSWER_BYTES: Final = 256 * 1024
"""Of a key with all its versions; a signature is far shorter."""

READ_S: Final = 15.0
PATIENCE_S: Final = 30.0
_MAX_TOKEN_BYTES: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_T = TypeVar("_T")
_KINDS: Final = {"ed25519": Algorithm.ED25519, "ecdsa-p256": Algorithm.ECDSA_P256}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitUri:
    """What an ``openbao:`` URI says.

    Attributes:
        mount, key: of the engine, and in it.
        version: None for the newest when it is opened.
        token_file: holds the token; None where a variable or ``~/.vault-token`` does.
    """

    mount: str
    key: str
    version: int | None
    token_file: Path | None


def parse_uri(uri: str) -> TransitUri:
    """Read an ``openbao:`` or ``hashivault:`` URI.

    Raises:
        UsageError: it names no mount and key, or says what is not understood.
    """
    scheme, _, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    mount, _, key = unquote(path).strip("/").rpartition("/")
    said = parse_qsl(query, keep_blank_values=True)
    options = dict(said)
    version = options.get("version")
    names = [*mount.split("/"), key]
    if (
        not all(_NAME.fullmatch(name) and name not in {".", ".."} for name in names)
        or len(options) != len(said)
        or set(options) - {"version", "token-file"}
        or (version is not None and not re.fullmatch(r"[1-9][0-9]{0,8}", version))
    ):
        raise UsageError(f"{scheme}: names no mount and key", hint=f"{scheme}:transit/KEY?version=1")
    file = options.get("token-file")
    return TransitUri(
        mount=mount,
        key=key,
        version=None if version is None else int(version),
        token_file=None if file is None else Path(file),
    )


def open_transit(uri: str, passphrase: Passphrase | None) -> TransitSigner:  # noqa: ARG001 - a token is no passphrase
    """Open the key that the URI names.

    Raises:
        UsageError: the URI, the address or the key is not usable.
        UndecidedError: no such key (``key-missing``), the token does not open it (``key-locked``), or the server cannot
            be reached (``key-unavailable``).
        DecodeError: the server answered with something else.
    """
    named = parse_uri(uri)
    address = _variable("ADDR")
    if not address:
        raise UsageError("no server is named", hint="export BAO_ADDR=https://…:8200")
    _check_address(address)
    server = _Server(address, token=_token(named), namespace=_variable("NAMESPACE"))
    return TransitSigner(named, server)


class _Server:
    """What answers at the address."""

    def __init__(self, address: str, *, token: str, namespace: str) -> None:
        self._client = Client(address, read_s=READ_S, patience_s=PATIENCE_S)
        # The older name, which both servers know.
        self._headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
        if namespace:
            self._headers["X-Vault-Namespace"] = namespace

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """Return the body of an answer that is a yes.

        Raises:
            UndecidedError: any other answer, or none.
        """
        data = b"" if body is None else msgspec.json.encode(body)
        unreachable = "the server did not answer as it should"
        with foreign(UndecidedError, unreachable, code="key-unavailable", hint="see BAO_ADDR, and `bao status`"):
            status, answer = self._client.send(
                method, "/v1/" + quote(path), max_bytes=MAX_ANSWER_BYTES, body=data, headers=self._headers
            )
        if len(answer) > MAX_ANSWER_BYTES:
            raise DecodeError(f"the server's answer has more than {MAX_ANSWER_BYTES:,} bytes")
        if status == 403:
            raise UndecidedError(
                f"{path}: the token may not use it, or is not valid any more",
                code="key-locked",
                hint="see: bao token lookup; its policy needs `read` on keys/KEY and `update` on sign/KEY of the mount",
            )
        if status == 404:
            mount = path.removesuffix("/sha2-256").rsplit("/", 2)[0]
            raise UndecidedError(
                f"{path}: no such key or mount", code="key-missing", hint=f"see: bao list {mount}/keys"
            )
        if status != 200:
            # What the server says is not repeated: it may repeat what it was sent.
            raise UndecidedError(
                f"the server answered {status}",
                code="key-unavailable",
                hint="see its log; a redirect is not followed: name the active server",
            )
        return answer


class TransitSigner(Signer):
    """A private key in a transit engine."""

    def __init__(self, named: TransitUri, server: _Server) -> None:
        """Ask for the public half; use :func:`open_transit`."""
        self._named, self._server = named, server
        answer = server.ask("GET", f"{named.mount}/keys/{named.key}")
        self._version, self._public = read_key(answer, version=named.version)

    @property
    def public(self) -> PublicKey:
        return self._public

    @property
    def version(self) -> int:
        """Which version of the key signs."""
        return self._version

    def _sign(self, message: bytes) -> bytes:
        path = f"{self._named.mount}/sign/{self._named.key}"
        asked: dict[str, object] = {"input": encode_base64(message), "key_version": self._version}
        if self._public.algorithm is Algorithm.ECDSA_P256:
            path += "/sha2-256"
            asked |= {
                "input": encode_base64(hashlib.sha256(message).digest()),
                "prehashed": True,
                "marshaling_algorithm": "asn1",
            }
        return read_signature(self._server.ask("POST", path, asked), version=self._version)


class _KeyVersion(msgspec.Struct, frozen=True):
    public_key: str


class _KeyData(msgspec.Struct, frozen=True):
    type: str
    latest_version: int
    keys: dict[str, _KeyVersion | int]
    derived: bool = False


class _KeyAnswer(msgspec.Struct, frozen=True):
    data: _KeyData


class _SignData(msgspec.Struct, frozen=True):
    signature: str


class _SignAnswer(msgspec.Struct, frozen=True):
    data: _SignData


def read_key(answer: bytes, *, version: int | None) -> tuple[int, PublicKey]:
    """Read a server's answer about a key: return the version to sign with, and its public half.

    Members that are not understood are passed over: servers add some.

    Raises:
        DecodeError: it is no such answer.
        UsageError: a key of another kind.
        UndecidedError: it has no such version (``key-missing``).
    """
    data = _decoded(answer, _KeyAnswer).data
    algorithm = _KINDS.get(data.type)
    if algorithm is None or data.derived:
        kind = data.type if algorithm is None else "derived"
        raise UsageError(
            f"a key of the kind {kind[:40]!r} is not used here", hint="make one of type=ed25519 or ecdsa-p256"
        )
    wanted = data.latest_version if version is None else version
    found = data.keys.get(str(wanted))
    if not isinstance(found, _KeyVersion):
        raise UndecidedError(
            f"the key has no version {wanted}", code="key-missing", hint="see: bao read MOUNT/keys/KEY"
        )
    if algorithm is Algorithm.ED25519:
        public = PublicKey.from_raw(algorithm, decode_base64(found.public_key, what="the server's public key"))
    else:
        public = read_public_key(found.public_key.encode())
    if public.algorithm is not algorithm:
        raise DecodeError(f"the server says {algorithm}, and its key is one of {public.algorithm}")
    return wanted, public


def read_signature(answer: bytes, *, version: int) -> bytes:
    """Read a server's answer that is a signature by this *version* of a key.

    Raises:
        DecodeError: it is something else.
    """
    _, _, rest = _decoded(answer, _SignAnswer).data.signature.partition(":")
    made_by, _, signature = rest.partition(":")
    if made_by != f"v{version}":
        raise DecodeError(f"the server signed with another version than {version}")
    return decode_base64(signature, what="the server's signature")


def _decoded(answer: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer, type=kind, strict=True)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError("the server's answer is not what such a server answers") from error


def _variable(name: str) -> str:
    return os.environ.get(f"BAO_{name}") or os.environ.get(f"VAULT_{name}") or ""


def _token(named: TransitUri) -> str:
    if named.token_file is None and (token := _variable("TOKEN")):
        return _checked(token)
    path = named.token_file or Path.home() / ".vault-token"
    if named.token_file is None and not path.exists():
        raise UndecidedError(
            "there is no token", code="key-locked", hint="export BAO_TOKEN=…, or log in: bao login; or ?token-file=PATH"
        )
    return _checked(read_secret(path, what="token", max_bytes=_MAX_TOKEN_BYTES).decode("ascii", "replace").strip())


def _checked(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or len(token) > _MAX_TOKEN_BYTES:
        raise UsageError("what should be a token is none")
    return token


def _check_address(address: str) -> None:
    """Check that a token that is sent there cannot be read on the way.

    Raises:
        UsageError: it is plain HTTP to another machine.
    """
    with foreign(UsageError, "the server's address is none", code="usage"):
        parts = urlsplit(address)
        host = parts.hostname or ""
    if parts.scheme == "https":
        return
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if not here:
        raise UsageError("a token is not sent over plain HTTP to another machine", hint="use https:// in BAO_ADDR")
