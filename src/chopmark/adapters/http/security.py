# SPDX-License-Identifier: Apache-2.0
"""Reach the security host: hand in a signed revocation or hold."""

from __future__ import annotations

import urllib3

from chopmark.errors import UndecidedError, VerificationError

TIMEOUT_S = 10.0


class HttpSecurityHost:
    """The security host at its address; it verifies what it is given and believes no caller."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(total=TIMEOUT_S), retries=False)

    def submit(self, envelope: bytes) -> None:
        """Hand in a signed statement.

        Raises:
            VerificationError: the host refused it.
            UndecidedError: the host cannot be reached.
        """
        try:
            answer = self._pool.request(
                "POST", f"{self._url}/statements", body=envelope, headers={"Content-Type": "application/json"}
            )
        except urllib3.exceptions.HTTPError as error:
            raise UndecidedError(
                "the security host cannot be reached",
                code="unreachable",
                hint="start it: chopmark serve --only security",
            ) from error
        if answer.status >= 500:
            raise UndecidedError(f"the security host answered {answer.status}", code="unreachable")
        if answer.status >= 400:
            raise VerificationError(f"the security host refused: {answer.data[:300].decode('utf-8', 'replace')}")
