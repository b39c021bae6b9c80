# SPDX-License-Identifier: Apache-2.0
"""Keys on tokens: a PKCS#11 module (an HSM's, a smart card's, SoftHSM's), named by a URI of RFC 7512.

One session for each token is kept and shared, since opening one costs many times what a signature does. It is opened
again when it is lost: the token was taken out and put back, or the process forked. A PIN that the token refused is not
offered again, since a token locks after a few wrong ones.

P-256 is signed as raw ECDSA over a digest that is made here: few modules hash, all sign. The first signature of each
session is verified with the public key that the token holds beside the private one; verifying each would take as long as
signing does, and within a session the handle is that of the same key.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, NoReturn, Protocol, TypeVar
from urllib.parse import unquote, unquote_to_bytes

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from chopmark.artifacts import read_secret
from chopmark.errors import DecodeError, UndecidedError, UsageError, foreign
from chopmark.keys import Algorithm, Passphrase, PublicKey, Signer

MODULE: Final = "CHOPMARK_PKCS11_MODULE"
"""Names the module where the URI does not."""

_MAX_PIN_BYTES: Final = 256
_P256_PARAMETERS: Final = bytes.fromhex("06082a8648ce3d030107")
_ED25519_PARAMETERS: Final = frozenset(
    {
        bytes.fromhex("06032b6570"),  # the OID of RFC 8410
        bytes.fromhex("06092b06010401da470f01"),  # an older one
        bytes.fromhex("130c656477617264733235353139"),  # "edwards25519", PKCS#11 v3.0
    }
)
_LOST: Final = (
    pkcs11.SessionHandleInvalid,
    pkcs11.SessionClosed,
    pkcs11.TokenNotPresent,
    pkcs11.DeviceError,
    pkcs11.DeviceRemoved,
    pkcs11.UserNotLoggedIn,
    pkcs11.ObjectHandleInvalid,
    pkcs11.KeyHandleInvalid,
    pkcs11.OperationActive,
    pkcs11.GeneralError,
    pkcs11.FunctionFailed,
)
"""What a module says when its session, or what it saw in it, is gone; some have no better word than a general error."""

T = TypeVar("T")


class _PrivateKey(Protocol):
    def sign(self, data: bytes, *, mechanism: Mechanism) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """What a ``pkcs11:`` URI says.

    Attributes:
        token, serial: which token; either may be missing, not both.
        object, id: which key; either may be missing, not both.
        module: path of the PKCS#11 library.
        pin_source: file that holds the PIN; None where it is asked for.
    """

    token: str | None
    serial: bytes | None
    object: str | None
    id: bytes | None
    module: str
    pin_source: Path | None


def parse_uri(uri: str, *, module: str = "") -> TokenUri:
    """Read a ``pkcs11:`` URI (RFC 7512).

    Args:
        module: path of the library, where the URI does not name one.

    Raises:
        UsageError: it names no token, key or module, holds the PIN itself, or says what is not understood here.
    """
    path, _, query = uri.removeprefix("pkcs11:").partition("?")
    parts = _attributes(path.split(";"), known={"token", "serial", "object", "id", "type"})
    options = _attributes(query.split("&"), known={"module-path", "pin-source", "pin-value"})
    if "pin-value" in options:
        raise UsageError(
            "pkcs11: the PIN does not belong into a URI, which ends in logs and lists of processes",
            hint="write it to a file of mode 0600: pin-source=file:/PATH; or leave it out, and it is asked for",
        )
    if parts.get("type", "private") != "private":
        raise UsageError("pkcs11: type is not private", hint="name the private key; its public half is found beside it")
    if not {"token", "serial"} & set(parts) or not {"object", "id"} & set(parts):
        raise UsageError("pkcs11: names no token and key", hint="pkcs11:token=LABEL;object=LABEL")
    module = unquote(options.get("module-path", module))
    if not os.path.isabs(module):  # noqa: PTH117 - the loader takes it as it stands
        raise UsageError(
            "pkcs11: names no module by its full path", hint=f"add ?module-path=/usr/lib/….so, or set {MODULE}"
        )
    source = options.get("pin-source")
    return TokenUri(
        token=_text(parts, "token"),
        serial=unquote_to_bytes(parts["serial"]) if "serial" in parts else None,
        object=_text(parts, "object"),
        id=unquote_to_bytes(parts["id"]) if "id" in parts else None,
        module=module,
        pin_source=None if source is None else _pin_file(source),
    )


def open_token(uri: str, passphrase: Passphrase | None) -> TokenSigner:
    """Open the key that a ``pkcs11:`` URI names.

    Raises:
        UsageError: the URI or what it names is not usable.
        UndecidedError: no such token or key is here (``key-missing``), or it stays locked (``key-locked``).
    """
    named = parse_uri(uri, module=os.environ.get(MODULE, ""))
    pin = passphrase
    if (source := named.pin_source) is not None:
        pin = lambda: read_secret(source, what="PIN", max_bytes=_MAX_PIN_BYTES).rstrip(b"\r\n")  # noqa: E731
    return TokenSigner(named, _token(named, pin))


class TokenSigner(Signer):
    """A private key on a token."""

    checked: ClassVar[bool] = False  # but for the first of each session, below

    def __init__(self, named: TokenUri, token: _Token) -> None:
        """Find both halves of the key; use :func:`open_token`."""
        self._named, self._token = named, token
        self._public = token.use(lambda session: _public(session, named))
        self._key: tuple[int, _PrivateKey] | None = None

    @property
    def public(self) -> PublicKey:
        return self._public

    def _sign(self, message: bytes) -> bytes:
        return self._token.use(lambda session: self._signed(session, message))

    def _signed(self, session: pkcs11.Session, message: bytes) -> bytes:
        new = self._key is None or self._key[0] != self._token.opened
        key = self._private(session)
        if self._public.algorithm is Algorithm.ED25519:
            signature = key.sign(message, mechanism=Mechanism.EDDSA)
        else:
            raw = key.sign(hashlib.sha256(message).digest(), mechanism=Mechanism.ECDSA)
            half = len(raw) // 2
            signature = encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
        if new:
            self._key = None  # until it has shown which key it is
            self._check(signature, message)
            self._key = (self._token.opened, key)
        return signature

    def _private(self, session: pkcs11.Session) -> _PrivateKey:
        """Return the handle of the private key, which is one session's."""
        if self._key is not None and self._key[0] == self._token.opened:
            return self._key[1]
        return _one(session, self._named, ObjectClass.PRIVATE_KEY)


