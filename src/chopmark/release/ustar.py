# SPDX-License-Identifier: Apache-2.0
"""The plainest tar there is: regular files, one after another, each header spelt in exactly one way.

A reader has nothing to choose: it takes name and length out of a header, writes the header again from these two, and
compares. So there are no links, devices, modes, owners, times, extensions or second spellings, and what ``tar -t`` shows is
what is read here. Nothing is compressed: a file takes as many bytes as it says. Names are ASCII, of letters, digits, dot,
dash and slash; which names may occur, and how long each may be, the caller says before a byte of content is read.

Source: POSIX.1-1988, ustar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final

from chopmark.errors import DecodeError

BLOCK: Final = 512
MAX_MEMBER_BYTES: Final = 8**11 - 1
"""What eleven octal digits can say: 8 GiB less one."""
CHUNK: Final = 1 << 20

_NAME: Final = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9.-]|/(?=[A-Za-z0-9])){0,98}")
_LENGTH: Final = re.compile(rb"[0-7]{11}\0")
_END: Final = bytes(2 * BLOCK)


def header(name: str, length: int) -> bytes:
    """Return the one header of a member.

    Raises:
        DecodeError: a name or a length that no member has.
    """
    encoded = name.encode("utf-8", "surrogatepass")
    if not _NAME.fullmatch(encoded) or not 0 <= length <= MAX_MEMBER_BYTES:
        raise DecodeError(f"archive: {name[:80]!r}, {length:,} bytes: no member has such a name or length")
    block = b"".join(
        (
            encoded.ljust(100, b"\0"),
            b"0000644\0",
            b"0000000\0" * 2,
            b"%011o\0" % length,
            b"00000000000\0",
            b" " * 8,
            b"0",
            bytes(100),
            b"ustar\0" + b"00",
            bytes(BLOCK - 265),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def write_member(out: BinaryIO, name: str, length: int, chunks: Iterable[bytes]) -> None:
    """Write one member.

    Raises:
        DecodeError: *chunks* are not *length* bytes; what was written is then no archive.
    """
    out.write(header(name, length))
    written = 0
    for chunk in chunks:
        out.write(chunk)
        written += len(chunk)
    if written != length:
        raise DecodeError(f"archive: {name} changed while it was read: {written:,} bytes, not {length:,}")
    out.write(bytes(-length % BLOCK))


def write_end(out: BinaryIO) -> None:
    """Write what ends an archive."""
    out.write(_END)


def read_members(source: BinaryIO, allowed: Callable[[str, int], None]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield name and content of each member; the content is to be read to its end before the next.

    Args:
        allowed: raises for a name, or a length of it, that is not expected; called before any content is read.

    Raises:
        DecodeError: not such an archive, cut short, or bytes after its end.
    """
    while (block := _exactly(source, BLOCK)) != bytes(BLOCK):
        name, length = _named(block)
        allowed(name, length)
        yield name, _content(source, length)
    if _exactly(source, BLOCK) != bytes(BLOCK) or source.read(1):
        raise DecodeError("archive: bytes after its end")


def _named(block: bytes) -> tuple[str, int]:
    raw, digits = block[:100].rstrip(b"\0"), block[124:136]
    if not _NAME.fullmatch(raw) or not _LENGTH.fullmatch(digits):
        raise DecodeError("archive: a header that no member has")
    name, length = raw.decode("ascii"), int(digits[:11], 8)
    if header(name, length) != block:
        raise DecodeError(f"archive: {name}: a link, an extension, or another spelling than the one there is")
    return name, length


def _content(source: BinaryIO, length: int) -> Iterator[bytes]:
    left = length
    while left:
        chunk = source.read(min(left, CHUNK))
        if not chunk:
            raise DecodeError("archive: cut short")
        left -= len(chunk)
        yield chunk
    if any(_exactly(source, -length % BLOCK)):
        raise DecodeError("archive: bytes between two members")


def _exactly(source: BinaryIO, length: int) -> bytes:
    data = source.read(length)
    while 0 < len(data) < length and (more := source.read(length - len(data))):
        data += more
    if len(data) != length:
        raise DecodeError("archive: cut short")
    return data
