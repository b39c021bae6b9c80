# SPDX-License-Identifier: Apache-2.0
"""A log's static files behind an address."""

from __future__ import annotations

from chopmark.adapters.http.client import Client
from chopmark.errors import UndecidedError
from chopmark.ledger.ports import LogFiles


class HttpLog(LogFiles):
    """Files below *url*, the log's prefix."""

    def __init__(self, url: str) -> None:
        """Take the address; nothing is sent yet."""
        self._client = Client(url)

    def _find(self, path: str, max_bytes: int) -> bytes | None:
        status, data = self._client.send("GET", f"/{path}", max_bytes=max_bytes)
        if status in (403, 404, 410):
            return None
        if status != 200:
            raise UndecidedError(f"{path}: the log answered {status}", code="unreachable")
        return data
