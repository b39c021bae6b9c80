# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, onnx_ml_pb2

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.errors import UsageError
from chopmark.inspection import DEFAULT_OPERATORS, Limits, inspect_bytes, inspect_file, inspection_predicate
from chopmark.inspection.formats import ends_as_zip
from chopmark.inspection.onnx_attributes import ATTRIBUTES
from chopmark.inspection.onnx_schema import SCHEMA, Type
from chopmark.inspection.onnx_tensors import ELEMENTS
from chopmark.inspection.operators import OPSET_VERSIONS
from unit.inspection.models import branches, function, linear, table, weights

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_clean_model_passes_with_every_byte_accounted_for() -> None:
    data = linear().SerializeToString()
    inspection = inspect_bytes(data)
    assert inspection.passed
    assert inspection.findings == ()
    assert inspection.bytes_covered == inspection.length == len(data)
    assert inspection.sha256 == Digest.of(data)
    assert inspection.operators == {"MatMul": 1}
    assert (inspection.initializers, inspection.parameters) == (1, 16)


def test_operators_of_branches_count() -> None:
    inspection = inspect_bytes(branches(weights("k")).SerializeToString())
    assert inspection.passed, inspection.findings
    assert inspection.operators == {"Constant": 1, "Identity": 1, "If": 1, "MatMul": 1}
    assert inspection.initializers == 1


def test_a_local_function_of_allowed_operators_passes() -> None:
    body = function("bank", "Twice", [helper.make_node("Add", ["x", "x"], ["y"])])
    model = linear(
        [helper.make_node("Twice", ["x"], ["y"], domain="bank")], opsets=[("", 17), ("bank", 1)], functions=[body]
    )
    inspection = inspect_bytes(model.SerializeToString())
    assert inspection.passed, inspection.findings
    assert inspection.operators == {"Add": 1, "bank::Twice": 1}


def test_an_attribute_of_a_function_may_be_referred_to_inside_it_only() -> None:
    elu = helper.make_node("Elu", ["x"], ["y"])
    elu.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="a")
    body = function("bank", "E", [elu])
    body.attribute.append("a")
    call = helper.make_node("E", ["x"], ["y"], domain="bank", a=1.0)
    inside = linear([call], opsets=[("", 17), ("bank", 1)], functions=[body])
    assert inspect_bytes(inside.SerializeToString()).passed
    assert not inspect_bytes(linear([elu]).SerializeToString()).passed


def test_another_domain_can_be_allowed_by_name() -> None:
    model = linear(
        [helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm="L2")],
        opsets=[("", 17), ("ai.onnx.ml", 3)],
    ).SerializeToString()
    assert not inspect_bytes(model).passed
    allowed = {**DEFAULT_OPERATORS, "ai.onnx.ml": frozenset({"Normalizer"})}
    assert inspect_bytes(model, allowed=allowed).passed
    assert not inspect_bytes(model, allowed={**allowed, "ai.onnx.ml": frozenset({"Scaler"})}).passed


@pytest.mark.parametrize("kind", sorted(set(ELEMENTS) - {8}))
def test_every_element_type_as_the_onnx_package_writes_it(kind: int) -> None:
    for raw in (False, True):
        shape = [3, 5]
        count = 30 if kind in (14, 15) else 15
        if raw:
            size = helper.tensor_dtype_to_np_dtype(kind)
            array = np.zeros(shape, dtype=size)
            tensor = numpy_helper.from_array(array, "k")
        else:
            tensor = helper.make_tensor("k", kind, shape, [0] * (count if kind not in (14, 15) else 15))
        inspection = inspect_bytes(linear(tensors=[tensor]).SerializeToString())
        assert inspection.passed, (raw, inspection.findings)
        assert inspection.parameters == 31


def test_strings_negative_numbers_and_types() -> None:
    words = helper.make_tensor("words", TensorProto.STRING, [2], [b"ja", "nein\u00e4".encode()])
    below = helper.make_tensor("below", TensorProto.INT64, [3], [-1, -(2**63), 2**63 - 1])
    model = linear(tensors=[words, below])
    model.graph.value_info.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["n", 4]))
    model.graph.value_info.append(table("t"))
    inspection = inspect_bytes(model.SerializeToString())
    assert inspection.passed, inspection.findings


