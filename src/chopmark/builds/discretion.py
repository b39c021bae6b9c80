# SPDX-License-Identifier: Apache-2.0
"""What a record leaves out: secrets among parameters, secrets among files, and files that are no data.

A statement is signed and logged for ever, so what looks like a secret is taken for one. Of a file that may hold a short
secret not even the digest is recorded: it could be found by trying. Names and shapes are all that is looked at; a secret
under a harmless name is not found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath, PurePosixPath
from typing import Final

from chopmark import canonical
from chopmark.builds.wire import MAX_DEPTH, MAX_PARAMETER_BYTES, recorded
from chopmark.errors import ChopmarkError, UsageError

REDACTED: Final = "<redacted>"
MAX_MEMBERS: Final = 10_000
"""Of one parameter, those of members included; more is data and no parameter."""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ALWAYS: Final = frozenset(
    {"password", "passwords", "passwd", "pwd", "passphrase", "secret", "secrets", "credential", "credentials"}
    | {"apikey", "bearer", "cookie", "cookies", "authorization"}
)
_ENDS: Final = ("password", "passwd", "passphrase", "secret", "apikey")
"""What a word written together ends in: ``userpassword``."""
_IN_TEXTS: Final = frozenset({"token", "key", "auth", "pat", "dsn"})
"""Words that models use for harmless things too: numbers under them stand, and markers such as ``<pad>``."""
_MARKER: Final = re.compile(r"<[^<>]{0,20}>|\[[^\[\]]{0,20}\]|")
_SHAPE: Final = re.compile(  # no part may be tried again from within itself: texts are long
    r"PRIVATE KEY-----"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[a-z]-|AKIA|ASIA|AIza|hvs\.|eyJ)[A-Za-z0-9_.\-]{12,}"
    r"|\b(?:npm_|pypi-)[A-Za-z0-9_\-]{12,}"
    r"|://[^/\s@:]*:[^/\s@]+@"
    # A header; an option, a connection string or a signed address that says what the secret is.
    r"|\b(?i:bearer) +[A-Za-z0-9+/_.=\-]{12,}|\bBasic [A-Za-z0-9+/]{8,}={1,2}"
    r"|(?i:password|passwd|pwd|secret|api[-_]?key|access[-_]?token)[\"']?(?: {0,2}[=:]) {0,2}[^\s=;<\[]"
    r"|--(?i:password|passwd|pwd|secret|api-key|token) [^\s\-<\[]"
    r"|[?&](?i:token|sig|key|x-amz-signature)=[^\s&<\[]"
)

_CODE: Final = frozenset({".py", ".pyi", ".pyc", ".pyd", ".so", ".ipynb", ".pth", ".egg-link"})
_KEYS: Final = frozenset(
    {
        ".pem",
        ".key",
        ".p8",
        ".p12",
        ".pfx",
        ".jks",
        ".keystore",
        ".kdbx",
        ".gpg",
        ".asc",
        ".ppk",
        ".der",
        ".crt",
        ".age",
    }
)
_ROOMS: Final = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_SECRET_FILE: Final = re.compile(r"id_(rsa|dsa|ecdsa|ed25519)|kubeconfig|service[-_]account", re.IGNORECASE)


def record_parameter(name: str, value: object, *, base: str = "") -> tuple[object, tuple[str, ...]]:
    """Return *value* as it stands in a statement, and the names of what was redacted in it.

    Args:
        base: the folder of this machine that paths are named from; it is not recorded itself.

    Raises:
        UsageError: the name or value cannot be recorded.
    """
    reader = _Reader(base)
    try:
        _check_name(name)
        plain = reader.plain(name, value, depth=0)
        size = len(canonical.encode({name: plain}))
    except UsageError:
        raise
    except ChopmarkError as error:
        raise UsageError(f"parameter {name[:80]!r}: {error.message}") from error
    if size > MAX_PARAMETER_BYTES:
        raise UsageError(
            f"parameter {name[:80]!r}: {size:,} bytes, more than the {MAX_PARAMETER_BYTES:,} allowed",
            hint="what is long is an input: run.input(path)",
        )
    return plain, tuple(reader.hidden)


def describe_argument(name: str, value: object, *, base: str = "") -> tuple[object, tuple[str, ...]]:
    """As :func:`record_parameter`, for arguments that nobody chose to record: what cannot be, becomes its type."""
    try:
        plain, hidden = record_parameter(name, value, base=base)
    except Exception:  # noqa: BLE001 - the value is somebody's object, and whatever it raises must not stop their call
        kind = type(value)
        return f"<{kind.__module__}.{kind.__qualname__}>", ()
    return plain, hidden


def is_secret_name(name: str, *, text: bool) -> bool:
    """Tell whether what is called *name* is taken for a secret.

    Args:
        text: whether it is text; a number under ``key_dim`` is none.
    """
    words = {word.lower() for word in _WORD.findall(name)}
    return bool(words & _ALWAYS) or any(word.endswith(_ENDS) for word in words) or (text and bool(words & _IN_TEXTS))


def holds_secret(text: str) -> bool:
    """Tell whether *text* has the shape of a key, a token, or an address with a password in it."""
    return _SHAPE.search(text) is not None


def is_secret_file(name: str) -> bool:
    """Tell whether a file is taken for a secret, by its ``/``-separated name."""
    path = PurePosixPath(name)
    words = {word.lower() for word in _WORD.findall(path.name)}
    suffixes = {suffix.lower() for suffix in path.suffixes}
    return bool(suffixes & _KEYS or words & (_ALWAYS | {"token"}) or _SECRET_FILE.search(path.name)) or any(
        part.startswith(".env") or part in {".netrc", ".pgpass", ".htpasswd", ".ssh", ".aws", ".gnupg"}
        for part in path.parts
    )


def is_room(name: str) -> bool:
    """Tell whether the folder called *name* holds what is no data of a step: hidden ones, caches, libraries."""
    return name.startswith(".") or name in _ROOMS


def is_data(name: str) -> bool:
    """Tell whether a file that a step touched is recorded without being named: data, and neither code nor a secret.

    Args:
        name: ``/``-separated, below the folder that is watched.
    """
    path = PurePosixPath(name)
    if any(is_room(part) for part in path.parts) or path.suffix.lower() in _CODE:
        return False
    return not is_secret_file(name)


def _check_name(name: str) -> str:
    if not name or name.startswith("x-") or len(name) > 200:
        raise UsageError(f"{name[:80]!r}: cannot name a parameter", hint="1 to 200 characters, not starting with 'x-'")
    return name


class _Reader:
    """Reads one parameter; holds what was hidden in it, and how many members may still come."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/") + "/"
        self._left = MAX_MEMBERS
        self.hidden: list[str] = []

    def plain(self, name: str, value: object, *, depth: int) -> object:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:  # counted in all: a list can hold itself many times
            raise UsageError(
                f"parameter {name[:80]!r}: deeper than {MAX_DEPTH}, or more than {MAX_MEMBERS:,} members",
                hint="what is long is an input: run.input(path)",
            )
        if value is None or isinstance(value, bool):
            return value
        return self._redact(name) if is_secret_name(name, text=False) else self._shown(name, value, depth=depth)

    def _shown(self, name: str, value: object, *, depth: int) -> object:
        match value:
            case Enum():
                plain: object = f"{type(value).__name__}.{value.name}"
            case int():
                plain = recorded(int(value))
            case float():
                plain = float.__repr__(float(value))  # a subclass such as NumPy's writes its type too
            case PurePath() | str():
                plain = self._text(name, str(value))
            case Mapping():
                plain = self._members(name, value, depth=depth)
            case list() | tuple():
                plain = [self.plain(name, member, depth=depth + 1) for member in value]
            case _:
                plain = self._scalar(name, value, depth=depth)
        return plain

    def _members(self, name: str, value: Mapping[object, object], *, depth: int) -> dict[str, object]:
        members: dict[str, object] = {}
        for key, member in value.items():
            text = _check_name(str(key))
            if text in members:
                raise UsageError(f"parameter {name[:80]!r}: {text[:80]!r} stands twice in it")
            # A member of what has a secret's name is as secret as it.
            inner = f"{name}.{text}" if is_secret_name(name, text=True) else text
            members[text] = self.plain(inner, member, depth=depth + 1)
        return members

    def _scalar(self, name: str, value: object, *, depth: int) -> object:
        """Return what an array's scalar holds; NumPy is not imported for it."""
        take = getattr(value, "item", None)
        if callable(take) and getattr(value, "shape", None) == ():
            inner: object = take()
            if isinstance(inner, bool | int | float | str):
                return self.plain(name, inner, depth=depth + 1)
        raise UsageError(
            f"parameter {name[:80]!r}: a {type(value).__name__} cannot be recorded",
            hint="numbers, texts, lists and objects of them; what is large is an input: run.input(path)",
        )

    def _text(self, name: str, text: str) -> str:
        if holds_secret(text) or (is_secret_name(name, text=True) and not _MARKER.fullmatch(text)):
            return self._redact(name)
        # Where somebody's home is on this machine is nobody's business.
        return text.removeprefix(self._base) if len(self._base) > 1 else text

    def _redact(self, name: str) -> str:
        self.hidden.append(name)
        return REDACTED
