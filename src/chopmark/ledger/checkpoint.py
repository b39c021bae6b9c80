# SPDX-License-Identifier: Apache-2.0
r"""A checkpoint: what a log says about itself at one size. C2SP tlog-checkpoint.

The text only; who signed it is the business of :mod:`chopmark.ledger.note`.

    >>> Checkpoint.decode("log.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n").size
    0
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chopmark.canonical import decode_base64, encode_base64
from chopmark.errors import DecodeError
from chopmark.ledger.merkle import HASH_BYTES, MAX_SIZE

MAX_ORIGIN_BYTES = 255
"""An ML-DSA-44 cosignature counts the origin's bytes in one byte."""
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A log's name, its number of entries, and the root over them.

    Attributes:
        extensions: opaque lines; not signed by ML-DSA-44 lines, so never acted on. Our logs write none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _is_line(self.origin) or len(self.origin.encode("utf-8")) > MAX_ORIGIN_BYTES:
            raise DecodeError("checkpoint: an origin is one line of 1 to 255 bytes")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise DecodeError("checkpoint: a size or root that cannot be")
        if not all(_is_line(line) for line in self.extensions):
            raise DecodeError("checkpoint: an extension is a line that is not empty")

    def encode(self) -> str:
        """Return the text that is signed."""
        return "".join(f"{line}\n" for line in (self.origin, self.size, encode_base64(self.root), *self.extensions))

    @classmethod
    def decode(cls, text: str) -> Checkpoint:
        """Read the text of a signed note as a checkpoint.

        Raises:
            DecodeError: it is none.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":  # three, and what follows the last one's end
            raise DecodeError("checkpoint: fewer than three lines")
        origin, size, root, *extensions = lines
        return cls(
            origin=origin,
            size=decode_decimal(size, what="checkpoint size"),
            root=decode_hash(root, what="checkpoint root"),
            extensions=tuple(extensions),
        )


def decode_decimal(text: str, *, what: str) -> int:
    """Read a whole number in its one decimal spelling, at most ``MAX_SIZE``.

    Raises:
        DecodeError: signs, leading zeros, other digits than 0-9, too large.
    """
    if not _DECIMAL.fullmatch(text) or (value := int(text)) > MAX_SIZE:
        raise DecodeError(f"{what}: {text[:40]!r} is not a size")
    return value


def decode_hash(text: str, *, what: str) -> bytes:
    """Read a SHA-256 in base64.

    Raises:
        DecodeError: not base64 in its one spelling, or not 32 bytes.
    """
    value = decode_base64(text, what=what)
    if len(value) != HASH_BYTES:
        raise DecodeError(f"{what}: not 32 bytes")
    return value


def _is_line(text: str) -> bool:
    return bool(text) and all(char >= " " and not "\ud800" <= char <= "\udfff" for char in text)
