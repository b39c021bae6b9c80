# SPDX-License-Identifier: Apache-2.0
"""The smallest runtime there is: linear models of whole numbers in JSON, without any dependency.

For a first look at the product, for tests, and for machines without ONNX Runtime. A model is

    {"v": 1, "format": "tiny", "weights": [[1, 0], [0, 1], [2, 2]], "bias": [0, 0, -1]}

one row of ``weights`` for each output, one number in it for each input; the answer is ``weights · input + bias``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from chopmark import canonical
from chopmark.artifacts.ports import Runtime, Session
from chopmark.errors import DecodeError

MAX_BYTES = 1024 * 1024


class TinyModel(canonical.Strict, frozen=True, kw_only=True):
    """The model file."""

    v: Literal[1]
    format: Literal["tiny"]
    weights: list[list[int]]
    bias: list[int]


class TinySession(Session):
    """One loaded linear model."""

    def __init__(self, model: TinyModel) -> None:
        self._model = model

    def width(self, open_size: int = 1) -> int:  # noqa: ARG002 - a tiny model leaves nothing open
        return len(self._model.weights[0])

    def _run(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        outputs = list(zip(self._model.weights, self._model.bias, strict=True))
        return [
            [sum(w * x for w, x in zip(weights, row, strict=True)) + float(bias) for weights, bias in outputs]
            for row in rows
        ]


class TinyRuntime(Runtime):
    """Loads and runs such models."""

    @property
    def name(self) -> str:
        return "tiny"

    @property
    def version(self) -> str:
        return "1.0.0"

    def _load(self, model: bytes | int) -> Session:
        data = model if isinstance(model, bytes) else os.pread(model, MAX_BYTES + 1, 0)
        tiny = canonical.decode_as(data, TinyModel, what="tiny model", max_bytes=MAX_BYTES)
        widths = {len(row) for row in tiny.weights}
        if len(widths) != 1 or len(tiny.bias) != len(tiny.weights):
            raise DecodeError("tiny model: weights and bias do not fit each other")
        return TinySession(tiny)
