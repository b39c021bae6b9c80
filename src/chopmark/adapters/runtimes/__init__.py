# SPDX-License-Identifier: Apache-2.0
"""What runs models: ONNX Runtime (extra ``onnx``), and a tiny one without dependencies for tours and tests."""

from __future__ import annotations

import importlib
from typing import Final

from chopmark.artifacts import Runtime
from chopmark.errors import UndecidedError

RUNTIMES: Final = {
    "onnxruntime": ("onnxruntime", "OnnxRuntime", "onnx"),
    "tiny": ("tiny", "TinyRuntime", ""),
}
"""Name in releases -> module of this family, class, extra. A new runtime is one file and one row."""


def open_runtime(name: str) -> Runtime:
    """Return the installed runtime *name*.

    Raises:
        UndecidedError: it is not installed, or not known here.
    """
    if name not in RUNTIMES:
        raise UndecidedError(f"no runtime is called {name!r} here", code="runtime-missing", hint="see device.toml")
    module, kind, extra = RUNTIMES[name]
    try:
        found = getattr(importlib.import_module(f"{__name__}.{module}"), kind)()
    except ImportError as error:
        hint = f"install chopmark with its extra: chopmark[{extra}]"
        raise UndecidedError(f"{name} is not installed", code="runtime-missing", hint=hint) from error
    if not isinstance(found, Runtime):
        raise UndecidedError(f"{name} is no runtime", code="runtime-missing")
    return found