def test_a_sparse_tensor_must_fit() -> None:
    model = linear()
    values = helper.make_tensor("s", TensorProto.FLOAT, [2], [1.0, 2.0])
    fits = helper.make_tensor("", TensorProto.INT64, [2], [0, 5])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, fits, [4, 4]))
    model.graph.node.add(op_type="Identity", input=["s"], output=["s_out"])
    model.graph.output.append(table("s_out"))
    assert inspect_bytes(model.SerializeToString()).passed
    model.graph.sparse_initializer[0].indices.dims[0] = 3
    model.graph.sparse_initializer[0].indices.int64_data.append(9)
    assert not inspect_bytes(model.SerializeToString()).passed


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda model: setattr(model, "ir_version", 99), "version"),
        (lambda model: model.ClearField("graph"), "no-graph"),
        (lambda model: model.ClearField("opset_import"), "version"),
        (lambda model: setattr(model.opset_import[0], "version", 3), "version"),
        (lambda model: model.opset_import.add(domain="ai.onnx", version=17), "duplicate-name"),
        (lambda model: model.opset_import.add(domain="com.microsoft", version=1), "domain-denied"),
        (lambda model: setattr(model.graph.initializer[0], "data_type", 77), "tensor"),
        (lambda model: model.graph.initializer[0].dims.append(-1), "tensor"),
        (lambda model: model.graph.initializer[0].dims.extend([2**40, 2**40]), "tensor"),
        (lambda model: setattr(model.graph.initializer[0], "name", ""), "no-name"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 0), "tensor"),
        (lambda model: setattr(model.graph.initializer[0].segment, "begin", 0), "unknown-field"),
    ],
)
def test_one_change_one_finding(change, code: str) -> None:
    model = linear()
    change(model)
    inspection = inspect_bytes(model.SerializeToString())
    assert code in [finding.code for finding in inspection.findings]


def test_findings_say_where() -> None:
    model = branches(weights("k"))
    other = next(n for n, one in enumerate(model.graph.node[1].attribute) if one.name == "else_branch")
    model.graph.node[1].attribute[other].g.initializer[0].raw_data = b""
    (finding,) = inspect_bytes(model.SerializeToString()).findings
    assert finding.where == f"graph.node[1].attribute[{other}].g.initializer[0]"


def test_limits_refuse_and_never_sample() -> None:
    data = linear().SerializeToString()
    assert [f.code for f in inspect_bytes(data, limits=Limits(max_bytes=10)).findings] == ["too-large"]
    assert [f.code for f in inspect_bytes(data, limits=Limits(max_fields=5)).findings] == ["too-many-fields"]
    assert [f.code for f in inspect_bytes(data, limits=Limits(max_depth=1)).findings] == ["too-deep"]
    assert [f.code for f in inspect_bytes(data, limits=Limits(max_name_bytes=3)).findings] == ["too-long"]
    assert not inspect_bytes(data, limits=Limits(max_fields=5)).complete


def test_files_are_read_once_and_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear().SerializeToString())
    assert inspect_file(path).passed
    (tmp_path / "link.onnx").symlink_to(path)
    with pytest.raises(UsageError):
        inspect_file(tmp_path / "link.onnx")
    with pytest.raises(UsageError):
        inspect_file(tmp_path / "absent.onnx")


def test_a_zip_end_in_the_middle_is_no_archive() -> None:
    assert not ends_as_zip(b"PK\x05\x06" + bytes(10))
    assert not ends_as_zip(b"no archive")


def test_the_predicate_is_canonical_json_of_whole_numbers() -> None:
    inspection = inspect_bytes(linear().SerializeToString())
    predicate = inspection_predicate(inspection, tool_version="0.1.0", inspected_at=NOON)
    assert canonical.decode(canonical.encode(predicate), what="predicate", max_bytes=10_000) == predicate
    assert predicate["result"] == "PASSED"
    assert predicate["complete"] is True
    assert predicate["operators"] == [{"name": "MatMul", "count": 1}]
    assert predicate["findings"] == []


