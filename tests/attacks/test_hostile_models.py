# SPDX-License-Identifier: Apache-2.0
"""Threat: a malicious model file. Each file here is refused by the inspection, and most are fine by ``onnx.checker``.

Nothing here is ever loaded by a runtime; what would run is at most ``echo``.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from chopmark.inspection import Inspection, inspect_bytes, inspect_file
from unit.inspection.models import branches, elsewhere, function, linear, weights

ELF = b"\x7fELF\x02\x01\x01" + bytes(57)


class Echo:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return (print, ("echo",))


PICKLE = pickle.dumps(Echo(), protocol=4)


@dataclass(frozen=True)
class Hostile:
    """One file, the finding that refuses it, and whether the format's own checker is known to accept it."""

    name: str
    data: bytes
    code: str
    checker_accepts: bool


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", PICKLE)
    return stream.getvalue()


def node(op: str, domain: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, ["x"], ["y"], domain=domain, **attributes)


def external_in_attribute() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["k"], value=elsewhere("k", "../../etc/passwd"))
    return linear([constant, helper.make_node("MatMul", ["x", "k"], ["y"])])


def external_in_sparse() -> onnx.ModelProto:
    model = linear()
    values = elsewhere("s", "weights.bin")
    del values.dims[:]
    values.dims.append(2)
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 5])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 4]))
    return model


def external_in_training() -> onnx.ModelProto:
    model = linear()
    training = model.training_info.add()
    training.algorithm.CopyFrom(branches(elsewhere("k", "/etc/passwd")).graph)
    return model


def external_flag_only() -> onnx.ModelProto:
    """Entries without the flag: one reader looks at the flag, another at the entries."""
    model = linear()
    model.graph.initializer[0].external_data.add(key="location", value="../secret")
    return model


def wraps_denied() -> onnx.ModelProto:
    """A local function whose harmless name hides an operator that runs Python."""
    body = function("bank", "Scale", [node("PyOp", "ai.onnx.contrib", module="os", compute="system")])
    return linear([node("Scale", "bank")], opsets=[("", 17), ("bank", 1), ("ai.onnx.contrib", 1)], functions=[body])


def shadows_standard() -> onnx.ModelProto:
    """A function that takes the place of a standard operator."""
    body = function("", "Relu", [node("Neg")])
    return linear([node("Relu")], functions=[body])


def shadows_runtime() -> onnx.ModelProto:
    """A harmless body under the name of an operator that the runtime has built in: which of the two runs?"""
    body = function("com.microsoft", "EPContext", [node("Neg")])
    return linear([node("EPContext", "com.microsoft")], opsets=[("", 17), ("com.microsoft", 1)], functions=[body])


def doubling(levels: int) -> onnx.ModelProto:
    """Each function calls the next one twice: a few lines that expand to 2^levels nodes."""
    bodies = []
    for level in range(levels):
        domain, name = ("bank", f"f{level + 1}") if level + 1 < levels else ("", "Neg")
        calls = [
            helper.make_node(name, ["x"], ["m"], domain=domain),
            helper.make_node(name, ["m"], ["y"], domain=domain),
        ]
        bodies.append(function("bank", f"f{level}", calls))
    return linear([node("f0", "bank")], opsets=[("", 17), ("bank", 1)], functions=bodies)


def circle() -> onnx.ModelProto:
    bodies = [function("bank", "f", [node("g", "bank")]), function("bank", "g", [node("f", "bank")])]
    return linear([node("f", "bank")], opsets=[("", 17), ("bank", 1)], functions=bodies)


def second_graph() -> bytes:
    """A second graph after the first: some readers merge the two, others take the last."""
    other = linear([node("Neg")])
    return linear().SerializeToString() + field(7, other.graph.SerializeToString())


def hidden_attribute() -> onnx.ModelProto:
    """A number, says its type; it carries a graph as well."""
    scale = node("Elu", alpha=1.0)
    scale.attribute[0].g.CopyFrom(branches(weights()).graph)
    return linear([scale])


def settings_inside() -> onnx.ModelProto:
    model = linear()
    helper.set_model_props(model, {"ort_config": '{"session_options": {"enable_profiling": 1}}'})
    return model


