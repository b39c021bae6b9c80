# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on one thread of the processor (extra ``onnx``).

The format is fixed to ONNX, because left to itself the runtime also accepts its own format, which nobody inspected. Nothing
is written: no optimised copy, no profile, no telemetry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime

from chopmark.artifacts.ports import Runtime, Session
from chopmark.errors import VerificationError

_FATAL = 4
_TYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of a model: *shape* without its first dimension where that is the batch; unknown sizes are 1."""

    name: str
    type: Any
    shape: tuple[int, ...]
    batched: bool

    @property
    def width(self) -> int:
        return math.prod(self.shape)


class OnnxSession(Session):
    """One loaded ONNX model. A row holds the elements of all inputs for one example, in the model's order."""

    def __init__(self, session: Any) -> None:
        self._session = session
        inputs = session.get_inputs()
        unknown = [one for one in inputs if one.type not in _TYPES]
        if not inputs or unknown:
            shown = ", ".join(f"{one.name}: {one.type}" for one in unknown)[:200]
            raise VerificationError(
                f"the model does not take numbers, but {shown or 'nothing'}", code="model-not-loadable"
            )
        self._inputs = [_input(one) for one in inputs]
        self._output = session.get_outputs()[0].name

    @property
    def width(self) -> int:
        return sum(one.width for one in self._inputs)

    def _run(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        table = np.asarray(rows, dtype=np.float64)
        if table.shape[1] != self.width:
            raise VerificationError(
                f"a row has {table.shape[1]} numbers, the model takes {self.width}", code="model-not-runnable"
            )
        if len(self._inputs) == 1 and self._inputs[0].batched:
            return self._answers(table)
        return [answer for row in table for answer in self._answers(row[None, :])]

    def _answers(self, table: Any) -> list[list[float]]:
        feed, at = {}, 0
        for one in self._inputs:
            part = table[:, at : at + one.width].astype(one.type)
            feed[one.name] = part.reshape((len(table), *one.shape) if one.batched else one.shape)
            at += one.width
        (answer,) = self._session.run([self._output], feed)
        return [[float(number) for number in row] for row in np.asarray(answer).reshape(len(table), -1)]


def _input(one: Any) -> _Input:
    sizes = [size if isinstance(size, int) and size > 0 else None for size in one.shape]
    batched = bool(sizes) and sizes[0] is None
    shape = tuple(size or 1 for size in (sizes[1:] if batched else sizes))
    return _Input(one.name, _TYPES[one.type], shape, batched)


class OnnxRuntime(Runtime):
    """The installed ONNX Runtime."""

    @property
    def name(self) -> str:
        return "onnxruntime"

    @property
    def version(self) -> str:
        return str(onnxruntime.__version__)

    def _load(self, model: bytes | int) -> Session:
        onnxruntime.disable_telemetry_events()
        # By path, a descriptor's pages are shared and not copied; sealed, they cannot change under the parser.
        source = model if isinstance(model, bytes) else f"/proc/self/fd/{model}"
        return OnnxSession(
            onnxruntime.InferenceSession(source, sess_options=_options(), providers=["CPUExecutionProvider"])
        )


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL  # what goes wrong is raised, and said once
    options.enable_profiling = False
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
