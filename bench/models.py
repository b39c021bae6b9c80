# SPDX-License-Identifier: Apache-2.0
"""A model of the size and kind that devices carry."""

from __future__ import annotations

from itertools import count

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

INPUTS = 3 * 32 * 32
_CHANNELS = 96
_BLOCKS = 16


def convolutions() -> bytes:
    """Return an ONNX file of 5 MB: 16 inverted residual blocks, as MobileNetV2 has, over 32 x 32 pixels in a row."""
    net = _Net()
    x = net.add("Reshape", "x", net.constant(np.array([-1, 3, 32, 32])))
    x = net.convolve(x, 3, _CHANNELS, size=3)
    for _ in range(_BLOCKS):
        y = net.add("Relu", net.convolve(x, _CHANNELS, 4 * _CHANNELS))
        y = net.add("Relu", net.convolve(y, 4 * _CHANNELS, 4 * _CHANNELS, size=3, group=4 * _CHANNELS))
        x = net.add("Add", x, net.convolve(y, 4 * _CHANNELS, _CHANNELS))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.encode(x, _CHANNELS)


class _Net:
    """A graph, node by node; every name is a number."""

    def __init__(self) -> None:
        self._names = map(str, count())
        self._random = np.random.default_rng(1)
        self._nodes: list[NodeProto] = []
        self._tensors: list[TensorProto] = []

    def constant(self, values: np.ndarray) -> str:
        name = next(self._names)
        self._tensors.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = next(self._names)
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def convolve(self, x: str, channels: int, to: int, *, size: int = 1, group: int = 1) -> str:
        shape = (to, channels // group, size, size)
        weights = self._random.normal(0, 0.02, shape).astype(np.float32)
        bias = np.zeros(to, np.float32)
        return self.add("Conv", x, self.constant(weights), self.constant(bias), group=group, pads=[size // 2] * 4)

    def encode(self, output: str, width: int) -> bytes:
        table = [helper.make_tensor_value_info(*one) for one in (("x", 1, ["n", INPUTS]), (output, 1, ["n", width]))]
        graph = helper.make_graph(self._nodes, "convolutions", table[:1], table[1:], self._tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(model.SerializeToString())
