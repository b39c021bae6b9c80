# SPDX-License-Identifier: Apache-2.0
"""What bytes are by their content; a file's name decides nothing."""

from __future__ import annotations

import struct

_MAGIC: tuple[tuple[str, int, bytes], ...] = (
    ("zip", 0, b"PK\x03\x04"),
    ("zip", 0, b"PK\x05\x06"),
    ("elf", 0, b"\x7fELF"),
    ("pe", 0, b"MZ"),
    ("mach-o", 0, b"\xcf\xfa\xed\xfe"),
    ("mach-o", 0, b"\xca\xfe\xba\xbe"),
    ("script", 0, b"#!"),
    ("hdf5", 0, b"\x89HDF\r\n\x1a\n"),
    ("gguf", 0, b"GGUF"),
    ("tflite", 4, b"TFL3"),
    ("ort", 4, b"ORTM"),
    ("numpy", 0, b"\x93NUMPY"),
    ("gzip", 0, b"\x1f\x8b"),
    ("zstd", 0, b"\x28\xb5\x2f\xfd"),
    ("xz", 0, b"\xfd7zXZ\x00"),
    ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("tar", 257, b"ustar"),
    ("safetensors", 8, b'{"'),
    ("json", 0, b"{"),
    ("pickle", 0, b"(lp"),
    ("pickle", 0, b"cos\n"),
    ("pickle", 0, b"cposix\n"),
    ("pickle", 0, b"c__builtin__\n"),
    ("pickle", 0, b"cbuiltins\n"),
)
_PICKLE_PROTO = 0x80
_PICKLE_VERSIONS = range(2, 6)
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = 22
_ZIP_COMMENT_MAX = 0xFFFF


def foreign_format(data: bytes) -> str:
    """Return what *data* are if a well-known magic says so and it is not ONNX, else an empty string."""
    if len(data) > 1 and data[0] == _PICKLE_PROTO and data[1] in _PICKLE_VERSIONS:
        return "pickle"
    for name, offset, magic in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return name
    return ""


def ends_as_zip(data: bytes) -> bool:
    """Whether zip readers, which start at the end, would find an archive in *data*."""
    tail = data[-(_ZIP_END_BYTES + _ZIP_COMMENT_MAX) :]
    at = tail.rfind(_ZIP_END)
    while at >= 0:
        if at + _ZIP_END_BYTES <= len(tail):
            (comment,) = struct.unpack_from("<H", tail, at + _ZIP_END_BYTES - 2)
            if at + _ZIP_END_BYTES + comment <= len(tail):
                return True
        at = tail.rfind(_ZIP_END, 0, at)
    return False
