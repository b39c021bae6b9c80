# SPDX-License-Identifier: Apache-2.0
"""Download one file from anywhere, into a file: the only client here that follows redirects, each to http or https.

Nothing of it is believed: who downloads hashes what came. TLS is verified with the machine's certificates, and a redirect
from https to http is refused. A half-finished file is removed. A server that sends a byte now and then is cut off, wherever in
its answer, or between which redirects, it dawdles.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from chopmark.adapters.http.client import Watch
from chopmark.errors import DecodeError, UndecidedError, UsageError, foreign

MAX_REDIRECTS: Final = 5
CONNECT_S: Final = 10.0
READ_S: Final = 30.0
PATIENCE_S: Final = 60.0
_PART: Final = 1 << 16
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_HINT: Final = "check the address and the network, or download it yourself and adopt the file"


def download(
    url: str, into: Path, *, max_bytes: int, on_bytes: Callable[[int, int | None], None] | None = None
) -> None:
    """Write what *url* serves to *into*, a file that does not exist yet.

    Args:
        url: may hold a user and a password; they go to that host only, and into no message.
        on_bytes: told how many bytes came and how many there will be, where the server says.

    Raises:
        UsageError: an address that is none.
        UndecidedError: it could not be had: network, TLS, a status, too slow, too many redirects.
        DecodeError: longer than *max_bytes*, or shorter than the server said.
    """
    with foreign(UndecidedError, "the model could not be downloaded", code="unreachable", hint=_HINT):
        into.parent.mkdir(parents=True, exist_ok=True)
        with into.open("xb") as file:  # before the try: what stands there stays
            try:
                with Watch(PATIENCE_S) as watch, ExitStack() as opened:
                    _save(_follow(url, watch, opened), file, max_bytes, watch, on_bytes)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                into.unlink(missing_ok=True)
                raise


def _follow(url: str, watch: Watch, opened: ExitStack) -> HTTPResponse:
    """Return the answer at the end of the redirects, its body not read yet; *opened* closes what was opened."""
    for _ in range(MAX_REDIRECTS + 1):
        answer, asked = _ask(url, watch, opened)
        if answer.status == 200:
            return answer
        if answer.status not in _MOVED:
            raise UndecidedError(f"the server answered {answer.status}", code="unreachable", hint=_HINT)
        url = urljoin(asked, answer.headers.get("Location", ""))
        if asked.startswith("https:") and urlsplit(url).scheme != "https":
            raise UndecidedError("the server redirects from https to something else", code="unreachable", hint=_HINT)
    raise UndecidedError(f"more than {MAX_REDIRECTS} redirects", code="unreachable", hint=_HINT)


def _ask(url: str, watch: Watch, opened: ExitStack) -> tuple[HTTPResponse, str]:
    """Return the answer, and the address that was asked, without user and password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("not an http or https address", hint="https://host/model.onnx")
    headers = {"Accept-Encoding": "identity"}
    if parts.username is not None:
        headers |= urllib3.make_headers(basic_auth=f"{unquote(parts.username)}:{unquote(parts.password or '')}")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.scheme == "https":
        tls = ssl.create_default_context()
        connection: HTTPConnection = HTTPSConnection(parts.hostname, parts.port, timeout=CONNECT_S, ssl_context=tls)
    else:
        connection = HTTPConnection(parts.hostname, parts.port, timeout=CONNECT_S)
    opened.callback(connection.close)
    connection.connect()
    watch.over(connection.sock)
    connection.timeout = READ_S
    connection.request("GET", urllib3.util.parse_url(bare).request_uri, headers=headers, preload_content=False)
    answer = connection.getresponse()
    opened.callback(answer.close)
    return answer, bare


def _save(
    answer: HTTPResponse,
    file: BinaryIO,
    max_bytes: int,
    watch: Watch,
    on_bytes: Callable[[int, int | None], None] | None,
) -> None:
    length = answer.headers.get("Content-Length", "")
    said = int(length) if length.isdecimal() and len(length) < 20 else None
    _check(said or 0, max_bytes)
    came = 0
    while part := answer.read(_PART, decode_content=False):
        came += len(part)
        _check(came, max_bytes)
        watch.received = came
        file.write(part)
        if on_bytes is not None:
            on_bytes(came, said)
    if said is not None and came != said:
        raise DecodeError(f"the download broke off after {came:,} of {said:,} bytes", hint="try it again")


def _check(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise DecodeError(f"the file is longer than the {max_bytes:,} bytes allowed", hint="--max-bytes allows more")
