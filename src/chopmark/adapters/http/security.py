# SPDX-License-Identifier: Apache-2.0
"""The security host over HTTP."""

from __future__ import annotations

from typing import Final

from chopmark.adapters.http.client import Client
from chopmark.channel.ports import SecurityHost
from chopmark.errors import UndecidedError, VerificationError

READ_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 * 1024
_TOLD_BYTES: Final = 300


class HttpSecurityHost(SecurityHost):
    """The security host at its address."""

    def __init__(self, url: str) -> None:
        """Take the host's address; nothing is sent yet."""
        self._client = Client(url, read_s=READ_S)

    def _submit(self, envelope: bytes) -> None:
        status, answer = self._client.send(
            "POST", "/statements", body=envelope, content_type="application/json", max_bytes=MAX_ANSWER_BYTES
        )
        if 400 <= status < 500:
            words = answer[:_TOLD_BYTES].decode("utf-8", "replace")
            raise VerificationError(f"the security host refused: {words}")
        if status not in (200, 201):
            raise UndecidedError(f"the security host answered {status}", code="unreachable")
