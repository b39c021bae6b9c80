# SPDX-License-Identifier: Apache-2.0
"""The security host over HTTP: the newest status for whoever asks, statements from whoever can sign them."""

from __future__ import annotations

from typing import Final

from anyio import to_thread
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from chopmark import canonical
from chopmark.apps.service.web import AnyRequest, in_thread, raw_response
from chopmark.channel.status import StatusHost

MAX_STATEMENT_BYTES: Final = 256 * 1024


def security_routes(host: StatusHost) -> list[HTTPRouteHandler]:
    """Return the routes of *host*."""

    def apply(body: bytes) -> bytes:
        applied = host.apply(body)
        return canonical.encode({"version": applied.version, "changed": applied.changed})

    @get("/status.json")
    async def status() -> Response[bytes]:
        data = await to_thread.run_sync(host.current)
        return raw_response(data, media_type="application/json", headers={"Cache-Control": "no-cache"})

    @post("/statements", request_max_body_size=MAX_STATEMENT_BYTES)
    async def statements(request: AnyRequest) -> Response[bytes]:
        return raw_response(await in_thread(apply, request), media_type="application/json")

    return [status, statements]
