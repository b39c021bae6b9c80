# SPDX-License-Identifier: Apache-2.0
"""One server over HTTP: a request, a status, some bytes. What they mean is for the adapters beside this module.

Nothing is followed, tried again or decompressed. No answer is longer than was asked for, and none takes longer than
``patience_s``, plus a second for every 16 KiB that came: a server that sends a byte now and then is cut off, wherever in
its answer it dawdles. Errors are foreign ones (the network's, TLS's, HTTP's); the ports turn them into ours.
"""

from __future__ import annotations

import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from types import TracebackType
from typing import Final, Self

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationParseError
from urllib3.response import HTTPResponse
from urllib3.util import Url, parse_url

from chopmark.errors import UsageError

CONNECT_S: Final = 5.0
READ_S: Final = 30.0
PATIENCE_S: Final = 120.0
SLOWEST_BYTES_PER_S: Final = 16 * 1024
_PART_BYTES: Final = 64 * 1024
_CUT_AGAIN_S: Final = 0.1


class Client:
    """The server at *url*. Any number of threads may use it; connections are kept for the next request.

    Args:
        url: what paths are appended to.
        connect_s: for a connection to come about, to each of the host's addresses.
        read_s: for the next byte.
        patience_s: for the whole answer, however its bytes drip in; see the module.
    """

    def __init__(
        self, url: str, *, connect_s: float = CONNECT_S, read_s: float = READ_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._server = _parsed(url)
        self._prefix = (self._server.path or "").rstrip("/")
        self._connect_s, self._read_s, self._patience_s = connect_s, read_s, patience_s
        self._idle: deque[HTTPConnection] = deque()
        weakref.finalize(self, _close_all, self._idle)

    def send(
        self,
        method: str,
        path: str,
        *,
        max_bytes: int,
        body: bytes = b"",
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Return status and body of the answer; arguments and errors as :meth:`ask`."""
        sent = {**(headers or {}), **({"Content-Type": content_type} if content_type else {})}
        status, data, _ = self.ask(method, path, max_bytes=max_bytes, body=body, headers=sent)
        return status, data

    def ask(
        self, method: str, path: str, *, max_bytes: int, body: bytes = b"", headers: Mapping[str, str]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Return status, body and headers of the answer; header names are found in any case.

        Args:
            path: begins with a slash, and is quoted.
            headers: sent beside what HTTP needs; they never show in an error.
            max_bytes: one byte more at most is returned, so that a longer answer shows by its length.

        Raises:
            Exception: there was no answer, or not a whole one.
        """
        connection = self._take()
        whole = False
        try:
            with Watch(self._patience_s) as watch:
                if connection.is_closed:
                    connection.timeout = self._connect_s
                    connection.connect()
                watch.over(connection.sock)
                connection.timeout = self._read_s
                target = self._prefix + path
                connection.request(method, target, body=body or None, headers=headers, preload_content=False)
                with closing(connection.getresponse()) as response:
                    status, data, answered = response.status, _read(response, max_bytes, watch), response.headers
            whole = len(data) <= max_bytes
        finally:
            # A connection with an unread rest is closed, not drained: the rest may have no end.
            if whole and not connection.is_closed:
                self._idle.append(connection)
            else:
                connection.close()
        return status, data, answered

    def _take(self) -> HTTPConnection:
        """Return a connection, open or not."""
        with suppress(IndexError):
            connection = self._idle.pop()
            if not connection.is_connected:
                connection.close()  # the server hung up meanwhile
            return connection
        kind = HTTPSConnection if self._server.scheme == "https" else HTTPConnection
        return kind((self._server.host or "").strip("[]"), self._server.port)


class Watch:
    """Cuts a connection off when its answer comes too slowly, also in the middle of a read.

    Attributes:
        received: bytes that came so far; each earns some time.
    """

    def __init__(self, patience_s: float) -> None:
        self.received = 0
        self._patience_s = patience_s
        self._start = time.monotonic()
        self._socket: socket.socket | None = None
        self._done = threading.Event()
        self._passed = False
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def over(self, connected: socket.socket | None) -> None:
        """Watch this connection."""
        self._socket = connected

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        # Also without an error: of an answer that ends with its connection, a cut one looks whole.
        if self._passed and (error is None or isinstance(error, Exception)):
            raise TimeoutError("the answer came too slowly") from error

    def _left_s(self) -> float:
        return self._start + self._patience_s + self.received / SLOWEST_BYTES_PER_S - time.monotonic()

    def _wait(self) -> None:
        # Again and again, since the connection may come about only after its time was up.
        while not self._done.wait(max(self._left_s(), _CUT_AGAIN_S)):
            if self._left_s() <= 0:
                self._passed = True
                self._cut()

    def _cut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                # The plain socket's, also under TLS: whoever reads from it in the other thread wakes up.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _parsed(url: str) -> Url:
    try:
        server = parse_url(url)
    except LocationParseError as error:
        raise UsageError(f"{url[:80]!r}: is not an address") from error
    if server.scheme not in ("http", "https") or not server.host or server.query or server.fragment:
        raise UsageError(f"{url[:80]!r}: is not an http or https address")
    return server


def _read(response: HTTPResponse, max_bytes: int, watch: Watch) -> bytes:
    """Read until there is nothing left: one read of a connection that broke off looks like a short file."""
    parts = []
    left = max_bytes + 1
    while left and (part := response.read(min(left, _PART_BYTES), decode_content=False)):
        parts.append(part)
        left -= len(part)
        watch.received += len(part)
    return b"".join(parts)


def _close_all(idle: deque[HTTPConnection]) -> None:
    for connection in idle:
        connection.close()
