# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on one thread of the processor (extra ``onnx``).

The format is fixed to ONNX, because left to itself the runtime also accepts its own format, which nobody inspected. Nothing
is written: no optimised copy, no profile, no telemetry.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

# Read when the library is imported: it would leave a file in the user's home, and look for its maker's server.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

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


MAX_OPEN_SIZE: Final = 65_536


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of a model: *shape* without its first dimension where that is the batch; None for sizes left open."""

    name: str
    type: Any
    shape: tuple[int | None, ...]
    batched: bool

    def sized(self, open_size: int) -> tuple[int, ...]:
        return tuple(open_size if size is None else size for size in self.shape)

    def width(self, open_size: int) -> int:
        return math.prod(self.sized(open_size))


class OnnxSession(Session):
    """One loaded ONNX model. Sizes that it leaves open are all the same, as large as a row says."""

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

    def width(self, open_size: int = 1) -> int:
        return sum(one.width(open_size) for one in self._inputs)

    def _run(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        table = np.asarray(rows, dtype=np.float64)
        size = self._open_size(table.shape[1])
        if len(self._inputs) == 1 and self._inputs[0].batched:
            return self._answers(table, size)
        return [answer for row in table for answer in self._answers(row[None, :], size)]

    def _open_size(self, numbers: int) -> int:
        if self.width() == numbers:
            return 1
        if any(None in one.shape for one in self._inputs):
            low, high = 1, MAX_OPEN_SIZE
            while low < high:  # the width grows with the size
                middle = (low + high) // 2
                low, high = (low, middle) if self.width(middle) >= numbers else (middle + 1, high)
            if self.width(low) == numbers:
                return low
        raise VerificationError(
            f"a row has {numbers} numbers, and the model takes {self.width()}", code="model-not-runnable"
        )

    def _answers(self, table: Any, open_size: int) -> list[list[float]]:
        feed, at = {}, 0
        for one in self._inputs:
            shape, width = one.sized(open_size), one.width(open_size)
            part = table[:, at : at + width].astype(one.type)
            feed[one.name] = part.reshape((len(table), *shape) if one.batched else shape)
            at += width
        (answer,) = self._session.run([self._output], feed)
        return [[float(number) for number in row] for row in np.asarray(answer).reshape(len(table), -1)]


def _input(one: Any) -> _Input:
    sizes = [size if isinstance(size, int) and size > 0 else None for size in one.shape]
    batched = bool(sizes) and sizes[0] is None
    return _Input(one.name, _TYPES[one.type], tuple(sizes[1:] if batched else sizes), batched)


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
