# SPDX-License-Identifier: Apache-2.0
"""Protocol buffers as bytes: tags, varints and lengths, read so that each byte is counted once.

There is one spelling of each number here: padded varints, which other readers accept, are refused, because two readers
that disagree about a byte disagree about a model. Groups and reserved wire types are refused.

Source: the encoding page of the protocol buffers documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

from chopmark.errors import DecodeError

MAX_FIELD_NUMBER = 2**29 - 1
_VARINT_BYTES = 10
_VARINT_MAX = 2**64
_SIGN = 2**63

# In a run of packed varints, found at the speed of C: a number that ends in an empty byte (padded), one of more than ten
# bytes, and a tenth byte that holds more than the 64th bit.
_BAD_PACKED = re.compile(rb"[\x80-\xff]\x00|[\x80-\xff]{10}|[\x80-\xff]{9}[\x02-\x7f]")
_CONTINUED = bytes(range(0x80, 0x100))


class Wire(IntEnum):
    """How a value is laid out."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5


class Malformed(DecodeError):
    """The bytes stop making sense at one place; what follows was not walked."""

    def __init__(self, code: str, offset: int, message: str) -> None:
        super().__init__(message, code=code)
        self.offset = offset


class Reader:
    """A position in the bytes, and how many of them have been given a meaning."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0
        self.covered = 0

    def varint(self, end: int) -> int:
        """Return the next number, 0 to 2^64 - 1."""
        start, value = self.at, 0
        for shift in range(0, 7 * _VARINT_BYTES, 7):
            if self.at >= end:
                raise Malformed("truncated", start, "a number ends after its message")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if (byte == 0 and shift) or value >= _VARINT_MAX:
                    raise Malformed("not-canonical", start, "a number is padded or beyond 64 bits")
                self.covered += self.at - start
                return value
        raise Malformed("malformed", start, "a number of more than ten bytes")

    def tag(self, end: int) -> tuple[int, Wire]:
        """Return field number and wire type of the next field."""
        start = self.at
        key = self.varint(end)
        number, kind = key >> 3, key & 7
        if not 0 < number <= MAX_FIELD_NUMBER:
            raise Malformed("malformed", start, f"field number {number}")
        try:
            return number, Wire(kind)
        except ValueError:
            raise Malformed("malformed", start, f"wire type {kind}") from None

    def length(self, end: int) -> int:
        """Return where the length-delimited value that starts here ends; its bytes are not yet covered."""
        start = self.at
        size = self.varint(end)
        if size > end - self.at:
            raise Malformed("truncated", start, f"a value of {size:,} bytes in a message with {end - self.at:,} left")
        return self.at + size

    def take(self, size: int, end: int) -> memoryview:
        """Return the next *size* bytes as a leaf."""
        if size > end - self.at:
            raise Malformed("truncated", self.at, f"{size:,} bytes wanted, {end - self.at:,} left")
        self.at += size
        self.covered += size
        return self.data[self.at - size : self.at]


def signed(value: int) -> int:
    """Return the varint of an ``int32`` or ``int64`` field as the number it stands for."""
    return value - _VARINT_MAX if value >= _SIGN else value


def varints(data: memoryview | bytearray) -> Iterator[int]:
    """Give the numbers of a packed run that :func:`count_packed` has accepted."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


def count_packed(data: memoryview, wire: Wire, offset: int) -> int:
    """Return how many numbers a packed run holds.

    Raises:
        Malformed: it does not end where a number ends, or holds one that :meth:`Reader.varint` would refuse.
    """
    if wire is not Wire.VARINT:
        width = 4 if wire is Wire.FIXED32 else 8
        if len(data) % width:
            raise Malformed("malformed", offset, f"{len(data):,} bytes of numbers of {width} bytes")
        return len(data) // width
    if len(data) and data[-1] >= 0x80:
        raise Malformed("truncated", offset, "packed numbers end inside a number")
    if _BAD_PACKED.search(data):
        raise Malformed("not-canonical", offset, "a packed number is padded or beyond 64 bits")
    return len(bytes(data).translate(None, _CONTINUED))
