# SPDX-License-Identifier: Apache-2.0
"""Files below one folder, for readers that verify what they read.

Serves regular files only, reached without a symbolic link and without a name that starts with a dot; everything else
is 404. What never changes is marked so (``immutable``); what does is revalidated by its ETag. Ranges are not served.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyio import to_thread
from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from chopmark import canonical
from chopmark.artifacts import check_file_name
from chopmark.errors import ChopmarkError, DecodeError

CHUNK_BYTES: Final = 256 * 1024
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_REVALIDATE: Final = "no-cache"
_NEVER_CHANGES: Final = re.compile(r"metadata/[0-9]+\.[a-z0-9._-]+\.json|targets/.+|tile/.+")
"""Of a channel: versioned metadata and targets, whose names carry hashes. Of a ledger: tiles. The proof of a
publication (``<N>.snapshot.tlog-proof``) is refreshed in place, so it is not among them."""
_TYPES: Final = {
    ".json": "application/json",
    ".tlog-proof": "text/plain; charset=utf-8",
    "checkpoint": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An open file, or bytes."""

    length: int
    data: bytes | None = None
    descriptor: int = -1


Reader = Callable[[str], Served | None]
"""Finds what a relative path names, or None."""


def folder_reader(folder: Path) -> Reader:
    """Return a reader of the files below *folder*, which may come to exist later."""

    def read(path: str) -> Served | None:
        descriptor = _open_below(folder, path)
        if descriptor is None:
            return None
        length = os.fstat(descriptor).st_size
        if length > CHUNK_BYTES:
            return Served(length=length, descriptor=descriptor)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(CHUNK_BYTES)
        return Served(length=len(data), data=data)

    return read


def bytes_reader(find: Callable[[str], bytes | None]) -> Reader:
    """Return a reader of what *find* makes for a path."""

    def read(path: str) -> Served | None:
        data = find(path) if _allowed(path) else None
        return None if data is None else Served(length=len(data), data=data)

    return read


def only(paths: re.Pattern[str], reader: Reader) -> Reader:
    """Return *reader* of the *paths* that match whole; there are no others."""
    return lambda path: reader(path) if paths.fullmatch(path) else None


def mount(prefix: str, reader: Reader) -> ASGIRouteHandler:
    """Return the route that serves *reader* under *prefix*."""

    @asgi(prefix, is_mount=True, copy_scope=True)
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        method = str(scope.get("method", ""))  # a websocket has none
        if method not in ("GET", "HEAD"):
            await _refuse(send, 405, "method", "another method is used here", body=True)
            return
        path = scope["path"].removeprefix(prefix).removeprefix("/").removesuffix("/")
        try:
            served = await to_thread.run_sync(reader, path)
        except ChopmarkError:
            await _refuse(send, 503, "undecided", "this cannot be decided now", body=method == "GET")
            return
        if served is None:
            await _refuse(send, 404, "not-found", "there is nothing here", body=method == "GET")
            return
        wanted = next((v for k, v in scope["headers"] if k == b"if-none-match"), b"")
        await _send(send, path, served, wanted=wanted, body=method == "GET")

    return serve


async def _send(send: Send, path: str, served: Served, *, wanted: bytes, body: bool) -> None:
    headers = _headers(path, served)
    if served.data is not None and wanted and wanted == dict(headers)[b"etag"]:
        await send({"type": "http.response.start", "status": 304, "headers": headers[1:]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if body:
            async for chunk in _chunks(served):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        if served.descriptor >= 0:
            os.close(served.descriptor)


async def _chunks(served: Served) -> AsyncIterator[bytes]:
    """Yield exactly as many bytes as were announced."""
    if served.data is not None:
        yield served.data
        return
    left = served.length
    while left:
        chunk = await to_thread.run_sync(os.read, served.descriptor, min(CHUNK_BYTES, left))
        if not chunk:
            return  # cut short under us: the server sees too few bytes and breaks the connection
        left -= len(chunk)
        yield chunk


def _headers(path: str, served: Served) -> list[tuple[bytes, bytes]]:
    kind = next((kind for suffix, kind in _TYPES.items() if path.endswith(suffix)), "application/octet-stream")
    cache = _IMMUTABLE if _NEVER_CHANGES.fullmatch(path) else _REVALIDATE
    headers = [
        (b"content-length", str(served.length).encode()),
        (b"content-type", kind.encode()),
        (b"cache-control", cache.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if served.data is not None:
        headers.append((b"etag", f'"{hashlib.sha256(served.data).hexdigest()[:32]}"'.encode()))
    return headers


async def _refuse(send: Send, status: int, code: str, message: str, *, body: bool) -> None:
    data = canonical.encode({"code": code, "message": message, "hint": ""})
    headers = [
        (b"content-length", str(len(data)).encode()),
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data if body else b"", "more_body": False})


def _allowed(path: str) -> bool:
    try:
        check_file_name(path)
    except DecodeError:
        return False
    return not any(part.startswith(".") for part in path.split("/"))


def _open_below(folder: Path, path: str) -> int | None:
    """Open a file below *folder* part by part, so that no link leads out of it."""
    if not _allowed(path):
        return None
    *folders, name = path.split("/")
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        at = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            for part in folders:
                following = os.open(part, flags | os.O_DIRECTORY, dir_fd=at)
                os.close(at)
                at = following
            descriptor = os.open(name, flags | os.O_NONBLOCK, dir_fd=at)
        finally:
            os.close(at)
    except (OSError, UnicodeEncodeError):
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None
