# SPDX-License-Identifier: Apache-2.0
"""The one JSON of Chopmark, and the small strict decoders every ``wire.py`` is made of.

Writing is RFC 8785. Reading is strict: UTF-8, no duplicate member, no float, no number at or beyond 2^53, a length limit
that is checked before anything is parsed, an unknown member refused. Members that start with ``x-`` are dropped on
reading: they may annotate and never restrict, so no name (:func:`check_name`) may start with ``x-``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TypeVar

import msgspec
import rfc8785

from chopmark.errors import DecodeError, UsageError

T = TypeVar("T")

MAX_INTEGER = 2**53 - 1
"""The largest number in any format: what every JSON reader keeps exactly."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""Where JSON may hold it, readers in C and C++ end a text there: ``"x\\u0000y"`` would be ``"x"`` to a policy's engine."""


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of every wire type: what it does not name is refused, except ``x-`` members, which are dropped before."""


_NAME = re.compile(r"(?!x-)[a-z0-9][a-z0-9._-]{0,62}")


def encode(value: object) -> bytes:
    """Return the RFC 8785 bytes of a JSON value."""
    try:
        data = rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError) as error:
        raise DecodeError(f"not a canonical JSON value: {error}") from error
    if b"\\u0000" in data and _NUL.search(data):
        raise DecodeError("not a canonical JSON value: a null character")
    return data


def decode(data: bytes, *, what: str, max_bytes: int) -> object:
    """Read JSON strictly.

    Args:
        data: the bytes as received.
        what: what they should be, for the message.
        max_bytes: the longest accepted; checked first.

    Raises:
        DecodeError: too long, not UTF-8, not JSON, a null character, half a surrogate pair, a duplicate member, a float, a number
            beyond 2^53.
    """
    if len(data) > max_bytes:
        raise DecodeError(f"{what}: {len(data):,} bytes, more than the {max_bytes:,} allowed")
    if b"\\u0000" in data and _NUL.search(data):
        raise DecodeError(f"{what}: a null character")
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_float=_no_float,
            parse_constant=_no_float,
            parse_int=_integer,
        )
        if b"\\u" in data and _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be written as UTF-8 again
    except DecodeError as error:
        raise DecodeError(f"{what}: {error.message}") from error
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{what}: not JSON ({type(error).__name__})") from error
    return value


def decode_as(data: bytes, kind: type[T], *, what: str, max_bytes: int, canonical: bool = False) -> T:
    """Read JSON strictly into *kind*: a :class:`Strict`, or a union of them.

    Args:
        canonical: also require that *data* are the RFC 8785 bytes of what they say.

    Raises:
        DecodeError: as :func:`decode`, or the value does not fit *kind*.
    """
    value = decode(data, what=what, max_bytes=max_bytes)
    if canonical and encode(value) != data:
        raise DecodeError(f"{what}: not in canonical form (RFC 8785)")
    return convert(value, kind, what=what)


def convert(value: object, kind: type[T], *, what: str) -> T:
    """Fit a decoded JSON value to *kind*, dropping ``x-`` members.

    Raises:
        DecodeError: it does not fit.
    """
    try:
        return msgspec.convert(_without_annotations(value), kind, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DecodeError(f"{what}: {error}") from error


def encode_base64(data: bytes) -> str:
    """Return RFC 4648 section 4 base64, padded."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, *, what: str) -> bytes:
    """Read padded base64 of which there is exactly one spelling.

    Raises:
        DecodeError: foreign characters, missing padding, or stray bits.
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(f"{what}: not base64") from error
    if binascii.b2a_base64(data, newline=False).decode("ascii") != text:
        raise DecodeError(f"{what}: base64 is not canonical")
    return data


def decode_name(text: str, *, what: str) -> str:
    """Return *text*, received from somebody, if it is a name by :func:`check_name`.

    Raises:
        DecodeError: it is not.
    """
    try:
        return check_name(text, what=what)
    except UsageError as error:
        raise DecodeError(error.message, hint=error.hint) from error


def check_name(text: str, *, what: str) -> str:
    """Return *text* if it can name a model, channel, owner or device: ``[a-z0-9][a-z0-9._-]{0,62}``, not ``x-…``.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"{what}: {text[:80]!r} is not a name",
            hint="use a-z, 0-9, dot, dash and underscore, at most 63, not starting with 'x-'",
        )
    return text


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DecodeError("a member stands twice")
    return members


def _no_float(text: str) -> object:
    raise DecodeError(f"{text[:20]} is not a whole number")


def _integer(text: str) -> int:
    # Checked as text first: int() of a long run of digits is slow, and refused by Python beyond 4,300 of them.
    value = int(text) if len(text) < 20 else MAX_INTEGER + 1
    if abs(value) > MAX_INTEGER:
        raise DecodeError("a number is beyond 2^53")
    return value


def _without_annotations(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_annotations(v) for k, v in value.items() if not k.startswith("x-")}
    if isinstance(value, list):
        return [_without_annotations(v) for v in value]
    return value
