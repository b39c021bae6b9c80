# SPDX-License-Identifier: Apache-2.0
"""A log's static files in a folder: exported, mirrored, or carried here."""

from __future__ import annotations

from pathlib import Path

from chopmark.artifacts import read_file
from chopmark.ledger.ports import LogFiles


class FolderLog(LogFiles):
    """Files below *folder*; links are not followed out of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _find(self, path: str, max_bytes: int) -> bytes | None:
        file = self._folder.joinpath(*path.split("/"))
        return read_file(file, max_bytes=max_bytes) if file.is_file() else None
