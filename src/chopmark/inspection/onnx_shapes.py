# SPDX-License-Identifier: Apache-2.0
"""What standard operators make of constants: the least number of elements, and numbers where shapes are computed from them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from chopmark.inspection.onnx_message import MAX_NUMBERS, Message
from chopmark.inspection.onnx_tensors import numbers_of

_CAP = 2**64
"""Larger numbers are all the same here."""
_MAX_LETTERS = 8
"""Of what ``Einsum`` makes: one dimension each."""

_SAME_ELEMENTS_TEXT = """
    Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh CumSum CumProd DepthToSpace DequantizeLinear Dropout Elu
    Erf Exp Flatten Floor Gelu HardSigmoid HardSwish Hardmax Identity IsInf IsNaN LeakyRelu Log LogSoftmax Mish Neg Not
    QuantizeLinear Reciprocal Relu Reshape Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign SpaceToDepth Sqrt
    Squeeze Swish Tan Tanh ThresholdedRelu Transpose Trilu Unsqueeze
"""
_BROADCAST_TEXT = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Expand Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod
    Mul Or PRelu Pow Sub Sum Where Xor
"""
_SAME_ELEMENTS = frozenset(_SAME_ELEMENTS_TEXT.split())
_BROADCAST = frozenset(_BROADCAST_TEXT.split())
_SAME_NUMBERS = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_SHAPE_AT: Mapping[str, int] = {
    "AffineGrid": 1, "BlackmanWindow": 0, "CenterCropPad": 1, "Col2Im": 1, "ConstantOfShape": 0, "DFT": 1, "Expand": 1,
    "HammingWindow": 0, "HannWindow": 0, "MaxUnpool": 2, "MelWeightMatrix": 0, "OneHot": 1, "Resize": 3,
}  # fmt: skip
"""Operator -> the input whose numbers are (some of) the dimensions of what it makes."""
_SHAPE_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "ConvTranspose": ("output_shape",),
    "MaxRoiPool": ("pooled_shape",),
    "RoiAlign": ("output_height", "output_width"),
}
_WINDOWS = frozenset({"AveragePool", "Conv", "ConvInteger", "DeformConv", "LpPool", "MaxPool", "QLinearConv"})


@dataclass(frozen=True, slots=True)
class Value:
    """What is known about one value."""

    elements: int = 1
    """At least so many."""
    numbers: tuple[float, ...] | None = None
    """All of them, where they are constant and few."""


UNKNOWN = Value()
Attributes = Mapping[str, Message]


def either(values: Sequence[Value]) -> Value:
    """Return what is true of any of some values."""
    same = all(value.numbers == values[0].numbers for value in values)
    return Value(min(value.elements for value in values), values[0].numbers if same else None)


def makes_from_a_shape(op_type: str) -> bool:
    """Whether a standard operator can make more than it was given."""
    return op_type in _SHAPE_AT or op_type in _SHAPE_ATTRIBUTES or op_type in _GENERATORS


def _numbers(values: list[Value], at: int) -> tuple[float, ...]:
    found = values[at].numbers if at < len(values) else None
    return found or ()


def _product(numbers: Sequence[float]) -> int:
    """Multiply what may be anything: negative, huge, not a number."""
    if 0 in numbers:
        return 0
    product = 1.0
    for number in numbers:
        product *= max(1.0, float(number)) if number == number else 1.0  # noqa: PLR0124 - not a number
    return int(min(product, float(_CAP)))


def standard(op_type: str, values: list[Value], attributes: Attributes) -> Value:
    """Return what is known about the first output of a standard operator."""
    if op_type == "Constant":
        return _constant(attributes)
    first = values[0] if values else UNKNOWN
    elements = 1
    if op_type in _SAME_ELEMENTS:
        elements = first.elements
    elif op_type in _BROADCAST and values:
        elements = 0 if any(value.elements == 0 for value in values) else max(value.elements for value in values)
    if op_type in _SHAPE_AT and (shape := _numbers(values, _SHAPE_AT[op_type])):
        elements = max(elements, _product(shape))
    if op_type in _SHAPE_ATTRIBUTES:
        sizes = [size for name in _SHAPE_ATTRIBUTES[op_type] for size in _integers(attributes, name)]
        elements = max(elements, _product(sizes))
    if op_type in _GENERATORS:
        elements = max(elements, _GENERATORS[op_type](values, attributes))
    return Value(min(elements, _CAP), _folded(op_type, values))


def _integers(attributes: Attributes, name: str) -> list[int]:
    attribute = attributes.get(name)
    if attribute is None:
        return []
    return attribute.integers("i") or attribute.integers("ints")


def _tile(values: list[Value], _: Attributes) -> int:
    return values[0].elements * _product(_numbers(values, 1)) if values else 1


