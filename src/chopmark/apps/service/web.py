# SPDX-License-Identifier: Apache-2.0
"""What all configurations share: errors as JSON, headers, and no word about what is inside.

An error answers ``{"code", "message", "hint"}``. Codes in :data:`STATUS` are about what the client sent and are told;
everything else is told as "later" (503) or "our fault" (500), and its details go to stderr only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from anyio import to_thread
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

from chopmark import canonical
from chopmark.errors import ChopmarkError, UndecidedError

JSON: Final = "application/json"
RETRY_AFTER_S: Final = 30

STATUS: Final[Mapping[str, int]] = {
    "undecodable": 400,
    "usage": 400,
    "not-a-leaf": 400,
    "token-refused": 403,
    "report-forged": 403,
    "report-misdirected": 403,
    "statement-unsigned": 403,
    "statement-half-signed": 403,
    "statement-forbidden": 403,
    "statement-elsewhere": 403,
    "device-unknown": 404,
    "not-found": 404,
    "report-stale": 409,
    "report-out-of-order": 409,
}

_HEADERS: Final[Mapping[str, str]] = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}

AnyRequest = Request[Any, Any, Any]


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """Return *value* as JSON that nobody keeps."""
    return raw_response(canonical.encode(value), media_type=JSON, status=status, headers=headers)


def raw_response(
    data: bytes, *, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """Return bytes as they are, under exactly this type: the framework would add a character set to every text."""
    given = {**_HEADERS, "Content-Type": media_type, **(headers or {})}
    return Response(data, media_type=media_type, status_code=status, headers=given)


def problem(
    status: int, code: str, message: str, hint: str = "", *, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """Return an error."""
    if status == 503:
        headers = {"Retry-After": str(RETRY_AFTER_S), **(headers or {})}
    return json_response({"code": code, "message": message, "hint": hint}, status=status, headers=headers)


async def in_thread(function: Callable[[bytes], bytes], request: AnyRequest) -> bytes:
    """Give the body of *request* to *function*, which may wait for a disk."""
    return await to_thread.run_sync(function, await request.body())


def on_own_error(request: AnyRequest, error: ChopmarkError) -> Response[bytes]:
    """Answer one of our errors."""
    status = STATUS.get(error.code)
    if status is not None:
        return problem(status, error.code, error.message, error.hint)
    _tell(request, f"{error.code}: {error.message}")
    if isinstance(error, UndecidedError):
        return problem(503, "undecided", "this cannot be decided now", "try again later")
    return problem(500, "internal", "the service could not do this", "see the service's own messages")


def on_http_error(_: AnyRequest, error: HTTPException) -> Response[bytes]:
    """Answer what the framework refuses: no such path, another method, a body that is too long."""
    words = {404: ("not-found", "there is nothing here"), 405: ("method", "another method is used here")}
    words[413] = ("too-large", "the body is longer than is accepted here")
    code, message = words.get(error.status_code, ("bad-request", "this request cannot be understood"))
    return problem(error.status_code if error.status_code < 500 else 400, code, message)


def on_any_error(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Answer a fault of ours."""
    _tell(request, f"{type(error).__name__}")
    return problem(500, "internal", "the service could not do this", "see the service's own messages")


def application(handlers: Sequence[ControllerRouterHandler], *, close: Sequence[Callable[[], None]] = ()) -> Litestar:
    """Return the application of *handlers*.

    Args:
        close: called when it stops.
    """
    return Litestar(
        route_handlers=list(handlers),
        exception_handlers={
            ChopmarkError: on_own_error,
            HTTPException: on_http_error,
            Exception: on_any_error,
        },
        on_shutdown=list(close),
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _tell(request: AnyRequest, message: str) -> None:
    """Say what went wrong on stderr: method and path, never a body or a header."""
    path = request.url.path.encode("ascii", "backslashreplace").decode("ascii")[:200]
    print(f"{request.method} {path}: {message}", file=sys.stderr, flush=True)  # noqa: T201
