# SPDX-License-Identifier: Apache-2.0
"""Chopmark proves that the model on a device is the one that was trained, tested and approved.

    import chopmark

    with chopmark.load("digits", device="/var/lib/chopmark") as model:
        print(model.run([[0.0] * 64]))

What is loaded was approved, is whole and is not revoked, or :class:`chopmark.errors.Refused` says why not.

    chopmark.sign("model.onnx", key="packager.pem")
    chopmark.verify("model.onnx", key="packager.pub")

What is verified is exactly what was signed, or :class:`chopmark.errors.VerificationError` says what is not.

    with chopmark.record("train") as run:
        run.param(epochs=3)
        train(epochs=3)

What was trained is recorded as SLSA provenance: its inputs, parameters, code and surroundings, and what it left.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chopmark.apps.library import load
    from chopmark.apps.recorder import record
    from chopmark.apps.signing import sign, verify

__all__ = ["load", "record", "sign", "verify"]

_HOMES = {
    "load": "chopmark.apps.library",
    "record": "chopmark.apps.recorder",  # builds, Git and a ledger: never loaded on a device
    "sign": "chopmark.apps.signing",
    "verify": "chopmark.apps.signing",
}


def __getattr__(name: str) -> object:
    """Reach a function's home when it is first used: importing chopmark imports nothing else."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'chopmark' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what is to be used, for whoever asks a shell or a notebook to complete a name."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
