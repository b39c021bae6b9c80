# SPDX-License-Identifier: Apache-2.0
"""Chopmark proves that the model on a device is the one that was trained, tested and approved.

    import chopmark

    with chopmark.load("digits", device="/var/lib/chopmark") as model:
        print(model.run([[0.0] * 64]))

What is loaded was approved, is whole and is not revoked, or :class:`chopmark.errors.Refused` says why not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chopmark.apps.library import load

__all__ = ["load"]


def __getattr__(name: str) -> object:
    """Reach the library when it is first used: importing chopmark imports nothing else."""
    if name in __all__:
        return getattr(importlib.import_module("chopmark.apps.library"), name)
    raise AttributeError(f"module 'chopmark' has no attribute {name!r}")
