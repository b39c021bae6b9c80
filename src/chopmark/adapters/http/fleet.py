# SPDX-License-Identifier: Apache-2.0
"""The fleet's service over HTTP, for a device."""

from __future__ import annotations

from typing import Final

import msgspec

from chopmark.adapters.http.client import Client
from chopmark.device import FleetClient
from chopmark.errors import DecodeError, UndecidedError, VerificationError
from chopmark.telemetry import Enrolled, EnrolmentRequest, decode_enrolled, encode_enrolment

READ_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 * 1024
_BUSY: Final = frozenset({408, 425, 429})


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    code: str = "not-accepted"
    message: str = ""
    hint: str = ""


class HttpFleet(FleetClient):
    """The service at *url*. When to try again is the agent's decision."""

    def __init__(self, url: str) -> None:
        """Take the service's address; nothing is sent yet."""
        self._client = Client(url, read_s=READ_S)

    def _enroll(self, request: EnrolmentRequest) -> Enrolled:
        return decode_enrolled(self._post("/v1/devices", encode_enrolment(request)))

    def _report(self, data: bytes) -> bytes:
        return self._post("/v1/reports", data)

    def _post(self, path: str, body: bytes) -> bytes:
        status, answer = self._client.send(
            "POST", path, body=body, content_type="application/json", max_bytes=MAX_ANSWER_BYTES
        )
        if len(answer) > MAX_ANSWER_BYTES:
            raise DecodeError("the service's answer is too long")
        if status in (200, 201):
            return answer
        if 400 <= status < 500 and status not in _BUSY:
            raise _refused(status, answer)
        raise UndecidedError(f"the service answered {status}", code="unreachable")


def _refused(status: int, answer: bytes) -> VerificationError:
    try:
        problem = msgspec.json.decode(answer, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = _Problem()
    message = problem.message or f"the service answered {status}"
    return VerificationError(message[:500], code=problem.code[:63], hint=problem.hint[:500])
