# SPDX-License-Identifier: Apache-2.0
"""A channel over HTTP: static files below one address. What comes back is verified by who asked."""

from __future__ import annotations

from urllib.parse import quote

from chopmark.adapters.http.client import Client
from chopmark.channel import Fetcher, MissingError
from chopmark.errors import UndecidedError


class HttpFetcher(Fetcher):
    """Fetches ``<url>/<path>``."""

    def __init__(self, url: str) -> None:
        """Take the channel's address; nothing is sent yet."""
        self._client = Client(url)

    def _fetch(self, path: str, max_bytes: int) -> bytes:
        # A file of a package may be called 'a#b?c': every character stands for itself.
        status, data = self._client.send("GET", f"/{quote(path)}", max_bytes=max_bytes)
        if status in (403, 404):
            raise MissingError(f"{path}: the channel has no such file")
        if status != 200:
            raise UndecidedError(f"{path}: the channel answered {status}", code="unreachable")
        return data
