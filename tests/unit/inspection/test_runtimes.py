# SPDX-License-Identifier: Apache-2.0
"""The runtimes behind the port, each with the same small model: doubling, and one less."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from chopmark.adapters.runtimes.onnxruntime import OnnxRuntime
from chopmark.adapters.runtimes.tiny import TinyRuntime
from chopmark.artifacts.ports import Runtime
from chopmark.errors import ChopmarkError, DecodeError, UsageError, VerificationError
from unit.inspection.models import elsewhere, linear, table


def onnx_model() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "double",
        [table("x", 2)],
        [table("y", 2)],
        [
            numpy_helper.from_array(np.array([[2, 0], [0, 2]], dtype=np.float32), "w"),
            numpy_helper.from_array(np.array([-1, -1], dtype=np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


TINY = json.dumps({"v": 1, "format": "tiny", "weights": [[2, 0], [0, 2]], "bias": [-1, -1]}).encode()
RUNTIMES = [pytest.param(OnnxRuntime(), onnx_model(), id="onnxruntime"), pytest.param(TinyRuntime(), TINY, id="tiny")]


@contextmanager
def sealed(data: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, data)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("runtime", "model"), RUNTIMES)
def test_rows_in_rows_out(runtime: Runtime, model: bytes) -> None:
    answers = runtime.load(model).run([[1, 2], [3, 4.5]])
    assert answers == [[1.0, 3.0], [5.0, 8.0]]
    assert all(type(number) is float for row in answers for number in row)


@pytest.mark.parametrize(("runtime", "model"), RUNTIMES)
def test_a_sealed_memory_file_loads_by_its_descriptor(runtime: Runtime, model: bytes) -> None:
    with sealed(model) as descriptor:
        session = runtime.load(descriptor)
    assert session.run([[1, 1]]) == [[1.0, 1.0]]


@pytest.mark.parametrize(("runtime", "model"), RUNTIMES)
@pytest.mark.parametrize("rows", [[], [[1, 2], [3]]])
def test_rows_must_be_rows(runtime: Runtime, model: bytes, rows: list[list[float]]) -> None:
    with pytest.raises(UsageError):
        runtime.load(model).run(rows)


@pytest.mark.parametrize(("runtime", "model"), RUNTIMES)
def test_a_row_of_another_width_is_an_error_of_ours(runtime: Runtime, model: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        runtime.load(model).run([[1, 2, 3]])
    assert caught.value.code == "model-not-runnable"


@pytest.mark.parametrize(("runtime", "model"), RUNTIMES)
@pytest.mark.parametrize("junk", [b"", b"junk", b"{}", b"\x80\x04N.", b"\x18\0\0\0ORTM" + bytes(64)])
def test_junk_is_an_error_of_ours(runtime: Runtime, model: bytes, junk: bytes) -> None:
    with pytest.raises(VerificationError):
        runtime.load(junk)
    with pytest.raises(ChopmarkError):
        runtime.load(1_000_000)  # no such descriptor


@pytest.mark.parametrize(("runtime", "model"), RUNTIMES)
def test_name_and_version(runtime: Runtime, model: bytes) -> None:
    assert runtime.name in {"onnxruntime", "tiny"}
    assert all(part.isdigit() for part in runtime.version.split(".")[:2])


@pytest.mark.parametrize(
    "model",
    [
        {"v": 1, "format": "tiny", "weights": [], "bias": []},
        {"v": 1, "format": "tiny", "weights": [[1], [1, 2]], "bias": [0, 0]},
        {"v": 1, "format": "tiny", "weights": [[1]], "bias": []},
        {"v": 1, "format": "tiny", "weights": [[1.5]], "bias": [0]},
        {"v": 2, "format": "tiny", "weights": [[1]], "bias": [0]},
        {"v": 1, "format": "tiny", "weights": [[1]], "bias": [0], "more": 1},
    ],
)
def test_a_tiny_model_that_does_not_fit_is_refused(model: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        TinyRuntime().load(json.dumps(model).encode())


def cast(kind: int, *inputs: tuple[str, list[int | str]]) -> bytes:
    """Return a model that adds its inputs, each cast to float and made flat."""
    nodes, flat = [], []
    for name, _ in inputs:
        nodes.append(helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Flatten", [f"{name}_f"], [f"{name}_r"], axis=1))
        flat.append(f"{name}_r")
    nodes.append(helper.make_node("Concat", flat, ["y"], axis=1))
    values = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs]
    graph = helper.make_graph(nodes, "g", values, [table("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.UINT8, TensorProto.DOUBLE])
def test_onnx_takes_rows_for_every_kind_and_shape_of_input(kind: int) -> None:
    session = OnnxRuntime().load(cast(kind, ("x", ["n", 2, 2])))
    assert session.width() == 4
    assert session.run([[1, 2, 3, 4], [5, 6, 7, 8]]) == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_onnx_takes_all_inputs_from_one_row_in_the_models_order() -> None:
    session = OnnxRuntime().load(cast(TensorProto.INT64, ("a", ["n", 1]), ("b", [1, 3])))
    assert session.width() == 4
    assert session.run([[1, 2, 3, 4], [5, 6, 7, 8]]) == [[1, 2, 3, 4], [5, 6, 7, 8]]
    with pytest.raises(VerificationError, match="takes 4"):
        session.run([[1, 2]])


def test_onnx_takes_sizes_that_the_model_leaves_open_from_the_row() -> None:
    session = OnnxRuntime().load(cast(TensorProto.FLOAT, ("x", ["n", "height", "width"])))
    assert (session.width(), session.width(3)) == (1, 9)
    assert session.run([[1], [2]]) == [[1], [2]]
    assert session.run([list(range(9))]) == [list(range(9))]
    with pytest.raises(VerificationError):
        session.run([list(range(8))])


def test_onnx_with_inputs_that_are_no_numbers_is_refused() -> None:
    identity = helper.make_node("Identity", ["x"], ["y"])
    text = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 4]) for name in "xy"]
    graph = helper.make_graph([identity], "g", text[:1], text[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(VerificationError):
        OnnxRuntime().load(model.SerializeToString())


def test_onnx_reads_no_file_beside_the_descriptor() -> None:
    """The inspection refuses such a model long before; the runtime does not find its data either."""
    model: onnx.ModelProto = linear()
    model.graph.initializer[0].CopyFrom(elsewhere("w", "w.bin"))
    with sealed(model.SerializeToString()) as descriptor, pytest.raises(VerificationError):
        OnnxRuntime().load(descriptor)


def test_onnx_uses_one_thread() -> None:
    before = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    session = OnnxRuntime().load(onnx_model())
    session.run([[1, 2]])
    assert len(os.listdir("/proc/self/task")) == before  # noqa: PTH208
