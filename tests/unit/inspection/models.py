# SPDX-License-Identifier: Apache-2.0
"""Small ONNX files, made with the ``onnx`` package: what the walk must accept, and the parts that attacks are built of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def table(name: str, width: int = 4) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])


def weights(name: str = "w", shape: tuple[int, ...] = (4, 4)) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype=np.float32), name)


def linear(
    nodes: Sequence[onnx.NodeProto] = (),
    *,
    tensors: Sequence[onnx.TensorProto] = (),
    opsets: Sequence[tuple[str, int]] = (("", 17),),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """x @ w, or the given nodes, which read ``x`` and perhaps ``w`` and make ``y``; the given tensors are put out."""
    nodes = nodes or [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(
        [*nodes, *(helper.make_node("Identity", [one.name], [f"{one.name}_out"]) for one in tensors)],
        "linear",
        [table("x")],
        [
            table("y"),
            *(helper.make_tensor_value_info(f"{one.name}_out", one.data_type, list(one.dims)) for one in tensors),
        ],
        [*([weights()] if any("w" in node.input for node in nodes) else []), *tensors],
    )
    imports = [helper.make_opsetid(*opset) for opset in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions)


def branches(tensor: onnx.TensorProto) -> onnx.ModelProto:
    """``If`` with *tensor* as an initializer of its else branch."""
    then = helper.make_graph([helper.make_node("Identity", ["x"], ["a"])], "then", [], [table("a")])
    other = helper.make_graph(
        [helper.make_node("MatMul", ["x", tensor.name], ["b"])], "else", [], [table("b")], [tensor]
    )
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True), "c"))
    choice = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    return linear([condition, choice])


def elsewhere(name: str, location: str) -> onnx.TensorProto:
    """4 x 4 numbers whose data lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4, 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def function(domain: str, name: str, nodes: Sequence[onnx.NodeProto]) -> onnx.FunctionProto:
    domains = {"", *(node.domain for node in nodes)}
    imports = [helper.make_opsetid(one, 17 if not one else 1) for one in sorted(domains)]
    return helper.make_function(domain, name, ["x"], ["y"], nodes, imports)