def short_tensor() -> onnx.ModelProto:
    model = linear()
    model.graph.initializer[0].raw_data = bytes(63)
    return model


def two_data() -> onnx.ModelProto:
    """Two sets of weights in one tensor: which one counts is the reader's choice."""
    model = linear()
    model.graph.initializer[0].float_data.extend([0.0] * 16)
    return model


def same_name() -> onnx.ModelProto:
    return linear(tensors=[weights("w")])


CLEAN = linear().SerializeToString()
CUSTOM = linear([node("Steal", "evil.example")], opsets=[("", 17), ("evil.example", 1)])
PYTHON = linear([node("PyOp", "ai.onnx.contrib")], opsets=[("", 17), ("ai.onnx.contrib", 1)])
MICROSOFT = linear(
    [node("EPContext", "com.microsoft", ep_cache_context="../lib.so")], opsets=[("", 17), ("com.microsoft", 1)]
)

HOSTILE = [
    Hostile("custom operator", CUSTOM.SerializeToString(), "domain-denied", True),
    Hostile("PyOp", PYTHON.SerializeToString(), "domain-denied", True),
    Hostile("a compiled blob named by path", MICROSOFT.SerializeToString(), "domain-denied", True),
    Hostile("random operator", linear([node("RandomNormalLike")]).SerializeToString(), "operator-denied", True),
    Hostile(
        "image decoder",
        linear([node("RegexFullMatch", pattern="(a+)+$")]).SerializeToString(),
        "operator-denied",
        False,
    ),
    Hostile(
        "external ../", linear(tensors=[elsewhere("e", "../../secret")]).SerializeToString(), "external-data", False
    ),
    Hostile(
        "external absolute", linear(tensors=[elsewhere("e", "/etc/passwd")]).SerializeToString(), "external-data", False
    ),
    Hostile("external in a branch", branches(elsewhere("e", "../secret")).SerializeToString(), "external-data", False),
    Hostile("external in an attribute", external_in_attribute().SerializeToString(), "external-data", False),
    Hostile("external in a sparse tensor", external_in_sparse().SerializeToString(), "external-data", False),
    Hostile("external in training", external_in_training().SerializeToString(), "external-data", True),
    Hostile("external entries only", external_flag_only().SerializeToString(), "external-data", True),
    Hostile("function around PyOp", wraps_denied().SerializeToString(), "domain-denied", True),
    Hostile("function named Relu", shadows_standard().SerializeToString(), "function-shadows", True),
    Hostile("function named EPContext", shadows_runtime().SerializeToString(), "function-shadows", True),
    Hostile("functions in a circle", circle().SerializeToString(), "too-many-nodes", False),
    Hostile("functions that double", doubling(40).SerializeToString(), "too-many-nodes", True),
    Hostile("a graph in a number", hidden_attribute().SerializeToString(), "attribute", False),
    Hostile("settings of the runtime", settings_inside().SerializeToString(), "runtime-settings", True),
    Hostile("short tensor", short_tensor().SerializeToString(), "tensor", False),
    Hostile("two sets of weights", two_data().SerializeToString(), "tensor", False),
    Hostile("one name twice", same_name().SerializeToString(), "duplicate-name", False),
    Hostile("a second graph", second_graph(), "duplicate-field", False),
    Hostile("ELF in a field of its own", CLEAN + field(15, ELF), "unknown-field", True),
    Hostile("pickle in a field of its own", CLEAN + field(99, PICKLE), "unknown-field", True),
    Hostile("zip in the description", CLEAN + field(6, archive()), "not-utf8", True),
    Hostile("ELF appended", CLEAN + ELF, "malformed", False),
    Hostile("pickle appended", CLEAN + PICKLE, "unknown-field", True),
    Hostile("padded number", CLEAN + varint(5 << 3) + b"\x80\x00", "not-canonical", True),
    Hostile("truncated", CLEAN[:-7], "truncated", False),
    Hostile("empty", b"", "empty", False),
    Hostile("a pickle", PICKLE, "foreign-format", False),
    Hostile("an old pickle", pickle.dumps(Echo(), protocol=0), "foreign-format", False),
    Hostile("a zip", archive(), "foreign-format", False),
    Hostile("an ELF", ELF, "foreign-format", False),
    Hostile("ONNX Runtime's own format", b"\x18\0\0\0ORTM" + bytes(64), "foreign-format", False),
]


