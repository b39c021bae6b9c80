# SPDX-License-Identifier: Apache-2.0
"""The fleet's service over HTTP, for a device."""

from __future__ import annotations

import msgspec
import urllib3

from chopmark import canonical
from chopmark.device import Enrolled, FleetClient
from chopmark.errors import DecodeError, UndecidedError, UsageError, VerificationError
from chopmark.keys import PublicKey

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 * 1024
_BUSY = frozenset({408, 425, 429})


class _Device(canonical.Strict, frozen=True, kw_only=True):
    device: str
    nonce: str


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    code: str = "not-accepted"
    message: str = ""
    hint: str = ""


class HttpFleet(FleetClient):
    """The service at *url*. Nothing is followed or tried again; that is the agent's decision."""

    def __init__(self, url: str) -> None:
        """Take the service's address; nothing is sent yet."""
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url[:80]!r}: is not an http or https address")
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=TIMEOUT_S, read=TIMEOUT_S))

    def _enroll(self, token: str, key: PublicKey, name: str) -> Enrolled:
        wish = {"token": token, "public": canonical.encode_base64(key.spki), "name": name}
        answer = self._post("/v1/devices", canonical.encode(wish))
        device = canonical.decode_as(answer, _Device, what="enrolment answer", max_bytes=MAX_ANSWER_BYTES)
        return Enrolled(device=device.device, nonce=device.nonce)

    def _report(self, data: bytes) -> bytes:
        return self._post("/v1/reports", data)

    def _post(self, path: str, body: bytes) -> bytes:
        response = self._pool.request(
            "POST",
            self._url + path,
            body=body,
            headers={"Content-Type": "application/json"},
            redirect=False,
            preload_content=False,
        )
        try:
            answer = response.read(MAX_ANSWER_BYTES + 1, decode_content=False)
        finally:
            response.close()
        if len(answer) > MAX_ANSWER_BYTES:
            raise DecodeError("the service's answer is too long")
        if response.status in (200, 201):
            return answer
        if 400 <= response.status < 500 and response.status not in _BUSY:
            raise _refused(response.status, answer)
        raise UndecidedError(f"the service answered {response.status}", code="unreachable")


def _refused(status: int, answer: bytes) -> VerificationError:
    try:
        problem = msgspec.json.decode(answer, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = _Problem()
    message = problem.message or f"the service answered {status}"
    return VerificationError(message[:500], code=problem.code[:63], hint=problem.hint[:500])
