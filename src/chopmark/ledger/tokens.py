# SPDX-License-Identifier: Apache-2.0
"""Who may append to a log over HTTP: bearer tokens, of which only hashes are kept. A second face, for servers.

A token is 256 random bits after a fixed prefix, by which scanners for leaked secrets find it. Nothing can be guessed or
tabulated, so SHA-256 of it is enough at rest. What a token means: one more name that may add entries, as fast as its
rate allows. It changes nothing that is in the log, and signs nothing.

The file (``append-tokens.json``, mode 0600) is read anew whenever it changes: a revoked token ends with the next request.

    >>> token = make_token(bytes(32))
    >>> kept = AppendToken(name="ci", sha256=hash_of(token), created="2026-11-24T12:00:00Z")
    >>> find_token([kept], f"Bearer {token}").name
    'ci'
    >>> find_token([kept], "Bearer guessed") is None
    True
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chopmark import canonical
from chopmark.artifacts import read_file, write_file
from chopmark.canonical import check_name, decode_name, encode_base64
from chopmark.errors import DecodeError, UndecidedError, UsageError

TOKENS: Final = "append-tokens.json"
MAX_TOKENS_BYTES: Final = 1024 * 1024
MAX_TOKENS: Final = 1024
MAX_PER_MINUTE: Final = 1_000_000
SECRET_BYTES: Final = 32
_PREFIX: Final = "chopmark-append-"
_TOKEN: Final = re.compile(re.escape(_PREFIX) + r"[A-Za-z0-9_-]{43}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_SCHEME: Final = "bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendToken:
    """What is kept of a token.

    Attributes:
        name: who has it; for people, never told to a client.
        per_minute: requests, and as many at once after a pause; 0 for any number.
        created: RFC 3339, for people.
    """

    name: str
    sha256: bytes
    created: str
    per_minute: int = 0


class _Token(canonical.Strict, frozen=True, kw_only=True):
    name: str
    sha256: str
    created: str
    per_minute: int = 0


class _Tokens(canonical.Strict, frozen=True, kw_only=True):
    v: int
    tokens: list[_Token]


def make_token(secret: bytes) -> str:
    """Return the token that *secret*, 32 random bytes, is written as."""
    if len(secret) != SECRET_BYTES:
        raise UsageError(f"a token is made of {SECRET_BYTES} random bytes")
    return _PREFIX + encode_base64(secret).rstrip("=").replace("+", "-").replace("/", "_")


def is_token(text: str) -> bool:
    """Tell whether *text* has the form of a token."""
    return _TOKEN.fullmatch(text) is not None


def hash_of(token: str) -> bytes:
    """Return what is kept of *token*."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def find_token(tokens: Sequence[AppendToken], authorization: str) -> AppendToken | None:
    """Return whose token stands in the header ``Authorization``, or None.

    Every kept hash is compared, in time that tells nothing: neither how many there are before the right one, nor how
    much of a guess was right.
    """
    presented = authorization[len(_SCHEME) :] if authorization[: len(_SCHEME)].lower() == _SCHEME else ""
    hashed = hash_of(presented)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, hashed):
            found = token
    return found


def encode_tokens(tokens: Sequence[AppendToken]) -> bytes:
    """Return the file's bytes."""
    rows = [
        {"name": t.name, "sha256": t.sha256.hex(), "created": t.created, "per_minute": t.per_minute} for t in tokens
    ]
    return canonical.encode({"v": 1, "tokens": rows}) + b"\n"


