# SPDX-License-Identifier: Apache-2.0
"""The port Fetcher: a file, or an error of ours; never more bytes than were allowed."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from chopmark.adapters.http.fetcher import HttpFetcher
from chopmark.channel import Fetcher, MissingError
from chopmark.errors import DecodeError, UndecidedError, UsageError
from simulators import SimChannel

FILES = {
    "metadata/timestamp.json": b"0123456789",
    "empty": b"",
    "targets/production/packages/aa/with space": b"space",
    "targets/production/packages/aa/ümlaut": b"non-ascii",
    "targets/production/packages/aa/100%41": b"percent",
    "targets/production/packages/aa/a#b?c&d=e;f": b"all of them",
    "targets/production/packages/aa/a+b": b"plus",
}


class Handler(BaseHTTPRequestHandler):
    """Serves FILES below /base; some addresses misbehave."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        name = unquote(self.path.partition("?")[0]).removeprefix("/base/")
        if name.startswith("status/"):
            self.answer(int(name.removeprefix("status/")), b"x")
        elif name == "redirect":
            self.send_response(302)
            self.send_header("Location", "/base/metadata/timestamp.json")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name == "short":
            self.close_connection = True
            self.answer(200, b"short", length=500)
        elif name == "endless":
            self.close_connection = True
            self.endless()
        elif "?" not in self.path and name in FILES:
            self.answer(200, FILES[name])
        else:
            self.answer(404, b"")

    def answer(self, status, data, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def endless(self):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * 65536)
        except OSError:
            pass


@contextmanager
def serving():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/base"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def over_http():
    with serving() as url:
        yield HttpFetcher(url + "/")


@contextmanager
def in_memory():
    channel = SimChannel()
    channel.store.files = dict(FILES)
    yield channel


@pytest.fixture(params=[over_http, in_memory], ids=["http", "memory"])
def fetcher(request):
    with request.param() as fetcher:
        yield fetcher


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_fetched_under_its_own_name(fetcher, path):
    assert fetcher.fetch(path, max_bytes=100) == FILES[path]
    assert fetcher.fetch(path, max_bytes=len(FILES[path])) == FILES[path]


def test_a_file_that_is_not_there_is_missing(fetcher):
    for path in ("metadata/2.root.json", "targets/production/packages/aa/a", "metadata"):
        with pytest.raises(MissingError) as missing:
            fetcher.fetch(path, max_bytes=100)
        assert missing.value.code == "missing"


def test_a_file_that_is_too_long_is_refused(fetcher):
    with pytest.raises(DecodeError):
        fetcher.fetch("metadata/timestamp.json", max_bytes=9)
    assert fetcher.fetch("metadata/timestamp.json", max_bytes=10) == b"0123456789", "and the next fetch works"


# HTTP


@pytest.mark.parametrize("path", ["redirect", "short", "status/500", "status/503", "status/204", "status/206"])
def test_other_answers_are_undecided(path):
    with over_http() as fetcher, pytest.raises(UndecidedError) as undecided:
        fetcher.fetch(path, max_bytes=1000)
    assert undecided.value.code == "unreachable"


def test_an_answer_without_an_end_is_cut_off():
    with over_http() as fetcher, pytest.raises(DecodeError):
        fetcher.fetch("endless", max_bytes=100_000)


def test_nobody_there_is_undecided():
    with serving() as url:
        pass
    with pytest.raises(UndecidedError) as undecided:
        HttpFetcher(url).fetch("metadata/timestamp.json", max_bytes=10)
    assert undecided.value.code == "unreachable"


@pytest.mark.parametrize("url", ["file:///etc", "ftp://channel", "/channel", ""])
def test_only_http_addresses_are_taken(url):
    with pytest.raises(UsageError):
        HttpFetcher(url)


# Any adapter


class Foreign(Fetcher):
    def __init__(self, answer):
        self.answer = answer

    def _fetch(self, path, max_bytes):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_foreign_errors_become_ours():
    for error in (TimeoutError("t"), ValueError("v"), KeyError("k"), OSError(5, "o")):
        with pytest.raises(UndecidedError) as undecided:
            Foreign(error).fetch("x", max_bytes=1)
        assert undecided.value.code == "unreachable"


def test_an_adapter_that_ignores_the_limit_is_held_to_it():
    with pytest.raises(DecodeError):
        Foreign(b"12").fetch("x", max_bytes=1)
