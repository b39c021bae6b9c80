# SPDX-License-Identifier: Apache-2.0
"""The security host over HTTP."""

from __future__ import annotations

from typing import Final

import msgspec

from chopmark import canonical
from chopmark.adapters.http.client import Client
from chopmark.channel.ports import SecurityHost
from chopmark.errors import DecodeError, UndecidedError, VerificationError

READ_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 * 1024
_TOLD_BYTES: Final = 300


class _Applied(canonical.Strict, frozen=True):
    version: int
    changed: bool


class _Problem(msgspec.Struct, frozen=True):
    code: str
    message: str
    hint: str = ""


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
            raise _refused(answer)
        if status not in (200, 201):
            raise UndecidedError(f"the security host answered {status}", code="unreachable")
        try:
            canonical.decode_as(answer, _Applied, what="the security host's answer", max_bytes=MAX_ANSWER_BYTES)
        except DecodeError as error:
            hint = "something else answers at its address"
            raise UndecidedError(error.message, code="unreachable", hint=hint) from error


def _refused(answer: bytes) -> VerificationError:
    """Return the host's own error, where it is one."""
    try:
        told = msgspec.json.decode(answer, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return VerificationError(f"the security host refused: {answer[:_TOLD_BYTES].decode('utf-8', 'replace')}")
    return VerificationError(f"the security host refused: {told.message}", code=told.code, hint=told.hint)
