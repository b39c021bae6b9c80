# SPDX-License-Identifier: Apache-2.0
"""A log's static files in a folder that we may write: an export, or what a web server serves."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from chopmark.artifacts import read_file, sync_folder, write_file
from chopmark.errors import UsageError
from chopmark.ledger.ports import ObjectStore


class FolderObjects(ObjectStore):
    """Files below *folder*; links are neither followed nor listed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _find(self, path: str, max_bytes: int) -> bytes | None:
        file = self._file(path)
        return read_file(file, max_bytes=max_bytes) if file.is_file() else None

    def _create(self, path: str, data: bytes) -> bool:
        file = self._file(path)
        if file.exists():
            return False
        whole = file.with_name(f".{secrets.token_hex(8)}.new")
        write_file(whole, data)
        try:
            os.link(whole, file)  # of two writers one wins
            sync_folder(file.parent)
        except FileExistsError:
            return False
        finally:
            whole.unlink(missing_ok=True)
        return True

    def _replace(self, path: str, data: bytes) -> None:
        write_file(self._file(path), data)

    def _remove(self, path: str) -> None:
        file = self._file(path)
        file.unlink(missing_ok=True)
        if file.parent.suffix == ".p" and file.parent.is_dir() and not any(file.parent.iterdir()):
            file.parent.rmdir()

    def _names(self, prefix: str) -> Iterator[str]:
        for folder, folders, files in os.walk(self._folder, onerror=_raise):
            inside = Path(folder).relative_to(self._folder).as_posix()
            below = "" if inside == "." else f"{inside}/"
            folders[:] = [name for name in folders if _may_hold(f"{below}{name}/", prefix)]
            yield from (f"{below}{name}" for name in files if f"{below}{name}".startswith(prefix))

    def _file(self, path: str) -> Path:
        parts = path.split("/")
        if any(part in {"", ".", ".."} for part in parts):
            raise UsageError(f"{path!r}: not a path in a log")
        return self._folder.joinpath(*parts)


def _may_hold(folder: str, prefix: str) -> bool:
    return folder.startswith(prefix) or prefix.startswith(folder)


def _raise(error: OSError) -> None:
    raise error
