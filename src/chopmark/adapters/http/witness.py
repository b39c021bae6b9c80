# SPDX-License-Identifier: Apache-2.0
"""A witness over HTTP. C2SP tlog-witness."""

from __future__ import annotations

from typing import Final

from chopmark.adapters.http.client import Client
from chopmark.errors import VerificationError
from chopmark.ledger.ports import WitnessClient

READ_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 64 * 1024


class HttpWitness(WitnessClient):
    """A witness at its submission prefix."""

    def __init__(self, prefix: str) -> None:
        """Take the submission prefix; nothing is sent yet."""
        self._client = Client(prefix, read_s=READ_S)

    def _add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
        status, answer = self._client.send(
            "POST",
            "/add-checkpoint",
            body=body,
            content_type="text/plain; charset=utf-8",
            max_bytes=MAX_ANSWER_BYTES,
        )
        if len(answer) > MAX_ANSWER_BYTES:
            raise VerificationError("the witness's answer is too long")
        return status, answer
