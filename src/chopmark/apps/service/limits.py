# SPDX-License-Identifier: Apache-2.0
"""How long a client may take and how much of the service one may hold: the transport's side of it.

A request that is not all here in time, an answer that is not taken in time, and a connection more than one peer may have
are ended without a word. Many addresses together can still fill a service: they are for what stands in front of it. A
request whose length is said in two ways is refused: whoever stands in front could read it otherwise than the service
does. Bodies that are too long are the routes' matter.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import h11
from litestar.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from chopmark import canonical

READ_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 30.0
CONNECTIONS_PER_PEER: Final = 64
CONNECTIONS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may take.

    Attributes:
        read_s: seconds for the head of a request, and again for its body.
        write_s: seconds in which a client that takes an answer must make room for more of it.
        per_peer: connections at a time from one IPv4 address or IPv6 /64; 0 for any number, where a proxy is the peer.
        at_once: connections at a time from all of them; beyond it the transport answers 503 by itself.
    """

    read_s: float = READ_SECONDS
    write_s: float = WRITE_SECONDS
    per_peer: int = CONNECTIONS_PER_PEER
    at_once: int = CONNECTIONS


def limited_protocol(limits: Limits) -> type[H11Protocol]:
    """Return uvicorn's protocol, held to *limits*; all its connections are counted together."""

    class Limited(_LimitedProtocol):
        _limits = limits
        _held: Counter[str] = Counter()

    return Limited


def refuse_two_lengths(app: ASGIApp) -> ASGIApp:
    """Return *app* behind a check that a request has one length. RFC 9112, 6.1: it ought to be handled as an error."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope["headers"]} if str(scope["type"]) == "http" else set()
        if {b"content-length", b"transfer-encoding"} <= names:
            await _refuse(send)
        else:
            await app(scope, receive, send)

    return checked


async def _refuse(send: Send) -> None:
    data = canonical.encode({"code": "bad-request", "message": "this request cannot be understood", "hint": ""})
    headers = [
        (b"content-length", str(len(data)).encode()),
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),  # where the next request begins is not known
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": data, "more_body": False})


class _LimitedProtocol(H11Protocol):
    """One connection. uvicorn itself ends those that are idle between two requests."""

    _limits: Limits
    _held: Counter[str]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._peer: str | None = None
        self._awaited: object = None
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = _peer(self.client[0] if self.client else "")
        self._held[self._peer] += 1
        if 0 < self._limits.per_peer < self._held[self._peer]:
            transport.abort()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._await(None)
        self.resume_writing()
        if self._peer is not None:
            self._held[self._peer] -= 1
            if not self._held[self._peer]:
                del self._held[self._peer]
            self._peer = None

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self._limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _watch(self) -> None:
        """Give the client its time for what is awaited of it now; more bytes of the same give no more of it."""
        state = self.conn.their_state
        idle = state is h11.IDLE and self.timeout_keep_alive_task is not None
        self._await(state if state in {h11.IDLE, h11.SEND_BODY} and not idle else None)

    def _await(self, state: object) -> None:
        if state is self._awaited:
            return
        self._awaited = state
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if state is not None and not self.transport.is_closing():
            self._reading = self.loop.call_later(self._limits.read_s, self.transport.abort)


def _peer(host: str) -> str:
    """Return who counts as one: with IPv6, whoever has one address has 2**64."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host