class _Token:
    """A token and the one session with it.

    Attributes:
        opened: how many sessions there were; handles are valid in one of them.
    """

    def __init__(self, named: TokenUri) -> None:
        self.opened = 0
        self._named = named
        self._pin: Passphrase | None = None
        self._known_pin: bytes | None = None
        self._refused = False
        self._session: pkcs11.Session | None = None
        self._process = os.getpid()
        self._lock = threading.RLock()

    def offer(self, pin: Passphrase | None) -> None:
        """Take what asks for the PIN, for the next session; a PIN that was refused may be another one now."""
        with self._lock:
            self._pin = pin if pin is not None else self._pin
            self._refused = False

    def use(self, what: Callable[[pkcs11.Session], T]) -> T:
        """Call *what* with the session; once more with a new one where the session turns out to be lost."""
        with self._lock:
            if self._process != os.getpid():
                # The child of a fork has a module that belongs to its parent.
                self._forget()
                pkcs11.lib(self._named.module).reinitialize()
                self._process = os.getpid()
            fresh = self._session is None
            try:
                return what(self._opened())
            except _LOST:
                self._forget()
                if fresh:
                    raise
            return what(self._opened())

    def _opened(self) -> pkcs11.Session:
        if self._session is None:
            self._session = self._open()
            self.opened += 1
        return self._session

    def _forget(self) -> None:
        session, self._session = self._session, None
        if session is not None and self._process == os.getpid():
            try:
                session.close()
            except pkcs11.PKCS11Error:
                return  # it is gone

    def _open(self) -> pkcs11.Session:
        named = self._named
        module = pkcs11.lib(named.module)
        found = list(module.get_tokens(token_label=named.token, token_serial=named.serial))
        what = repr(named.token if named.token is not None else (named.serial or b"").decode("ascii", "replace"))
        if not found:
            raise UndecidedError(f"pkcs11: no token {what}", code="key-missing", hint="is it plugged in?")
        if len(found) > 1:
            raise UsageError(f"pkcs11: {len(found)} tokens are {what}", hint="add serial= to the URI")
        if self._refused:
            self._locked("the token refused this PIN before, and is not asked again")
        try:
            return found[0].open(user_pin=self._asked_pin())
        except pkcs11.UserAlreadyLoggedIn:
            return found[0].open()  # the login is the application's, for all of its sessions
        except pkcs11.PKCS11Error as error:
            kinds = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked, pkcs11.PinExpired)
            if not isinstance(error, (*kinds, pkcs11.UserPinNotInitialized)):
                raise
            self._refused, self._known_pin = True, None
            self._locked(f"the token refuses the PIN ({type(error).__name__})")

    def _asked_pin(self) -> str:
        """Return the PIN; it is asked for once, so that a session that was lost can come back without a person."""
        if self._known_pin is None:
            if self._pin is None:
                self._locked("there is nobody to ask for the PIN")
            self._known_pin = self._pin()
        try:
            return self._known_pin.decode("utf-8")
        except UnicodeDecodeError:
            self._known_pin = None
            self._locked("the PIN is no text")

    @staticmethod
    def _locked(why: str) -> NoReturn:
        raise UndecidedError(
            f"pkcs11: {why}", code="key-locked", hint="name a file that holds it, mode 0600: pin-source=file:/PATH"
        )


