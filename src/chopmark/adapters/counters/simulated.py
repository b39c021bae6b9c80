# SPDX-License-Identifier: Apache-2.0
"""A monotonic counter in a file *outside* the device's folder: stands for a TPM's or a secure element's in tests and demos.

It protects nothing against somebody who finds the file.
"""

from __future__ import annotations

from pathlib import Path

from chopmark.artifacts import read_file, write_file
from chopmark.device import Counter
from chopmark.errors import ChopmarkError, UndecidedError

_MAX_BYTES = 32


class SimulatedCounter(Counter):
    """The number in *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def kind(self) -> str:
        return "simulated"

    def _value(self) -> int:
        if not self._path.exists():
            return 0
        try:
            return int(read_file(self._path, max_bytes=_MAX_BYTES))
        except (ChopmarkError, ValueError) as error:
            raise UndecidedError(f"{self._path}: is not a counter", code="counter-unreadable") from error

    def _advance(self, to: int) -> None:
        if to > self._value():
            write_file(self._path, str(to).encode(), mode=0o600)
