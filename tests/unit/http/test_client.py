# SPDX-License-Identifier: Apache-2.0
"""The one HTTP client, and servers that do not mean well."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPException

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from chopmark.adapters.http.client import Client
from chopmark.adapters.http.fleet import HttpFleet
from chopmark.adapters.http.security import HttpSecurityHost
from chopmark.errors import UndecidedError, UsageError, VerificationError

OK = b"HTTP/1.1 200 OK\r\n"
NOW = datetime.now(UTC)


def answer(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n" % len(body) + headers + b"\r\n" + body


class Server:
    """Says what it was told to, whatever it is asked; one answer for each request.

    Attributes:
        asked: the requests that came.
        connections: as they came.
    """

    def __init__(self, *answers, then_drip=b"", hang_up=False, tls=None):
        self.answers, self.then_drip, self.hang_up, self.tls = list(answers), then_drip, hang_up, tls
        self.asked, self.connections = [], []
        self.stop = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while not self.stop.is_set():
            connection, _ = self.listener.accept()
            self.connections.append(connection)
            thread = threading.Thread(target=self.serve, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def serve(self, connection):
        if self.tls is None:
            self.answer(connection)
        else:
            with suppress(OSError), self.tls.wrap_socket(connection, server_side=True) as wrapped:
                self.answer(wrapped)

    def answer(self, connection):
        with connection, connection.makefile("rb") as file:
            while self.answers and not self.stop.is_set() and (line := file.readline()):
                headers = dict(h.strip().lower().split(b": ") for h in iter(file.readline, b"\r\n"))
                self.asked.append((line.strip(), headers, file.read(int(headers.get(b"content-length", 0)))))
                connection.sendall(self.answers.pop(0))
                if self.then_drip:
                    self.drip(connection)
                if self.hang_up:
                    return

    def drip(self, connection):
        with suppress(OSError):  # cut off
            while not self.stop.wait(0.01):
                connection.sendall(self.then_drip)

    def close(self):
        self.stop.set()
        socket.create_connection(self.listener.getsockname()).close()
        for connection in self.connections:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.listener.close()


@contextmanager
def serving(*answers, **how):
    server = Server(*answers, **how)
    try:
        yield server
    finally:
        server.close()


def get(server, *, max_bytes=1000, **limits):
    return Client(server.url + "/base/", **limits).send("GET", "/file", max_bytes=max_bytes)


def test_what_is_asked_and_answered():
    with serving(answer(b"made", b"201 Created")) as server:
        sent = Client(f"{server.url}/base/").send(
            "POST", "/v1/x%20y", body=b"{}", content_type="application/json", max_bytes=4
        )
        assert sent == (201, b"made")
    ((line, headers, body),) = server.asked
    assert (line, body) == (b"POST /base/v1/x%20y HTTP/1.1", b"{}")
    assert (headers[b"content-type"], headers[b"content-length"]) == (b"application/json", b"2")
    assert headers[b"accept-encoding"] == b"identity"


def test_connections_are_kept_and_made_anew():
    with serving(answer(b"one"), answer(b"two")) as server:
        client = Client(server.url)
        assert [client.send("GET", "/", max_bytes=3)[1] for _ in range(2)] == [b"one", b"two"]
        assert len(server.connections) == 1
    with serving(answer(b"one"), answer(b"two"), hang_up=True) as server:
        client = Client(server.url)
        assert client.send("GET", "/", max_bytes=3)[1] == b"one"
        server.threads[1].join()
        assert client.send("GET", "/", max_bytes=3)[1] == b"two"
        assert len(server.connections) == 2


def test_threads_do_not_share_an_answer():
    texts = [b"%d" % n for n in range(8)]
    with serving(*map(answer, texts)) as server:
        client, got = Client(server.url), []
        threads = [
            threading.Thread(target=lambda: got.append(client.send("GET", "/", max_bytes=3)[1])) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == texts


def test_one_byte_more_shows_that_an_answer_is_too_long():
    with serving(answer(b"x" * 500)) as server:
        assert get(server, max_bytes=9) == (200, b"x" * 10)
    with serving(OK + b"\r\n", then_drip=b"x" * 10_000) as server:
        assert get(server, max_bytes=200_000) == (200, b"x" * 200_001)


def test_nothing_is_followed_tried_again_or_decompressed():
    with serving(answer(b"", b"302 Found", b"Location: /elsewhere\r\n"), answer(b"no")) as server:
        assert get(server) == (302, b"")
    assert len(server.asked) == 1
    with serving(answer(b"", b"503 Busy", b"Retry-After: 0\r\n"), answer(b"no")) as server:
        assert get(server) == (503, b"")
    assert len(server.asked) == 1
    packed = gzip.compress(b"x" * 100_000)
    with serving(answer(packed, headers=b"Content-Encoding: gzip\r\n")) as server:
        assert get(server) == (200, packed)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\r\n\r\n",
        OK + b"Content-Length: 500\r\n\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nmany\r\n",
    ],
)
def test_half_an_answer_is_none(said):
    with serving(said, hang_up=True) as server, pytest.raises(Exception):  # noqa: B017, PT011 - whatever the library calls it
        get(server)


@pytest.mark.parametrize(
    ("said", "drip"),
    [
        (b"", b"H"),
        (OK, b"x"),
        (OK + b"X: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Content-Length: 500000000\r\n\r\n", b"x"),
        (OK + b"\r\n", b"x"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"x"),
    ],
    ids=["status", "header", "value", "continue", "body", "endless", "chunk-size", "chunks", "trailer"],
)
def test_who_drips_is_cut_off(said, drip):
    started = time.monotonic()
    with serving(said, then_drip=drip) as server, pytest.raises(TimeoutError):
        get(server, max_bytes=500_000_000, patience_s=0.2)
    assert time.monotonic() - started < 3


def test_who_sends_steadily_may_take_longer():
    with serving(OK + b"Content-Length: 300000\r\n\r\n", then_drip=b"x" * 10_000) as server:
        assert len(get(server, max_bytes=300_000, patience_s=0.15)[1]) == 300_000


def test_who_says_nothing_is_not_waited_for():
    with serving(b"", answer(b"never")) as server, pytest.raises(TimeoutError):
        get(server, read_s=0.05)


@pytest.mark.parametrize(
    "url", ["", "/x", "host", "ftp://host", "file:///etc", "http://", "http://host:x", "http://h?q", "http://h#f"]
)
def test_an_address_is_an_address(url):
    with pytest.raises(UsageError):
        Client(url)


# TLS


@pytest.fixture
def tls(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - timedelta(days=1), NOW + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = made.add_extension(names, critical=False).sign(key, hashes.SHA256())
    path = tmp_path / "both.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return path, context


def test_a_server_is_who_its_certificate_says(tls, monkeypatch):
    path, context = tls
    with serving(answer(b"secret"), tls=context) as server, pytest.raises(ssl.SSLCertVerificationError):
        get(server)
    assert server.asked == []
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with serving(answer(b"one"), answer(b"two"), tls=context) as server:
        client = Client(server.url)
        assert [client.send("GET", "/", max_bytes=3) for _ in range(2)] == [(200, b"one"), (200, b"two")]
        assert len(server.connections) == 1
        for other in (server.url.replace("127.0.0.1", "localhost"), server.url.replace("https", "http")):
            with pytest.raises((OSError, HTTPException)):
                Client(other).send("GET", "/", max_bytes=3)


def test_who_drips_over_tls_is_cut_off(tls, monkeypatch):
    path, context = tls
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    for said in (OK, OK + b"\r\n"):
        with serving(said, then_drip=b"x", tls=context) as server, pytest.raises(TimeoutError):
            get(server, patience_s=0.2)


# What answers mean


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (b"200 OK", b'{"version":2,"changed":true}', None),
        (b"200 OK", b"<html>Welcome to our wireless network</html>", UndecidedError),
        (b"403 No", b"words", VerificationError),
        (b"302 Found", b"words", UndecidedError),
        (b"500 Oh", b"words", UndecidedError),
        (b"503 Busy", b"words", UndecidedError),
    ],
)
def test_the_security_host(status, body, error):
    with serving(answer(body, status)) as server:
        if error is None:
            HttpSecurityHost(server.url).submit(b"{}")
        else:
            with pytest.raises(error):
                HttpSecurityHost(server.url).submit(b"{}")
    assert server.asked[0][0] == b"POST /statements HTTP/1.1"


def test_nobody_is_the_security_host():
    with pytest.raises(UndecidedError) as caught:
        HttpSecurityHost("http://127.0.0.1:1").submit(b"{}")
    assert (caught.value.code, "serve" in caught.value.hint) == ("unreachable", True)


@pytest.mark.parametrize(
    ("said", "error", "code"),
    [
        (answer(b'{"code":"token-refused"}', b"403 No"), VerificationError, "token-refused"),
        (answer(b"\xff", b"400 No"), VerificationError, "not-accepted"),
        (answer(b"", b"429 Busy"), UndecidedError, "unreachable"),
        (answer(b"", b"302 Found"), UndecidedError, "unreachable"),
        (answer(b"x" * 70_000), VerificationError, "undecodable"),
    ],
)
def test_a_fleet_that_does_not_answer(said, error, code):
    with serving(said) as server, pytest.raises(error) as caught:
        HttpFleet(server.url).report(b"{}")
    assert caught.value.code == code