_tokens: Final[dict[tuple[str, str | None, bytes | None], _Token]] = {}
_tokens_lock: Final = threading.Lock()


def _token(named: TokenUri, pin: Passphrase | None) -> _Token:
    """Return the token that *named* is on: one for all of its keys in this process."""
    if not Path(named.module).is_file():
        raise UsageError(f"pkcs11: {named.module}: no such module", hint="it is the vendor's library, a .so file")
    with foreign(UsageError, f"pkcs11: {named.module}: cannot be used as a PKCS#11 module", code="usage"):
        pkcs11.lib(named.module)
    with _tokens_lock:
        key = (named.module, named.token, named.serial)
        token = _tokens.setdefault(key, _Token(named))
    token.offer(pin)
    return token


def _one(session: pkcs11.Session, named: TokenUri, kind: ObjectClass) -> _PrivateKey:
    """Return the one object of *kind* that *named* means."""
    wanted: dict[Attribute, object] = {Attribute.CLASS: kind}
    if named.object is not None:
        wanted[Attribute.LABEL] = named.object
    if named.id is not None:
        wanted[Attribute.ID] = named.id
    # A search in a session that is lost leaves an error in a destructor, where nobody can catch it.
    with suppress(pkcs11.RandomNoRNG, pkcs11.FunctionNotSupported):
        session.generate_random(64)
    found = list(session.get_objects(wanted))
    half = "private" if kind is ObjectClass.PRIVATE_KEY else "public"
    what = repr(named.object) if named.object is not None else f"id {(named.id or b'').hex()}"
    if not found:
        raise UndecidedError(
            f"pkcs11: the token has no {half} key {what}",
            code="key-missing",
            hint="keep the public half on the token as well"
            if half == "public"
            else "look: pkcs11-tool --list-objects",
        )
    if len(found) > 1:
        raise UsageError(
            f"pkcs11: {len(found)} {half} keys are {what}", hint="name one of them: add ;id=%01 to the URI"
        )
    return found[0]  # type: ignore[return-value]


def _public(session: pkcs11.Session, named: TokenUri) -> PublicKey:
    _one(session, named, ObjectClass.PRIVATE_KEY)  # said now, and not at the first signature
    found = _one(session, named, ObjectClass.PUBLIC_KEY)
    kind, parameters, point = found[Attribute.KEY_TYPE], found[Attribute.EC_PARAMS], found[Attribute.EC_POINT]  # type: ignore[index]
    return _read_public(kind, bytes(parameters), bytes(point))


def _read_public(kind: KeyType, parameters: bytes, point: bytes) -> PublicKey:
    """Read a public key as a token holds it.

    Raises:
        UsageError: another algorithm or curve.
        DecodeError: not a point of it.
    """
    if kind is KeyType.EC and parameters == _P256_PARAMETERS:
        with foreign(DecodeError, "pkcs11: the token's public key is no point of P-256", code="undecodable"):
            return PublicKey.of(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _octets(point, 65)))
    if kind is KeyType.EC_EDWARDS and parameters in _ED25519_PARAMETERS:
        return PublicKey.from_raw(Algorithm.ED25519, _octets(point, 32))
    raise UsageError("pkcs11: the key is of an algorithm that is not used here", hint="make a P-256 or Ed25519 key")


def _octets(point: bytes, length: int) -> bytes:
    """Return the bytes of a point, which modules write as an OCTET STRING (the standard) or bare."""
    return point[2:] if len(point) == length + 2 and point[:2] == bytes([4, length]) else point


def _attributes(parts: Iterable[str], *, known: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, parts):
        name, equals, value = part.partition("=")
        if not equals or name not in known:
            raise UsageError(
                f"pkcs11: {name[:40]!r} is not understood in a URI",
                hint="use: " + ", ".join(sorted(known - {"pin-value"})),
            )
        if name in found:
            raise UsageError(f"pkcs11: {name} stands twice in the URI")
        found[name] = value
    return found


def _text(parts: dict[str, str], name: str) -> str | None:
    if name not in parts:
        return None
    with foreign(UsageError, f"pkcs11: {name} is no text in UTF-8", code="usage"):
        return unquote(parts[name], errors="strict")


def _pin_file(source: str) -> Path:
    if source.startswith("|") or (":" in source and not source.startswith("file:")):
        raise UsageError("pkcs11: pin-source is a file", hint="pin-source=file:/PATH")
    name = source.removeprefix("file:")
    return Path(unquote(name.removeprefix("//") if name.startswith("///") else name))
