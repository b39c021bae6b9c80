# SPDX-License-Identifier: Apache-2.0
"""A log's static files in a folder: exported, mirrored, or carried here; and a folder as the store of a log."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from chopmark.artifacts import make_folder, read_file, sync_folder, write_file
from chopmark.errors import UsageError
from chopmark.ledger.ports import LogFiles, ObjectStore

_TRIES: Final = 8


class FolderLog(LogFiles):
    """Files below *folder*; whoever reads them checks what they hold, so it does not matter where a link leads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _find(self, path: str, max_bytes: int) -> bytes | None:
        file = self._folder.joinpath(*path.split("/"))
        return read_file(file, max_bytes=max_bytes) if file.is_file() else None


class FolderObjects(FolderLog, ObjectStore):
    """A folder on a local disk. Each file is written aside, synchronised, then given its name, which is synchronised too.

    Several machines on one network file system are not what it is for: there, use an object store.
    """

    def _create(self, path: str, data: bytes) -> bool:
        file = self._file(path)
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):  # the folder was empty, and somebody who collects garbage removed it
                return self._created(file, data)
        return self._created(file, data)

    def _created(self, file: Path, data: bytes) -> bool:
        make_folder(file.parent)
        created = not file.exists() and _linked(file, data)
        sync_folder(file.parent)  # also where another writer made the name, and may not have come to this line
        return created

    def _replace(self, path: str, data: bytes) -> None:
        write_file(self._file(path), data)

    def _remove(self, path: str) -> None:
        file = self._file(path)
        file.unlink(missing_ok=True)
        if file.parent.suffix == ".p":  # of partial files alone: an empty one is garbage
            with suppress(OSError):
                file.parent.rmdir()
        for folder in (file.parent, file.parent.parent):
            if folder.is_dir():
                sync_folder(folder)
                return

    def _names(self, prefix: str) -> Iterator[str]:
        start = self._folder / prefix.rpartition("/")[0]
        for folder, _, files in os.walk(start):
            below = Path(folder).relative_to(self._folder).as_posix()
            paths = (name if below == "." else f"{below}/{name}" for name in files if not name.startswith("."))
            yield from (path for path in paths if path.startswith(prefix))

    def _file(self, path: str) -> Path:
        parts = path.split("/")
        if any(part.startswith(".") or not part for part in parts):
            raise UsageError(f"{path!r}: not the path of an object")
        return self._folder.joinpath(*parts)


def _linked(file: Path, data: bytes) -> bool:
    """Write *data* aside and give it its name; False where the name is taken: of two writers one wins."""
    whole = file.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(data)
            written.flush()
            os.fsync(written.fileno())
        os.link(whole, file)
    except FileExistsError:
        return False
    finally:
        whole.unlink(missing_ok=True)
    return True