def decode_tokens(data: bytes) -> tuple[AppendToken, ...]:
    """Read the file.

    Raises:
        DecodeError: malformed, a name or token twice, or too many.
    """
    wire = canonical.decode_as(data, _Tokens, what=TOKENS, max_bytes=MAX_TOKENS_BYTES)
    if wire.v != 1 or len(wire.tokens) > MAX_TOKENS:
        raise DecodeError(f"{TOKENS}: unknown version, or more than {MAX_TOKENS:,} tokens")
    for row in wire.tokens:
        decode_name(row.name, what=f"{TOKENS}: name")
        if not _HASH.fullmatch(row.sha256) or not 0 <= row.per_minute <= MAX_PER_MINUTE:
            raise DecodeError(f"{TOKENS}: {row.name}: sha256 is no hash, or per_minute is out of range")
    if any(len({getattr(row, name) for row in wire.tokens}) != len(wire.tokens) for name in ("name", "sha256")):
        raise DecodeError(f"{TOKENS}: a name or a hash stands there twice")
    return tuple(
        AppendToken(name=r.name, sha256=bytes.fromhex(r.sha256), created=r.created, per_minute=r.per_minute)
        for r in wire.tokens
    )


def read_tokens(path: Path) -> tuple[AppendToken, ...]:
    """Read the file at *path*; a missing one holds no token.

    Raises:
        UsageError: others may read it.
        DecodeError: as :func:`decode_tokens`.
    """
    if not path.exists():
        return ()
    if path.stat().st_mode & 0o077:
        raise UsageError(f"{path}: others may read who may append", hint=f"chmod 600 {path}")
    return decode_tokens(read_file(path, max_bytes=MAX_TOKENS_BYTES))


def add_token(path: Path, token: AppendToken) -> None:
    """Keep *token* in the file at *path*.

    Raises:
        UsageError: there is one of that name, or they are too many.
    """
    check_name(token.name, what="token")
    with _locked(path):
        tokens = read_tokens(path)
        if any(kept.name == token.name for kept in tokens):
            hint = f"chopmark ledger token revoke {token.name}, or choose another name"
            raise UsageError(f"{token.name}: there is a token of that name", hint=hint)
        if len(tokens) >= MAX_TOKENS or not 0 <= token.per_minute <= MAX_PER_MINUTE:
            raise UsageError(f"at most {MAX_TOKENS:,} tokens, each of at most {MAX_PER_MINUTE:,} a minute")
        write_file(path, encode_tokens([*tokens, token]), mode=0o600)


def revoke_token(path: Path, name: str) -> None:
    """Forget the token *name*.

    Raises:
        UsageError: there is none of that name.
    """
    with _locked(path):
        tokens = read_tokens(path)
        kept = [token for token in tokens if token.name != name]
        if len(kept) == len(tokens):
            raise UsageError(f"{name[:63]}: there is no token of that name", hint="chopmark ledger token list")
        write_file(path, encode_tokens(kept), mode=0o600)


class TokenFile:
    """The tokens in a file, read again when it changes. One thread uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._tokens: tuple[AppendToken, ...] = ()

    def tokens(self) -> tuple[AppendToken, ...]:
        """Return what is in the file now.

        Raises:
            UndecidedError: it cannot be used; nobody may append then.
        """
        try:
            state = self._path.stat() if self._path.exists() else None
            seen = (state.st_mtime_ns, state.st_ino, state.st_size, stat.S_IMODE(state.st_mode)) if state else ()
            if seen != self._seen:
                self._tokens = read_tokens(self._path)
                self._seen = seen
        except (UsageError, DecodeError, OSError) as error:
            self._seen = None
            raise UndecidedError(f"{self._path}: cannot be used ({error})", code="tokens-unusable") from error
        return self._tokens


class Rates:
    """How fast each token is used: a bucket of a minute's worth, refilled steadily. One thread uses it.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}  # name -> (requests left, when that was so)

    def wait_s(self, token: AppendToken) -> float:
        """Count one request of *token*; return 0, or after how many seconds the next is free, and count none."""
        if not token.per_minute:
            return 0.0
        now, most = self._clock(), float(token.per_minute)
        left, since = self._levels.get(token.name, (most, now))
        left = min(most, left + (now - since) * most / 60)
        self._levels[token.name] = (left - 1 if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) * 60 / most


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep two changes apart: a revocation is not undone by somebody who read the file before it."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UndecidedError(f"{path.parent}: cannot be used ({error.strerror})", code="not-written") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # and with it the lock
