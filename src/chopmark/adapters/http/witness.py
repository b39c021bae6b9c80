# SPDX-License-Identifier: Apache-2.0
"""Reach a witness over HTTP. C2SP tlog-witness."""

from __future__ import annotations

import urllib3

from chopmark.errors import UsageError, VerificationError
from chopmark.ledger.ports import WitnessClient

TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 64 * 1024


class HttpWitness(WitnessClient):
    """A witness at its submission prefix. Connections are kept alive; nothing is followed or tried again."""

    def __init__(self, prefix: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Take the submission prefix; nothing is sent yet."""
        if not prefix.startswith(("https://", "http://")):
            raise UsageError(f"{prefix[:80]}: is not the address of a witness", hint="use https://…")
        self._url = prefix.rstrip("/") + "/add-checkpoint"
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(connect=timeout_seconds, read=timeout_seconds)
        )

    def _add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
        response = self._pool.request(
            "POST",
            self._url,
            body=body,
            headers={"Content-Type": "text/plain; charset=utf-8"},
            redirect=False,
            preload_content=False,
        )
        try:
            answer = response.read(MAX_ANSWER_BYTES + 1)
            if len(answer) > MAX_ANSWER_BYTES:
                raise VerificationError("the witness's answer is too long")
            return response.status, answer
        finally:
            response.release_conn()
