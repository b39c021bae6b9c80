# SPDX-License-Identifier: Apache-2.0
"""The write side of a Rekor v2 log over HTTP. It is read as any log's static files: :mod:`chopmark.adapters.http.logfiles`."""

from __future__ import annotations

from typing import Final

from chopmark.adapters.http.client import Client
from chopmark.errors import DecodeError
from chopmark.ledger.ports import RekorAnswer, RekorClient
from chopmark.ledger.rekor import MAX_LOG_ENTRY_BYTES

READ_S: Final = 60.0
"""Rekor answers when a checkpoint holds the entry: its clients are told to wait for 20 seconds at least."""


class HttpRekor(RekorClient):
    """The log at *url*, without ``/api/v2``."""

    def __init__(self, url: str) -> None:
        """Take the log's address; nothing is sent yet."""
        self._client = Client(url, read_s=READ_S)

    def _create_entry(self, request: bytes) -> RekorAnswer:
        status, body, headers = self._client.ask(
            "POST",
            "/api/v2/log/entries",
            body=request,
            headers={"Content-Type": "application/json"},
            max_bytes=MAX_LOG_ENTRY_BYTES,
        )
        if len(body) > MAX_LOG_ENTRY_BYTES:
            raise DecodeError("Rekor's answer is too long")
        return RekorAnswer(status=status, body=body, at=headers.get("x-log-index", ""))
