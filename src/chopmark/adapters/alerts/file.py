# SPDX-License-Identifier: Apache-2.0
"""The newest alert in one JSON file, replaced whole: for a log shipper, or a person.

Earlier ones are not lost: every refusal stays in the fleet's store, and this file is a way to hear of the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chopmark import canonical
from chopmark.artifacts import write_file
from chopmark.fleet import AlertSink


class FileSink(AlertSink):
    """Writes to one path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _send(self, finding: Mapping[str, object]) -> None:
        write_file(self._path, canonical.encode(finding) + b"\n")