def accepts(data: bytes) -> bool:
    """Whether the checker of the onnx package, with every option it has, lets the file pass."""
    try:
        onnx.checker.check_model(data)
    except Exception:  # noqa: BLE001 - whatever it says no with
        return False
    return True


def codes(inspection: Inspection) -> set[str]:
    return {finding.code for finding in inspection.findings}


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_file_is_refused(hostile: Hostile) -> None:
    inspection = inspect_bytes(hostile.data)
    assert not inspection.passed
    assert hostile.code in codes(inspection), inspection.findings


@pytest.mark.parametrize(
    "hostile", [hostile for hostile in HOSTILE if hostile.checker_accepts], ids=lambda hostile: hostile.name
)
def test_the_formats_own_checker_would_let_it_pass(hostile: Hostile) -> None:
    assert accepts(hostile.data)


def test_a_clean_model_passes_both() -> None:
    assert accepts(CLEAN)
    assert inspect_bytes(CLEAN).passed


@pytest.mark.parametrize("model", [linear(tensors=[elsewhere("e", "w.bin")]), branches(elsewhere("e", "w.bin"))])
def test_weights_in_a_file_beside_it_are_refused_which_the_checker_accepts(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    """Whoever can change ``w.bin`` changes the model, and the digest of the model stays the same."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "w.bin").write_bytes(bytes(64))
    onnx.checker.check_model(str(path))
    assert codes(inspect_file(path)) == {"external-data"}


def test_a_zip_at_the_end_of_a_clean_model_is_found() -> None:
    """An archive without any byte above 0x7f is a legal description, and zip readers start at the end."""
    end = b"PK\x05\x06" + bytes(18)
    inspection = inspect_bytes(CLEAN + field(6, end))
    assert zipfile.is_zipfile(io.BytesIO(CLEAN + field(6, end)))
    assert inspection.complete
    assert codes(inspection) == {"polyglot"}


def test_a_bomb_of_dimensions_takes_no_memory() -> None:
    packed = field(1, b"\x01" * 3_000_000)
    tensor = packed + varint(2 << 3) + b"\x01"
    inspection = inspect_bytes(field(7, field(5, tensor)))
    assert "too-many-fields" in codes(inspection)


def test_messages_nested_a_thousand_deep_are_refused() -> None:
    kind = b""
    for _ in range(1_000):
        kind = field(4, field(1, kind))
    inspection = inspect_bytes(field(7, field(11, field(2, kind))))
    assert codes(inspection) == {"too-deep"}


def test_a_flag_beyond_32_bits_is_still_external() -> None:
    """Other readers cut 2^32 + 1 down to 1, which is EXTERNAL."""
    tensor = weights("big").SerializeToString() + varint(14 << 3) + varint(2**32 + 1)
    assert "external-data" in codes(inspect_bytes(field(7, field(5, tensor))))


def test_names_cannot_write_to_a_terminal() -> None:
    inspection = inspect_bytes(linear([node("\x1b[2J", "evil\x07")]).SerializeToString())
    assert not inspection.passed
    assert not any("\x1b" in finding.message or "\x07" in finding.message for finding in inspection.findings)


def test_a_hundred_reasons_are_enough() -> None:
    nodes = [helper.make_node("Steal", ["x"], [f"y{n}"]) for n in range(500)]
    inspection = inspect_bytes(linear(nodes).SerializeToString())
    assert not inspection.complete
    assert len(inspection.findings) == 101
    assert inspection.findings[-1].code == "too-many-findings"


def test_weights_may_be_anything() -> None:
    """Random bytes as numbers are what weights are; no byte of them is a reason to refuse."""
    tensor = weights()
    tensor.raw_data = np.random.default_rng(1).bytes(64)
    model = linear()
    model.graph.initializer[0].CopyFrom(tensor)
    model.graph.initializer[0].name = "w"
    assert inspect_bytes(model.SerializeToString()).passed
