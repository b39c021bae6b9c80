# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on one thread of the processor (extra ``onnx``).

The format is fixed to ONNX, because left to itself the runtime also accepts its own format, which nobody inspected. Nothing
is written: no optimised copy, no profile, no telemetry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from chopmark.artifacts.ports import Runtime, Session
from chopmark.errors import VerificationError

_FATAL = 4
_INPUT_TYPE = "tensor(float)"
_DIMENSIONS = 2


class OnnxSession(Session):
    """One loaded ONNX model."""

    def __init__(self, session: Any) -> None:
        self._session = session
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != _INPUT_TYPE or len(inputs[0].shape) != _DIMENSIONS:
            shown = ", ".join(f"{one.name}: {one.type}{one.shape}" for one in inputs)[:200]
            raise VerificationError(
                f"the model does not take one table of numbers, but {shown or 'nothing'}", code="model-not-loadable"
            )
        self._input = inputs[0].name
        self._output = session.get_outputs()[0].name

    def _run(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        table = np.asarray(rows, dtype=np.float32)
        (answer,) = self._session.run([self._output], {self._input: table})
        if answer.ndim != _DIMENSIONS:
            raise VerificationError(f"the model answers in {answer.ndim} dimensions, not 2", code="model-not-runnable")
        return [[float(number) for number in row] for row in answer]


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