def test_the_predicate_of_a_refusal_names_its_reasons_and_the_rules() -> None:
    model = linear([helper.make_node("Steal", ["x"], ["y"])]).SerializeToString()
    inspection = inspect_bytes(model)
    predicate = inspection_predicate(inspection, tool_version="0.1.0", inspected_at=NOON)
    assert predicate["result"] == "FAILED"
    assert [finding["code"] for finding in predicate["findings"]] == ["operator-denied"]
    wider = {"": DEFAULT_OPERATORS[""] | {"Steal"}}
    other = inspection_predicate(inspection, tool_version="0.1.0", inspected_at=NOON, allowed=wider)
    assert other["allow_list"] != predicate["allow_list"]


_SAME_SHAPE = {
    "TensorType": ("TypeProto.Tensor", "TypeProto.SparseTensor"),
    "SequenceType": ("TypeProto.Sequence", "TypeProto.Optional"),
    "MapType": ("TypeProto.Map",),
    "Shape": ("TensorShapeProto",),
    "Dimension": ("TensorShapeProto.Dimension",),
    "TensorAnnotation": ("TensorAnnotation",),
}
_LEFT_OUT = {("Model", 26), ("Node", 10), ("Tensor", 3), ("Type", 7)}
"""Device placements, tensor segments, opaque types."""


@pytest.mark.parametrize("message", sorted(SCHEMA))
def test_the_schema_is_that_of_the_onnx_package(message: str) -> None:
    for name in _SAME_SHAPE.get(message, (f"{message}Proto",)):
        descriptor = onnx_ml_pb2.DESCRIPTOR.pool.FindMessageTypeByName(f"onnx.{name}")
        theirs = {one.number: one for one in descriptor.fields if (message, one.number) not in _LEFT_OUT}
        ours = SCHEMA[message]
        assert set(ours) == set(theirs)
        for number, one in theirs.items():
            mine = ours[number]
            assert (mine.name, mine.repeated, mine.one_of) == (one.name, one.is_repeated, bool(one.containing_oneof))
            assert bool(mine.message) == bool(one.message_type)
            wanted = {
                one.TYPE_FLOAT: {Type.FLOAT},
                one.TYPE_DOUBLE: {Type.DOUBLE},
                one.TYPE_STRING: {Type.NAME, Type.TEXT},
                one.TYPE_BYTES: {Type.UTF8, Type.RAW},
                one.TYPE_MESSAGE: {None},
            }.get(one.type, {Type.INT})
            assert mine.type in wanted


def test_every_allowed_operator_is_one_of_the_standard() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert DEFAULT_OPERATORS[""] <= known


def test_the_attributes_are_those_of_the_onnx_package() -> None:
    kinds = {"INT": "i", "INTS": "ints", "FLOAT": "f", "FLOATS": "floats", "STRING": "s", "STRINGS": "strings"}
    kinds |= {"TENSOR": "t", "GRAPH": "g", "SPARSE_TENSOR": "sparse_tensor"}
    theirs: dict[str, set[tuple[str, str]]] = {}
    schemas = [schema for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain]
    for name in DEFAULT_OPERATORS[""] | {"Loop", "Scan"}:
        versions = [schema for schema in schemas if schema.name == name]
        oldest = max((one.since_version for one in versions if one.since_version <= OPSET_VERSIONS[0]), default=0)
        held = {
            (attribute, kinds[str(one.type).rpartition(".")[2]])
            for schema in versions
            if schema.since_version >= oldest
            for attribute, one in schema.attributes.items()
        }
        if held:
            theirs[name] = held
    assert theirs == ATTRIBUTES


def test_exporters_may_leave_small_things_behind() -> None:
    """A node that nobody reads, and an axis: light_resnet50 and its like have them."""
    axis = numpy_helper.from_array(np.array([1]), "axis")
    nodes = [
        helper.make_node("Constant", [], ["axis"], value=axis),
        helper.make_node("Unsqueeze", ["x", "axis"], ["unread"]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    assert inspect_bytes(linear(nodes).SerializeToString()).passed
