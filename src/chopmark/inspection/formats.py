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
HEAD_BYTES = 4096
"""How much of a file :func:`model_format` looks at."""
_MODELS = frozenset({"gguf", "hdf5", "ort", "pickle", "safetensors", "tflite"})
_IR_VERSION_TAG, _MAX_IR_VERSION = 0x08, 64
_ONNX_TAGS = frozenset({0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42})
"""Fields 2 to 8 of onnx.ModelProto: producer, domain, model version, text, graph, operator sets."""
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


def model_format(head: bytes) -> str:
    """Return which format of models a file begins as, or an empty string: for finding models, not for judging them.

    ONNX has no magic: it begins with a small IR version and another field of its message. A zip counts where its first
    member is what PyTorch writes.

    Args:
        head: the first bytes, :data:`HEAD_BYTES` where there are as many.
    """
    kind = foreign_format(head)
    if kind == "zip":
        return "pytorch" if b"/data.pkl" in head or b"/byteorder" in head or b"/.format_version" in head else ""
    if kind:
        return kind if kind in _MODELS else ""
    onnx = len(head) > 2 and head[0] == _IR_VERSION_TAG and 0 < head[1] <= _MAX_IR_VERSION and head[2] in _ONNX_TAGS
    return "onnx" if onnx else ""


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
