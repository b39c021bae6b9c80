# SPDX-License-Identifier: Apache-2.0
"""A witness over HTTP. C2SP tlog-witness."""

from __future__ import annotations

from anyio import to_thread
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from chopmark.apps.service.web import AnyRequest, raw_response
from chopmark.ledger.witness import MAX_REQUEST_BYTES, Answer, Witness


def witness_routes(witness: Witness) -> list[HTTPRouteHandler]:
    """Return the routes of *witness*."""

    @post("/add-checkpoint", request_max_body_size=MAX_REQUEST_BYTES)
    async def add_checkpoint(request: AnyRequest) -> Response[bytes]:
        body = await request.body()
        return _response(await to_thread.run_sync(witness.add_checkpoint, body))

    @get("/{origin_hash:str}/checkpoint")
    async def newest(request: AnyRequest) -> Response[bytes]:
        return _response(await to_thread.run_sync(witness.checkpoint, str(request.path_params["origin_hash"])))

    return [add_checkpoint, newest]


def _response(answer: Answer) -> Response[bytes]:
    return raw_response(answer.body, media_type=answer.content_type, status=answer.status)