def _concat(values: list[Value], _: Attributes) -> int:
    return sum(value.elements for value in values)


def _pad(values: list[Value], attributes: Attributes) -> int:
    pads = _numbers(values, 1) or _integers(attributes, "pads")
    half = len(pads) // 2
    return _product([1 + a + b for a, b in zip(pads[:half], pads[half:], strict=False)])


def _range(values: list[Value], _: Attributes) -> int:
    ends = [_numbers(values, at) for at in range(3)]
    if not all(len(end) == 1 for end in ends) or not ends[2][0]:
        return 1
    (start,), (stop,), (step,) = ends
    return _product([(float(stop) - float(start)) / float(step)])


def _resize(values: list[Value], _: Attributes) -> int:
    """Scales are the third input, and the second before operator set 11."""
    scales = _numbers(values, 2) or (_numbers(values, 1) if len(values) == 2 else ())
    return _product([values[0].elements, *scales]) if values else 1


def _window(_: list[Value], attributes: Attributes) -> int:
    """What padding makes of one pixel: (1 + padding - window) / stride + 1 along each axis."""
    pads = _integers(attributes, "pads")
    half = len(pads) // 2
    sizes: list[float] = []
    for axis in range(half):
        size, stride, step = (_at(attributes, name, axis) for name in ("kernel_shape", "strides", "dilations"))
        sizes.append(1 + max(0, 1 + pads[axis] + pads[half + axis] - ((size - 1) * step + 1)) // max(1, stride))
    return _product(sizes)


def _transposed(_: list[Value], attributes: Attributes) -> int:
    """What one pixel becomes: the window, and what is added to it."""
    axes = len(_integers(attributes, "kernel_shape")) or len(_integers(attributes, "output_padding"))
    sizes = [
        (_at(attributes, "kernel_shape", axis) - 1) * _at(attributes, "dilations", axis)
        + _at(attributes, "output_padding", axis)
        for axis in range(axes)
    ]
    return _product(sizes)


def _at(attributes: Attributes, name: str, axis: int) -> int:
    numbers = _integers(attributes, name)
    return numbers[axis] if axis < len(numbers) else 1


def _einsum(_: list[Value], attributes: Attributes) -> int:
    """More dimensions than any model has are a product of everything with everything."""
    equation = attributes["equation"].text("s") if "equation" in attributes else ""
    made = equation.rpartition("->")[2].replace(" ", "").replace(",", "")
    return _CAP if len(set(made)) > _MAX_LETTERS else 1


_GENERATORS: Mapping[str, Callable[[list[Value], Attributes], int]] = {
    **dict.fromkeys(_WINDOWS, _window),
    "Concat": _concat,
    "ConvTranspose": _transposed,
    "Einsum": _einsum,
    "Pad": _pad,
    "Range": _range,
    "Resize": _resize,
    "Tile": _tile,
}


def _folded(op_type: str, values: list[Value]) -> tuple[float, ...] | None:
    """Return the numbers that an operator makes of constants, for those operators that shapes are made with."""
    given = [value.numbers for value in values]
    known = [numbers for numbers in given if numbers is not None]
    if not known or len(known) != len(given):
        return known[0] if known and op_type in {"Reshape", "Squeeze", "Unsqueeze"} and given[0] is not None else None
    if op_type in _SAME_NUMBERS:
        return known[0]
    if op_type == "Concat":
        joined = tuple(number for numbers in known for number in numbers)
        return joined if len(joined) <= MAX_NUMBERS else None
    if op_type in _ARITHMETIC and len(known) == 2:
        return _pairwise(_ARITHMETIC[op_type], known[0], known[1])
    return None


_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Mul": lambda a, b: a * b,
    "Sub": lambda a, b: a - b,
}


def _pairwise(
    operation: Callable[[float, float], float], left: tuple[float, ...], right: tuple[float, ...]
) -> tuple[float, ...] | None:
    length = max(len(left), len(right))
    if {len(left), len(right)} - {1, length}:
        return None
    a, b = (numbers * length if len(numbers) == 1 else numbers for numbers in (left, right))
    return tuple(max(-_CAP, min(_CAP, operation(x, y))) for x, y in zip(a, b, strict=True))


def _constant(attributes: Attributes) -> Value:
    for attribute in attributes.values():
        if tensor := attribute.only("t"):
            return Value(tensor.elements, numbers_of(tensor))
        floats = attribute.data.get("f") or attribute.data.get("floats") or b""
        if 0 < len(floats) <= 4 * MAX_NUMBERS:
            return Value(len(floats) // 4, struct.unpack(f"<{len(floats) // 4}f", floats))
        if integers := attribute.integers("i") or attribute.integers("ints"):
            return Value(len(integers), tuple(integers))
    return UNKNOWN
