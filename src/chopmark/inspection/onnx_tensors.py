# SPDX-License-Identifier: Apache-2.0
"""Tensors: data of exactly the right size in exactly one place, and no bit in them that the type does not have.

A bit beyond the type is cut off by one reader and kept by another, and is a place to hide bytes in; a byte of a ``bool`` that
is neither 0 nor 1 is both. What the numbers are is nobody's business here: weights may be anything.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from chopmark.inspection.model import Limits
from chopmark.inspection.onnx_message import MAX_NUMBERS, Find, Message
from chopmark.inspection.protobuf import varints


@dataclass(frozen=True, slots=True)
class _Element:
    """How elements of one TensorProto.DataType lie in a file."""

    bits: int
    typed: str
    numerator: int = 1
    """Entries of the typed field per ``denominator`` elements."""
    denominator: int = 1
    layout: str = ""
    """Of one element in the ``struct`` module, where it has one."""


_BOOL, _STRING, INT64 = 9, 8, 7
ELEMENTS: Mapping[int, _Element] = {
    1: _Element(32, "float_data", layout="f"),
    2: _Element(8, "int32_data", layout="B"),
    3: _Element(8, "int32_data", layout="b"),
    _BOOL: _Element(8, "int32_data", layout="B"),
    **{code: _Element(8, "int32_data") for code in (17, 18, 19, 20, 24)},
    4: _Element(16, "int32_data", layout="H"),
    5: _Element(16, "int32_data", layout="h"),
    10: _Element(16, "int32_data", layout="e"),
    16: _Element(16, "int32_data"),
    6: _Element(32, "int32_data", layout="i"),
    INT64: _Element(64, "int64_data", layout="q"),
    _STRING: _Element(0, "string_data"),
    11: _Element(64, "double_data", layout="d"),
    12: _Element(32, "uint64_data", layout="I"),
    13: _Element(64, "uint64_data", layout="Q"),
    14: _Element(64, "float_data", 2),
    15: _Element(128, "double_data", 2),
    **{code: _Element(4, "int32_data", 1, 2) for code in (21, 22, 23)},
    **{code: _Element(2, "int32_data", 1, 4) for code in (25, 26)},
    **{code: _Element(6, "int32_data") for code in (27, 28)},
}
"""TensorProto.DataType -> how its elements lie."""
_CONTAINERS = frozenset({element.typed for element in ELEMENTS.values()} | {"raw_data"})

_NOT_BOOL = re.compile(rb"[\x02-\xff]")
_WIDE: Mapping[int, bytes] = {
    2: rb"\x01",
    3: rb"\xff{8}\x01",
    4: rb"(?:[\x01-\x7f]|[\x80-\xff][\x01-\x03])",
    5: rb"(?:[\x01-\x7f]|[\x80-\xff]\x01|[\x80-\xff][\xfe\xff]\xff{6}\x01)",
    6: rb"(?:[\x80-\xff]{0,2}[\x01-\x7f]|[\x80-\xff]{3}[\x01-\x07]|[\x80-\xff]{3}[\xf8-\xff]\xff{4}\x01)",
    12: rb"(?:[\x80-\xff]{0,2}[\x01-\x7f]|[\x80-\xff]{3}[\x01-\x0f])",
}
"""How a varint of more than one byte may go on after its first, if it is to fit the type."""


def _too_wide(rest: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?!" + rest + rb")")


# Found at the speed of C, as in :mod:`~chopmark.inspection.protobuf`: a packed varint that does not fit.
_MISFITS: Mapping[int, re.Pattern[bytes]] = {
    **{code: _too_wide(_WIDE[2]) for code in (2, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)},
    **{code: _too_wide(_WIDE[4]) for code in (4, 10, 16)},
    **{code: _too_wide(_WIDE[code]) for code in (3, 5, 6, 12)},
    _BOOL: _NOT_BOOL,
    **{code: re.compile(rb"[\x40-\xff]") for code in (27, 28)},
}
_RANGES: Mapping[int, range] = {
    **{code: range(2**8) for code in (2, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)},
    **{code: range(2**16) for code in (4, 10, 16)},
    3: range(-(2**7), 2**7),
    5: range(-(2**15), 2**15),
    6: range(-(2**31), 2**31),
    12: range(2**32),
    _BOOL: range(2),
    **{code: range(2**6) for code in (27, 28)},
}
"""The same for numbers that are not packed."""


def judge_tensor(tensor: Message, *, limits: Limits, find: Find) -> None:
    """Find what is wrong with a tensor, and count its elements."""
    where, dims = tensor.where, tensor.numbers.get("dims", [])
    if tensor.number("data_location") or "external_data" in tensor.counts:
        places = [entry.text("value") for entry in tensor.kept("external_data") if entry.text("key") == "location"]
        find("external-data", where, f"its data lie in another file: {', '.join(places)[:120]!a}")
        return
    element = ELEMENTS.get(tensor.number("data_type"))
    if element is None:
        find("tensor", where, f"data type {tensor.number('data_type')}")
        return
    # A dimension of zero makes the product small, and readers that multiply in another order overflow.
    if (
        len(dims) > limits.max_rank
        or math.prod(max(size, 1) for size in dims) > limits.max_elements
        or min(dims, default=0) < 0
    ):
        find("tensor", where, f"dimensions {dims[:8]}")
        return
    tensor.elements = math.prod(dims)
    if _fits(tensor, element, find):
        _bits(tensor, element, find)


def numbers_of(tensor: Message) -> tuple[float, ...] | None:
    """Return the numbers of a small tensor, None where it is large, or no numbers, or wrong."""
    element = ELEMENTS.get(tensor.number("data_type"))
    if element is None or not element.layout or tensor.elements > MAX_NUMBERS:
        return None
    raw = tensor.data.get("raw_data")
    if not raw and element.typed in {"int32_data", "int64_data", "uint64_data"}:
        found = tensor.integers(element.typed)
        return tuple(found) if len(found) == tensor.elements else None
    held = raw or tensor.data.get(element.typed) or bytearray()
    layout = struct.Struct(f"<{tensor.elements}{element.layout}")
    return layout.unpack(held) if len(held) == layout.size else None


def _fits(tensor: Message, element: _Element, find: Find) -> bool:
    """Whether data of exactly the right size stand in exactly one place."""
    held = {name for name in _CONTAINERS if tensor.counts.get(name, 0)}
    raw_bytes = len(tensor.data.get("raw_data", b""))
    if "raw_data" in held and not raw_bytes:
        held.discard("raw_data")
    if held - {element.typed, "raw_data"} or len(held) > 1:
        find("tensor", tensor.where, f"data in {', '.join(sorted(held))}")
        return False
    if "raw_data" in held:
        wanted = -(-tensor.elements * element.bits // 8)
        if raw_bytes != wanted or tensor.number("data_type") == _STRING:
            find("tensor", tensor.where, f"{raw_bytes:,} bytes of data, {wanted:,} by its dimensions")
            return False
        return True
    wanted = -(-tensor.elements * element.numerator // element.denominator)
    stored = tensor.counts.get(element.typed, 0)
    if stored != wanted:
        find("tensor", tensor.where, f"{stored:,} numbers of data, {wanted:,} by its dimensions")
    return stored == wanted


def _bits(tensor: Message, element: _Element, find: Find) -> None:
    """Find bits that no element of the tensor has."""
    code = tensor.number("data_type")
    raw, packed = tensor.data.get("raw_data"), tensor.data.get(element.typed)
    singles = tensor.numbers.get(element.typed, [])
    if raw:
        wrong, last = code == _BOOL and bool(_NOT_BOOL.search(raw)), raw[-1]
    else:
        misfit, allowed = _MISFITS.get(code), _RANGES.get(code)
        wrong = bool(packed and misfit and misfit.search(packed))
        wrong = wrong or bool(allowed and any(number not in allowed for number in singles))
        last = _last(packed, singles) if element.denominator > 1 else 0
    used = tensor.elements * element.bits % 8
    if wrong or (used and (raw or element.denominator > 1) and last >> used):
        find("tensor", tensor.where, "bits that its type does not have")


def _last(packed: memoryview | bytearray | None, singles: list[int]) -> int:
    """Return the last byte of numbers that are packed into bytes."""
    if not packed:
        return singles[-1] if singles else 0
    return list(varints(packed[-2:] if len(packed) > 1 and packed[-2] >= 0x80 else packed[-1:]))[-1]
