# SPDX-License-Identifier: Apache-2.0
"""A log's server over HTTP: ``POST <url>/append`` with a bearer token."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

import msgspec

from chopmark.adapters.http.client import Client
from chopmark.errors import DecodeError, UndecidedError, UsageError, VerificationError
from chopmark.ledger import MAX_PROOF_BYTES
from chopmark.ledger.ports import LogServer

READ_S: Final = 30.0
"""Longer than the server waits for witnesses."""
_LOGGED: Final = frozenset({200, 202})
_AGAIN: Final = frozenset({408, 425, 429, 503})
_CODE_CHARS: Final = 63
_TOLD_CHARS: Final = 300


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    code: str = "not-accepted"
    message: str = ""
    hint: str = ""


class HttpAppender(LogServer):
    """The server of the log at *url*. Any number of threads may use it; when to ask again is the caller's decision.

    Raises:
        UsageError: the token would cross the network in the clear.
    """

    def __init__(self, url: str, token: str) -> None:
        """Take the address and the token; nothing is sent yet."""
        if urlsplit(url).scheme == "http" and not _is_here(urlsplit(url).hostname or ""):
            raise UsageError(f"{url[:80]}: anybody on the way could read the token", hint="use https://")
        self._client = Client(url, read_s=READ_S)
        self._headers = {"Authorization": f"Bearer {token}"}

    def _append(self, entry: bytes) -> bytes:
        status, answer = self._client.send(
            "POST",
            "/append",
            body=entry,
            content_type="application/octet-stream",
            headers=self._headers,
            max_bytes=MAX_PROOF_BYTES,
        )
        if len(answer) > MAX_PROOF_BYTES:
            raise DecodeError("the log's answer is too long")
        if status in _LOGGED:
            return answer
        if status in _AGAIN:
            raise UndecidedError(f"the log answered {status}", code="log-busy", hint="try again later")
        if 400 <= status < 500:
            raise _refused(status, answer)
        raise UndecidedError(f"the log answered {status}", code="unreachable")


def _refused(status: int, answer: bytes) -> VerificationError:
    try:
        told = msgspec.json.decode(answer, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = _Problem()
    message = f"the log refused: {told.message or status}"
    return VerificationError(message[:_TOLD_CHARS], code=told.code[:_CODE_CHARS], hint=told.hint[:_TOLD_CHARS])


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
