# SPDX-License-Identifier: Apache-2.0
"""Private keys in files of their owner: PKCS#8 PEM, mode 0600, refused when others may read them; encrypted if wanted.

What opens an encrypted key comes from a file (``?passphrase-file=``, or ``CHOPMARK_PASSPHRASE_FILE``) or from whoever is
asked for it; never from a command line, which other users of the machine can read.

An owner's keys are a folder: ``*.pem`` files, and ``*.uri`` files that name keys which are elsewhere.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import parse_qsl, unquote

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from chopmark.adapters.kms import open_signer
from chopmark.artifacts import open_regular, read_secret, write_file
from chopmark.errors import UndecidedError, UsageError, foreign
from chopmark.keys import Algorithm, Passphrase, PublicKey, Signer

PASSPHRASE_FILE: Final = "CHOPMARK_PASSPHRASE_FILE"  # noqa: S105 - where one is
MAX_PASSPHRASE_BYTES: Final = 1024
_MAX_KEY_BYTES: Final = 16384
_MAX_URI_BYTES: Final = 4096
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"

_PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey


class FileSigner(Signer):
    """A key whose private half is in a file."""

    checked: ClassVar[bool] = False

    def __init__(self, key: _PrivateKey) -> None:
        self._key = key
        self._public = PublicKey.of(key.public_key())

    @property
    def private(self) -> _PrivateKey:
        return self._key

    @property
    def public(self) -> PublicKey:
        return self._public

    def _sign(self, message: bytes) -> bytes:
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(message, ec.ECDSA(hashes.SHA256()))
        return self._key.sign(message)


def generate(algorithm: Algorithm) -> FileSigner:
    """Make a key that lives in memory only."""
    return FileSigner(_generate(algorithm))


def create(path: Path, algorithm: Algorithm, *, passphrase: bytes | None = None) -> FileSigner:
    """Make a key and write it to *path*.

    Args:
        passphrase: what the file is encrypted with; None to leave it plain.

    Raises:
        UsageError: a file is there already; keys are never overwritten. Or the passphrase is empty.
    """
    if path.exists():
        raise UsageError(f"{path}: a key is there already", hint="keys are not overwritten; choose another name")
    key = _generate(algorithm)
    encoding, plain = serialization.Encoding, serialization.NoEncryption()
    if passphrase is None:
        data = key.private_bytes(encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    else:
        from chopmark.adapters.kms.pkcs8 import encrypt  # noqa: PLC0415 - half as long to load as all the rest; few need it

        der = key.private_bytes(encoding.DER, serialization.PrivateFormat.PKCS8, plain)
        data = encrypt(der, _checked(passphrase))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(path, data, mode=0o600)
    return FileSigner(key)


def open_file(uri: str, passphrase: Passphrase | None) -> FileSigner:
    """Open the key in a file: a path, or ``file:PATH[?passphrase-file=PATH]``.

    Raises:
        UsageError: as :func:`load`, or a URI that says more than that.
        UndecidedError: as :func:`load`.
    """
    if not uri.startswith("file:"):
        return load(Path(uri), passphrase)
    name, _, query = uri.removeprefix("file:").partition("?")
    if name.startswith("//"):
        host, slash, rest = name[2:].partition("/")
        if host not in ("", "localhost"):
            raise UsageError(f"file: {host}: a key is opened on this machine only", hint="file:PATH")
        name = slash + rest
    said = dict(parse_qsl(query, keep_blank_values=True))
    if not name or set(said) - {"passphrase-file"}:
        raise UsageError("file: names a path, and passphrase-file at most", hint="file:PATH?passphrase-file=PATH")
    if (secret := said.get("passphrase-file")) is not None:
        return load(Path(unquote(name)), lambda: read_passphrase(Path(secret)), ambient=False)
    return load(Path(unquote(name)), passphrase)


def load(path: Path, passphrase: Passphrase | None = None, *, ambient: bool = True) -> FileSigner:
    """Open the key in *path*.

    Args:
        passphrase: asked if the key is encrypted.
        ambient: the file that ``CHOPMARK_PASSPHRASE_FILE`` names is looked into first.

    Raises:
        UsageError: others than its owner may read it, or it is no key of ours; or opening it would cost too much.
        UndecidedError: there is no such file (``key-missing``), or the passphrase is missing or wrong (``key-locked``).
    """
    if not os.path.lexists(path):
        raise UndecidedError(f"{path}: no such key", code="key-missing", hint="run it where the key is")
    data = read_secret(path, what="key", max_bytes=_MAX_KEY_BYTES)
    if data.lstrip().startswith(_ENCRYPTED):
        return FileSigner(_decrypted(path, data, passphrase, ambient=ambient))
    # The library raises errors of its own, of OpenSSL's and of Python's, depending on which byte is wrong.
    with foreign(UsageError, f"{path}: is not a PKCS#8 key", code="usage"):
        return FileSigner(_ours(path, serialization.load_pem_private_key(data, password=None)))


def load_all(folder: Path, passphrase: Passphrase | None = None) -> list[Signer]:
    """Open all keys of one owner, by name: the ``*.pem`` files of a folder, and what its ``*.uri`` files name.

    Args:
        passphrase: asked for each key that is locked.

    Raises:
        UndecidedError: there are none; or as :func:`chopmark.adapters.kms.open_signer`.
        UsageError: as :func:`load` and :func:`chopmark.adapters.kms.open_signer`.
    """
    found = sorted([*folder.glob("*.pem"), *folder.glob("*.uri")])
    if not found:
        raise UndecidedError(
            f"the keys of {folder.name} are not on this machine",
            code="key-missing",
            hint=f"run this where {folder.name} works",
        )
    return [
        load(path, passphrase) if path.suffix == ".pem" else open_signer(read_uri(path), passphrase=passphrase)
        for path in found
    ]


def read_uri(path: Path) -> str:
    """Return the URI in a ``.uri`` file: its first line; what follows begins with ``#``.

    Raises:
        UsageError: others may write the file: it names a library that is loaded. Or it holds something else.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o022:
            raise UsageError(
                f"{path}: others may change which key this is", code="secret-open", hint=f"chmod 600 {path}"
            )
        data = file.read(_MAX_URI_BYTES + 1)
    first, *rest = data.decode("utf-8", "replace").split("\n")
    if len(data) > _MAX_URI_BYTES or not first.isprintable() or any(line and not line.startswith("#") for line in rest):
        raise UsageError(f"{path}: holds something else than one URI and comments", hint="its first line is the URI")
    if not (uri := first.strip()):
        raise UsageError(f"{path}: holds no URI", hint="its first line is the URI")
    return uri


