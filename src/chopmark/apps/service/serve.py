# SPDX-License-Identifier: Apache-2.0
"""Run an application until it is told to stop: uvicorn, TLS 1.3 or nothing, no access log, slow clients ended.

Says ``listening on <url>`` on stderr once it answers, and writes its port to a file for scripts that asked for port 0.
SIGTERM and SIGINT end it after the requests that it has begun.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from litestar import Litestar

from chopmark.apps.service.limits import Limits, limited_protocol, refuse_two_lengths
from chopmark.artifacts import write_file
from chopmark.errors import UndecidedError, UsageError

STOP_SECONDS: Final = 5
_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen.

    Attributes:
        port: 0 for any free one.
        port_file: gets the port, once it is known.
        certificate, key: PEM files; both or none.
        behind_proxy: plain HTTP beyond this machine is wanted, since something in front ends TLS.
    """

    host: str = "127.0.0.1"
    port: int = 0
    port_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False


def serve(app: Litestar, address: Address, *, limits: Limits = _LIMITS) -> None:
    """Serve *app* until SIGTERM.

    Raises:
        UsageError: plain HTTP for other machines without saying so, or a certificate that cannot be used.
        UndecidedError: the address is taken.
    """
    tls = address.certificate is not None
    if not tls and not address.behind_proxy and not _is_here(address.host):
        raise UsageError(
            f"{address.host}: plain HTTP would be open to other machines",
            hint="give --certificate and --key, or --behind-proxy where something in front ends TLS",
        )
    listener = _listen(address)
    try:
        port = listener.getsockname()[1]
        host = f"[{address.host}]" if ":" in address.host else address.host
        url = f"{'https' if tls else 'http'}://{host}:{port}"
        server = _Server(_config(app, address, limits), on_ready=lambda: _announce(url, port, address.port_file))
        with _stop_quietly(), asyncio.Runner(loop_factory=lambda: _Loop(limits.read_s)) as runner:
            runner.run(server.serve(sockets=[listener]))
    finally:
        listener.close()
        if address.port_file is not None:
            address.port_file.unlink(missing_ok=True)


class _Loop(asyncio.SelectorEventLoop):
    """Ends a TLS handshake that takes longer than *handshake_s* seconds; uvicorn leaves it a minute."""

    def __init__(self, handshake_s: float) -> None:
        super().__init__()
        self._handshake_s = handshake_s

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = self._handshake_s
        return await super().create_server(*args, **options)


class _Server(uvicorn.Server):
    """Calls *on_ready* when it answers."""

    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()


def _config(app: Litestar, address: Address, limits: Limits) -> uvicorn.Config:
    config = uvicorn.Config(
        refuse_two_lengths(app),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        http=limited_protocol(limits),
        lifespan="on",
        limit_concurrency=limits.at_once,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        ssl_context_factory=_tls if address.certificate is not None else None,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{address.certificate}: cannot be used as a certificate with its key") from error
    return config


def _tls(_: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    if not 0 <= address.port <= 65535:
        raise UsageError(f"{address.port}: is no port", hint="0 for any free one, or 1 to 65535")
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=256)
        # Connections inherit it. asyncio sets it only where a socket names its protocol, which this one does not; without
        # it an answer of two parts waits forty milliseconds for the acknowledgement of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise UndecidedError(
            f"{address.host}:{address.port}: cannot listen there ({error})",
            code="address-taken",
            hint="choose another port, or 0 for any",
        ) from error
    return listener


def _announce(url: str, port: int, port_file: Path | None) -> None:
    if port_file is not None:
        write_file(port_file, f"{port}\n".encode())
    print(f"listening on {url}", file=sys.stderr, flush=True)  # noqa: T201


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _stop_quietly() -> Iterator[None]:
    """Let a signal that the server has obeyed end there: it raises it again, which would count as dying of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
