# SPDX-License-Identifier: Apache-2.0
"""A channel over HTTP: static files below one address. What comes back is verified by who asked."""

from __future__ import annotations

from urllib.parse import quote

import urllib3

from chopmark.channel import Fetcher, MissingError
from chopmark.errors import DecodeError, UndecidedError, UsageError

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0


class HttpFetcher(Fetcher):
    """Fetches ``<url>/<path>``; never follows a redirect, and stops reading at the limit."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r}: is not an http or https address")
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S), retries=False
        )

    def _fetch(self, path: str, max_bytes: int) -> bytes:
        # A file of a package may be called 'a#b?c': every character stands for itself.
        address = f"{self._url}/{quote(path)}"
        response = self._pool.request("GET", address, preload_content=False, redirect=False)
        whole = False
        try:
            if response.status in (403, 404):
                raise MissingError(f"{path}: the channel has no such file")
            if response.status != 200:
                raise UndecidedError(f"{path}: the channel answered {response.status}", code="unreachable")
            data = b""
            # Until there is nothing left: one read of a connection that broke off looks like a short file.
            while len(data) <= max_bytes and (part := response.read(max_bytes + 1 - len(data), decode_content=False)):
                data += part
            whole = len(data) <= max_bytes
        finally:
            # A connection with an unread rest is closed, not drained: the rest may have no end.
            if whole:
                response.release_conn()
            else:
                response.close()
        if len(data) > max_bytes:
            raise DecodeError(f"{path}: more than the {max_bytes:,} bytes allowed")
        return data