def read_passphrase(path: Path) -> bytes:
    """Return what a file holds that opens a key: its first line. The file's mode is 0600.

    Raises:
        UsageError: others may read it, or it is empty, longer or no file.
    """
    data = read_secret(path, what="passphrase", max_bytes=MAX_PASSPHRASE_BYTES)
    return _checked(data.partition(b"\n")[0].removesuffix(b"\r"))


def _checked(passphrase: bytes) -> bytes:
    if not passphrase or b"\n" in passphrase:
        raise UsageError("a passphrase is one line that is not empty")
    return passphrase


def _decrypted(path: Path, data: bytes, passphrase: Passphrase | None, *, ambient: bool) -> _PrivateKey:
    from chopmark.adapters.kms.pkcs8 import check_cost  # noqa: PLC0415 - as in create

    try:
        check_cost(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", code=error.code, hint=error.hint) from error
    if ambient and (named := os.environ.get(PASSPHRASE_FILE)):
        word = read_passphrase(Path(named))
    elif passphrase is not None:
        word = _checked(passphrase())
    else:
        raise UndecidedError(
            f"{path}: is encrypted, and there is nobody to ask for its passphrase",
            code="key-locked",
            hint=f"name a file that holds it, mode 0600: {PASSPHRASE_FILE}, or file:{path}?passphrase-file=PATH",
        )
    # What a wrong passphrase makes of a key is at times taken for another fault; both are said as this one.
    locked = f"{path}: the passphrase does not open it"
    with foreign(UndecidedError, locked, code="key-locked", hint="try again; if it is right, the file is damaged"):
        return _ours(path, serialization.load_pem_private_key(data, password=word))


def _ours(path: Path, key: object) -> _PrivateKey:
    if not isinstance(key, _PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, ec.SECP256R1)
    ):
        hint = "use one of: " + ", ".join(Algorithm)
        raise UsageError(f"{path}: is a key of an algorithm that is not used here", hint=hint)
    return key


def export_openssh(key: FileSigner, path: Path) -> None:
    """Write the private key as ``git`` and ``ssh-keygen`` read it, mode 0600."""
    data = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_file(path, data, mode=0o600)


def _generate(algorithm: Algorithm) -> _PrivateKey:
    match algorithm:
        case Algorithm.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case Algorithm.ECDSA_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case Algorithm.ML_DSA_44:
            return mldsa.MLDSA44PrivateKey.generate()
        case Algorithm.ML_DSA_65:
            return mldsa.MLDSA65PrivateKey.generate()
