# SPDX-License-Identifier: Apache-2.0
"""Write weights.npz as an ONNX model: pixels 0..16 in, ten probabilities out."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from digits import INK, PIXELS, Images
from onnx import TensorProto, helper, numpy_helper

NOTE = "Reads one handwritten digit of 8 x 8 pixels. Bank demo of Chopmark."
GRAPH = [
    ("MatMul", ["pixels", "into"], "a"),
    ("Add", ["a", "bias_into"], "b"),
    ("Relu", ["b"], "c"),
    ("MatMul", ["c", "out"], "d"),
    ("Add", ["d", "bias_out"], "e"),
    ("Softmax", ["e"], "digit"),
]


def to_onnx(weights: dict[str, Images]) -> onnx.ModelProto:
    """Return the model; that pixels count to 16 is folded into the first weights."""
    folded = {**weights, "into": weights["into"] / np.float32(INK)}
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [output]) for op, inputs, output in GRAPH],
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", PIXELS])],
        [helper.make_tensor_value_info("digit", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(array, name) for name, array in folded.items()],
    )
    # Opset and format of 2023: every ONNX Runtime since 1.15 reads them.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name, model.producer_version, model.doc_string = "bank", "1", NOTE
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("weights.npz"))
    parser.add_argument("--out", type=Path, default=Path("model-fp32.onnx"))
    given = parser.parse_args()
    with np.load(given.weights, allow_pickle=False) as weights:
        model = to_onnx(dict(weights))
    given.out.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
