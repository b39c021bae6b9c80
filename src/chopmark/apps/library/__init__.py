# SPDX-License-Identifier: Apache-2.0
"""The library: one call before a model is used.

    with chopmark.load("digits", device="/var/lib/chopmark") as model:
        answer = model.run([[0.0] * 64])
        labels = model.read("labels.json")

It works offline and starts no thread. Following the channel and delivering reports is the agent's work, in its own
process: ``chopmark device run``.
"""

from __future__ import annotations

from pathlib import Path

from chopmark.apps.library.wiring import default_folder, wire
from chopmark.device import Loaded, Refusal, open_model

__all__ = ["Loaded", "load"]


def load(model: str, *, device: str | Path | None = None) -> Loaded:
    """Return *model*, verified and ready to run.

    Args:
        device: the folder that ``chopmark device enroll`` made; the environment variable CHOPMARK_DEVICE otherwise.

    Raises:
        Refused: the model may not be loaded; ``code`` names the failure and ``evidence`` what was compared.
        UndecidedError: nothing is installed yet, the folder is in use, or the runtime is missing.
        UsageError: no device is enrolled there.
    """
    opened = open_model(wire(default_folder() if device is None else Path(device)), model)
    if isinstance(opened, Refusal):
        raise opened.error()
    return opened
