# SPDX-License-Identifier: Apache-2.0
"""Walk an ONNX file byte by byte and say what is in it.

Decides: whether every byte has a meaning that :mod:`~chopmark.inspection.onnx_schema` knows, and whether
:mod:`~chopmark.inspection.onnx_rules` finds anything. Does not decide whether the graph computes something sensible: that is
what tests are for. Nothing is loaded or run, and no other parser sees the bytes.

Bounds: time and memory grow with the number of fields, which is limited; weights are never copied into objects.
"""

from __future__ import annotations

from collections.abc import Mapping

from chopmark.inspection.model import Limits
from chopmark.inspection.onnx_message import Message
from chopmark.inspection.onnx_rules import Rules
from chopmark.inspection.onnx_schema import SCHEMA, WIRES, Field, Type
from chopmark.inspection.protobuf import Malformed, Reader, Wire, count_packed, signed

_KEPT = frozenset(
    {
        "Attribute",
        "Function",
        "Graph",
        "Node",
        "OperatorSetId",
        "SparseTensor",
        "StringStringEntry",
        "Tensor",
        "ValueInfo",
    }
)
"""Messages that the rules of their parents look into; others are forgotten once they were judged."""
_NUMBERS = frozenset({Type.INT, Type.FLOAT, Type.DOUBLE})
_SHOWN_CHARACTERS = 200


class Walk:
    """One pass over one file."""

    def __init__(self, data: bytes, *, limits: Limits, allowed: Mapping[str, frozenset[str]]) -> None:
        self.limits = limits
        self.rules = Rules(limits=limits, allowed=allowed)
        self.reader = Reader(memoryview(data))
        self._fields = 0

    def run(self) -> Message:
        """Walk the whole file.

        Raises:
            Malformed: the bytes stop making sense, or exceed a limit.
        """
        return self._message("Model", len(self.reader.data), "", 0)

    def _message(self, kind: str, end: int, where: str, depth: int) -> Message:
        if depth > self.limits.max_depth:
            raise Malformed("too-deep", self.reader.at, f"messages nested deeper than {self.limits.max_depth}")
        message, schema, one_of = Message(kind, where), SCHEMA[kind], False
        while self.reader.at < end:
            start = self.reader.at
            number, wire = self.reader.tag(end)
            field = schema.get(number)
            if field is None:
                raise Malformed("unknown-field", start, f"{where or 'model'}: {kind} has no field {number}")
            twice = field.name in message.counts and not field.repeated
            if twice or (one_of and field.one_of):
                raise Malformed("duplicate-field", start, f"{where or 'model'}: {field.name} is set twice")
            one_of = one_of or field.one_of
            self._spend()
            self._field(message, field, wire, end, depth)
        self.rules.judge(message)
        return message

    def _spend(self) -> None:
        self._fields += 1
        if self._fields > self.limits.max_fields:
            raise Malformed("too-many-fields", self.reader.at, f"more than {self.limits.max_fields:,} fields")

    def _field(self, message: Message, field: Field, wire: Wire, end: int, depth: int) -> None:
        if field.type is None:
            self._child(message, field, wire, end, depth)
        elif wire is Wire.BYTES and field.repeated and field.type in _NUMBERS:
            self._packed(message, field.name, WIRES[field.type], end)
        elif wire is not WIRES[field.type]:
            raise Malformed("malformed", self.reader.at, f"{field.name} with wire type {wire.value}")
        elif field.type is Type.INT:
            self._one_run(message, field)
            message.count(field.name)
            message.numbers.setdefault(field.name, []).append(signed(self.reader.varint(end)))
        elif wire is Wire.BYTES:
            self._bytes(message, field, end)
        else:
            self._one_run(message, field)
            message.count(field.name)
            taken = self.reader.take(4 if wire is Wire.FIXED32 else 8, end)
            message.data.setdefault(field.name, bytearray()).extend(taken)  # type: ignore[union-attr]

    def _child(self, message: Message, field: Field, wire: Wire, end: int, depth: int) -> None:
        if wire is not Wire.BYTES:
            raise Malformed("malformed", self.reader.at, f"{field.name} with wire type {wire.value}")
        index = f"[{message.counts.get(field.name, 0)}]" if field.repeated else ""
        where = f"{message.where}.{field.name}{index}" if message.where else f"{field.name}{index}"
        message.count(field.name)
        child = self._message(field.message, self.reader.length(end), where, depth + 1)
        if field.message in _KEPT:
            message.children.setdefault(field.name, []).append(child)

    def _packed(self, message: Message, name: str, wire: Wire, end: int) -> None:
        stop = self.reader.length(end)
        if name == "dims":
            values = message.numbers.setdefault("dims", [])
            while self.reader.at < stop:
                self._spend()
                values.append(signed(self.reader.varint(stop)))
                message.count("dims")
            return
        start = self.reader.at
        if name in message.counts:
            raise Malformed("duplicate-field", start, f"{name} comes in several runs")
        data = self.reader.take(stop - start, stop)
        message.count(name, count_packed(data, wire, start))
        message.data[name] = data

    def _one_run(self, message: Message, field: Field) -> None:
        """Refuse single numbers after packed ones: what their order is, each reader decides."""
        if isinstance(message.data.get(field.name), memoryview):
            raise Malformed("duplicate-field", self.reader.at, f"{field.name} comes in several runs")

    def _bytes(self, message: Message, field: Field, end: int) -> None:
        stop = self.reader.length(end)
        start = self.reader.at
        data = self.reader.take(stop - start, stop)
        message.count(field.name)
        if field.type is Type.RAW:
            message.data[field.name] = data
            return
        limit = self.limits.max_text_bytes if field.type is Type.TEXT else self.limits.max_name_bytes
        if len(data) > limit:
            raise Malformed("too-long", start, f"{field.name} of {len(data):,} bytes")
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError:
            raise Malformed("not-utf8", start, f"{field.name} is not UTF-8") from None
        if field.type is not Type.TEXT and "\0" in text:
            raise Malformed("not-utf8", start, f"{field.name} holds a zero byte")
        message.texts.setdefault(field.name, []).append(text[:_SHOWN_CHARACTERS] if field.type is Type.TEXT else text)
