# SPDX-License-Identifier: Apache-2.0
"""The messages of ONNX, as far as they may stand in a file that is deployed.

One line a message, one ``number name type`` a field, as in ``onnx-ml.proto`` (IR version 14): ``*`` may repeat, ``|`` at
most one of these may be set. A field that is not in this table refuses the file; that is how tensor segments and device
placements are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from chopmark.inspection.protobuf import Wire


class Type(Enum):
    """The type of a field, apart from messages."""

    INT = "int"
    """int32, int64, uint64 or an enumeration: a varint."""
    FLOAT = "float"
    DOUBLE = "double"
    NAME = "name"
    """A string that names something."""
    TEXT = "text"
    """A string for people."""
    UTF8 = "utf8"
    """Declared as bytes; ONNX says it is UTF-8."""
    RAW = "raw"
    """Numbers as they lie in memory."""


WIRES: Mapping[Type, Wire] = {
    Type.INT: Wire.VARINT,
    Type.FLOAT: Wire.FIXED32,
    Type.DOUBLE: Wire.FIXED64,
    Type.NAME: Wire.BYTES,
    Type.TEXT: Wire.BYTES,
    Type.UTF8: Wire.BYTES,
    Type.RAW: Wire.BYTES,
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str
    type: Type | None
    """None for a message."""
    message: str
    repeated: bool
    one_of: bool


_TABLE = """
Model: 1 ir_version int, 2 producer_name name, 3 producer_version name, 4 domain name, 5 model_version int,
    6 doc_string text, 7 graph Graph, 8 opset_import OperatorSetId*, 14 metadata_props StringStringEntry*,
    20 training_info TrainingInfo*, 25 functions Function*
Graph: 1 node Node*, 2 name name, 5 initializer Tensor*, 10 doc_string text, 11 input ValueInfo*, 12 output ValueInfo*,
    13 value_info ValueInfo*, 14 quantization_annotation TensorAnnotation*, 15 sparse_initializer SparseTensor*,
    16 metadata_props StringStringEntry*
Node: 1 input name*, 2 output name*, 3 name name, 4 op_type name, 5 attribute Attribute*, 6 doc_string text,
    7 domain name, 8 overload name, 9 metadata_props StringStringEntry*
Attribute: 1 name name, 2 f float, 3 i int, 4 s utf8, 5 t Tensor, 6 g Graph, 7 floats float*, 8 ints int*,
    9 strings utf8*, 10 tensors Tensor*, 11 graphs Graph*, 13 doc_string text, 14 tp Type, 15 type_protos Type*,
    20 type int, 21 ref_attr_name name, 22 sparse_tensor SparseTensor, 23 sparse_tensors SparseTensor*
Tensor: 1 dims int*, 2 data_type int, 4 float_data float*, 5 int32_data int*, 6 string_data utf8*, 7 int64_data int*,
    8 name name, 9 raw_data raw, 10 double_data double*, 11 uint64_data int*, 12 doc_string text,
    13 external_data StringStringEntry*, 14 data_location int, 16 metadata_props StringStringEntry*
SparseTensor: 1 values Tensor, 2 indices Tensor, 3 dims int*
ValueInfo: 1 name name, 2 type Type, 3 doc_string text, 4 metadata_props StringStringEntry*
Type: 1 tensor_type TensorType|, 4 sequence_type SequenceType|, 5 map_type MapType|, 6 denotation name,
    8 sparse_tensor_type TensorType|, 9 optional_type SequenceType|
TensorType: 1 elem_type int, 2 shape Shape
SequenceType: 1 elem_type Type
MapType: 1 key_type int, 2 value_type Type
Shape: 1 dim Dimension*
Dimension: 1 dim_value int|, 2 dim_param name|, 3 denotation name
OperatorSetId: 1 domain name, 2 version int
StringStringEntry: 1 key name, 2 value text
TensorAnnotation: 1 tensor_name name, 2 quant_parameter_tensor_names StringStringEntry*
TrainingInfo: 1 initialization Graph, 2 algorithm Graph, 3 initialization_binding StringStringEntry*,
    4 update_binding StringStringEntry*
Function: 1 name name, 4 input name*, 5 output name*, 6 attribute name*, 7 node Node*, 8 doc_string text,
    9 opset_import OperatorSetId*, 10 domain name, 11 attribute_proto Attribute*, 12 value_info ValueInfo*,
    13 overload name, 14 metadata_props StringStringEntry*
"""


def _read(table: str) -> dict[str, dict[int, Field]]:
    messages: dict[str, dict[int, Field]] = {}
    scalars = {kind.value: kind for kind in Type}
    for line in table.strip().replace("\n    ", " ").splitlines():
        message, _, fields = line.partition(": ")
        messages[message] = {}
        for text in fields.split(", "):
            number, name, kind = text.split()
            plain = kind.rstrip("*|")
            scalar = scalars.get(plain)
            messages[message][int(number)] = Field(name, scalar, "" if scalar else plain, "*" in kind, "|" in kind)
    return messages


SCHEMA: Mapping[str, Mapping[int, Field]] = _read(_TABLE)
"""Message -> field number -> field."""
