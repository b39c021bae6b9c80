# SPDX-License-Identifier: Apache-2.0
"""What the library works with: this machine's clock and memory, and the runtimes that are installed. No network."""

from __future__ import annotations

import os
from pathlib import Path

from chopmark.adapters.counters.software import NoCounter
from chopmark.adapters.kms.file import load as load_key
from chopmark.adapters.memory.memfd import MemfdMemory
from chopmark.adapters.runtimes import open_runtime
from chopmark.clock import SystemClock
from chopmark.device import Device, open_device
from chopmark.errors import UsageError

FOLDER_VARIABLE = "CHOPMARK_DEVICE"


def default_folder() -> Path:
    """Return the device's folder that the environment names.

    Raises:
        UsageError: it names none.
    """
    folder = os.environ.get(FOLDER_VARIABLE, "")
    if not folder:
        raise UsageError("which device?", hint=f"pass device=…, or set {FOLDER_VARIABLE}")
    return Path(folder)


def wire(folder: Path) -> Device:
    """Open the device in *folder* with the adapters of this machine."""
    return open_device(
        folder,
        load_signer=load_key,
        clock=SystemClock(),
        memory=MemfdMemory(),
        counter=NoCounter(),
        runtimes=open_runtime,
    )
