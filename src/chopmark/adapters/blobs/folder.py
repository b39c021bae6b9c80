# SPDX-License-Identifier: Apache-2.0
"""A folder as blob store and as channel: every write is whole, durable, and by rename."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chopmark.artifacts import BlobStore, Digest, read_file, sync_folder, write_file
from chopmark.channel.ports import ChannelStore, Fetcher, MissingError
from chopmark.errors import UndecidedError, UsageError, VerificationError

MAX_BLOB_BYTES = 8 * 1024**3


class FolderBlobs(BlobStore):
    """Content-addressed files: ``<folder>/<first two digits>/<rest>``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _put(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        path = self._path(digest)
        if not path.exists():
            write_file(path, data)
        return digest

    def _get(self, digest: Digest) -> bytes:
        path = self._path(digest)
        if not path.exists():
            raise UndecidedError(f"{digest}: not in the store", code="missing", hint="make it again, or restore it")
        data = read_file(path, max_bytes=MAX_BLOB_BYTES)
        if Digest.of(data) != digest:
            raise VerificationError(f"{digest}: the stored bytes are others", code="blob-altered")
        return data

    def _path(self, digest: Digest) -> Path:
        return self._folder / digest.hex[:2] / digest.hex[2:]


class FolderFetcher(Fetcher):
    """A channel in a folder: on a stick that was carried here, or on the same machine. Trusted as little as a server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, path: str, max_bytes: int) -> bytes:
        file = _inside(self._folder, path)
        if not file.exists():
            raise MissingError(f"{path}: the channel has no such file")
        return read_file(file, max_bytes=max_bytes)


class FolderChannel(ChannelStore):
    """A channel as static files in a folder; a lock file beside it keeps operators apart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _get(self, path: str) -> bytes | None:
        file = self._file(path)
        return read_file(file, max_bytes=MAX_BLOB_BYTES) if file.exists() else None

    def _put_new(self, path: str, data: bytes) -> bool:
        file = self._file(path)
        whole = file.with_name(f".{secrets.token_hex(8)}.new")  # its own, also among threads and machines
        write_file(whole, data, mode=0o644)
        try:
            os.link(whole, file)  # fails where the name is taken: of two writers one wins
            sync_folder(file.parent)
        except FileExistsError:
            return self._get(path) == data
        except OSError as error:
            raise UndecidedError(f"{path}: cannot be written ({error.strerror})", code="not-written") from error
        finally:
            whole.unlink(missing_ok=True)
        return True

    def _replace(self, path: str, data: bytes) -> None:
        write_file(self._file(path), data)

    def _swap(self, path: str, old: bytes | None, new: bytes) -> bool:
        with self._lock():
            if self._get(path) != old:
                return False
            self._replace(path, new)
            return True

    def _file(self, path: str) -> Path:
        return _inside(self._folder, path)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / ".lock").open("w")
        except OSError as error:
            raise UndecidedError(f"{self._folder}: cannot be locked ({error.strerror})", code="not-written") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _inside(folder: Path, path: str) -> Path:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"{path!r}: not a path in a channel")
    return folder.joinpath(*parts)
