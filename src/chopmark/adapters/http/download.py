# SPDX-License-Identifier: Apache-2.0
"""Download one file from anywhere, into a file: the only client here that follows redirects, each to http or https.

Nothing of it is believed: who downloads hashes what came. TLS is verified with the machine's certificates, and a redirect
from https to http is refused. A half-finished file is removed.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

import urllib3

from chopmark.errors import DecodeError, UndecidedError, UsageError, foreign

MAX_REDIRECTS: Final = 5
CONNECT_S: Final = 10.0
READ_S: Final = 30.0
SLOWEST_BYTES_PER_S: Final = 16 * 1024
PATIENCE_S: Final = 60.0
_PART: Final = 1 << 20
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
    tls = ssl.create_default_context()
    timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
    with (
        foreign(UndecidedError, "the model could not be downloaded", code="unreachable", hint=_HINT),
        urllib3.PoolManager(ssl_context=tls, timeout=timeout, retries=False) as pool,
        closing(_follow(pool, url)) as answer,
    ):
        _save(answer, into, max_bytes, on_bytes)


def _follow(pool: urllib3.PoolManager, url: str) -> urllib3.BaseHTTPResponse:
    """Return the answer at the end of the redirects, its body not read yet."""
    for _ in range(MAX_REDIRECTS + 1):
        answer, asked = _ask(pool, url)
        if answer.status == 200:
            return answer
        answer.close()
        if answer.status not in _MOVED:
            raise UndecidedError(f"the server answered {answer.status}", code="unreachable", hint=_HINT)
        url = urljoin(asked, answer.headers.get("Location", ""))
        if asked.startswith("https:") and urlsplit(url).scheme != "https":
            raise UndecidedError("the server redirects from https to something else", code="unreachable", hint=_HINT)
    raise UndecidedError(f"more than {MAX_REDIRECTS} redirects", code="unreachable", hint=_HINT)


def _ask(pool: urllib3.PoolManager, url: str) -> tuple[urllib3.BaseHTTPResponse, str]:
    """Return the answer, and the address that was asked, without user and password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("not an http or https address", hint="https://host/model.onnx")
    headers = {"Accept-Encoding": "identity"}
    if parts.username is not None:
        headers |= urllib3.make_headers(basic_auth=f"{unquote(parts.username)}:{unquote(parts.password or '')}")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return pool.request("GET", bare, headers=headers, preload_content=False, redirect=False), bare


def _save(
    answer: urllib3.BaseHTTPResponse, into: Path, max_bytes: int, on_bytes: Callable[[int, int | None], None] | None
) -> None:
    length = answer.headers.get("Content-Length", "")
    said = int(length) if length.isdecimal() and len(length) < 20 else None
    _check(said or 0, max_bytes)
    start, came = time.monotonic(), 0
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        with into.open("xb") as file:
            while part := answer.read(_PART, decode_content=False):
                came += len(part)
                _check(came, max_bytes)
                if time.monotonic() - start > PATIENCE_S + came / SLOWEST_BYTES_PER_S:
                    raise UndecidedError("the server is too slow", code="unreachable", hint=_HINT)
                file.write(part)
                if on_bytes is not None:
                    on_bytes(came, said)
            file.flush()
            os.fsync(file.fileno())
        if said is not None and came != said:
            raise DecodeError(f"the download broke off after {came:,} of {said:,} bytes", hint="try it again")
    except BaseException:
        into.unlink(missing_ok=True)
        raise


def _check(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise DecodeError(f"the file is longer than the {max_bytes:,} bytes allowed", hint="--max-bytes allows more")
