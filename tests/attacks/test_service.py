# SPDX-License-Identifier: Apache-2.0
"""What whoever reaches the service's address can do to it, over raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from litestar.testing import TestClient

from chopmark.apps.service import wiring
from chopmark.apps.service.limits import Limits
from chopmark.apps.service.serve import Address, _config, _Server
from chopmark.apps.service.static import folder_reader, mount
from chopmark.apps.service.web import application
from unit.ledger.kit import close
from unit.service.kit import Founded, found_workspace, running

READ_S = 0.5
PER_PEER = 8
HALF = {
    "nothing": b"",
    "half a head": b"POST /v1/reports HTTP/1.1\r\nHost: x\r\n",
    "no body": b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    "half a body": b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab",
    "an endless body": b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    "a second body": b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\nPOST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
}


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Founded]:
    made = found_workspace(tmp_path_factory.mktemp("acme"))
    yield made
    close(made.ledger)


@pytest.fixture(scope="module")
def address(founded: Founded) -> Iterator[tuple[str, int]]:
    argv = ("service", "--workspace", str(founded.workspace.folder), "--create")
    limits = ("--read-timeout-s", str(READ_S), "--connections-per-peer", str(PER_PEER))
    with running(*argv, *limits) as (_, url):
        here = urlsplit(url)
        yield str(here.hostname), int(here.port or 0)


def answer(client: socket.socket, *, every_s: float | None = None, seconds: float = 10) -> bytes:
    """Read until the service ends it; send a byte now and then."""
    client.settimeout(every_s or seconds)
    data, until = b"", time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            got = client.recv(65_536)
        except TimeoutError:
            client.sendall(b"a")
            continue
        except ConnectionError:
            return data
        if not got:
            return data
        data += got
    raise AssertionError("the service did not end it")


def ask(address: tuple[str, int], request: bytes) -> bytes:
    with socket.create_connection(address) as client:
        client.sendall(request)
        return answer(client)


def works(address: tuple[str, int]) -> bool:
    return ask(address, b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("half", HALF)
def test_a_request_that_never_ends_is_ended(address: tuple[str, int], half: str) -> None:
    with socket.create_connection(address) as client:
        client.sendall(HALF[half])
        start = time.monotonic()
        got = answer(client)
        assert time.monotonic() - start < 8
        assert got.count(b"HTTP/1.1 200") == (1 if "second" in half else 0)


@pytest.mark.parametrize("half", ["half a head", "an endless body"])
def test_a_byte_now_and_then_buys_no_time(address: tuple[str, int], half: str) -> None:
    with socket.create_connection(address) as client:
        client.sendall(HALF[half])
        with contextlib.suppress(ConnectionError):
            answer(client, every_s=READ_S / 5, seconds=4)


def test_one_peer_does_not_silence_the_service(address: tuple[str, int]) -> None:
    """Of many half-sent requests a few are held, and those not for long."""
    clients = []
    try:
        for _ in range(300):
            client = socket.create_connection(address)
            clients.append(client)
            client.setblocking(False)
            with contextlib.suppress(OSError):  # ended already
                client.sendall(HALF["half a head"])
        until = time.monotonic() + 10
        while not works(address):
            assert time.monotonic() < until
    finally:
        for client in clients:
            client.close()


def test_a_patient_client_is_ended_only_within_a_request(address: tuple[str, int]) -> None:
    client = http.client.HTTPConnection(*address, timeout=4)
    with contextlib.closing(client):
        for _ in range(3):
            client.request("GET", "/v1/status")
            got = client.getresponse()
            assert (got.status, bool(got.read())) == (200, True)
            time.sleep(READ_S * 0.8)  # three of them are more than the time for one request
        client.sock.sendall(b"GET /v1")
        assert answer(client.sock, seconds=4) == b""


@pytest.mark.parametrize(
    "first", ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
)
@pytest.mark.parametrize("path", ["/v1/reports", "/channel/x", "/nowhere"])
def test_a_request_with_two_lengths_is_refused_and_what_follows_is_not_read(
    address: tuple[str, int], path: str, first: str
) -> None:
    smuggled = b"0\r\n\r\nGET /v1/devices HTTP/1.1\r\nHost: x\r\n\r\n"
    got = ask(address, f"POST {path} HTTP/1.1\r\nHost: x\r\n{first}\r\n\r\n".encode() + smuggled)
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1") == 1
    assert b"connection: close" in got.lower()


def test_a_client_that_takes_no_answer_is_ended(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(64 * 1024 * 1024)  # more than kernels hold for a client that does not read
    app = application([mount("/channel", folder_reader(tmp_path))])
    listener, ready = socket.create_server(("127.0.0.1", 0)), asyncio.Event()
    server = _Server(_config(app, Address(), Limits(write_s=0.3)), on_ready=ready.set)
    held = server.server_state.connections

    async def attack() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await ready.wait()
        async with asyncio.timeout(10):
            _, writer = await asyncio.open_connection(*listener.getsockname(), limit=1)
            writer.write(b"GET /channel/big HTTP/1.1\r\nHost: x\r\n\r\n")
            while not held:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            while held:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        writer.transport.abort()
        server.should_exit = True
        await serving

    with listener:
        asyncio.run(attack())


@pytest.mark.parametrize("exported", [False, True])
def test_the_entries_of_the_ledger_are_not_for_everybody(founded: Founded, tmp_path: Path, *, exported: bool) -> None:
    folder = tmp_path / "export"
    founded.ledger.export(folder)
    paths = wiring.ServicePaths(ledger_folder=folder if exported else None)
    entries = "/ledger/tile/entries/000.p/3"
    with TestClient(wiring.service(founded.workspace, create=True, paths=paths)) as client:
        for path in ("checkpoint", "tile/0/000.p/3"):
            assert client.get(f"/ledger/{path}").status_code == 200
        odd = (
            entries.replace("tile/", "tile//"),
            entries.replace("entries", "%65ntries"),
            entries.replace("e/", "e/./"),
        )
        for path in (entries, f"{entries}/", f"/ledger/x/..{entries.removeprefix('/ledger')}", *odd):
            assert client.get(path).status_code == 404, path
    with TestClient(wiring.service(founded.workspace, create=True, paths=paths, public_entries=True)) as client:
        assert client.get(entries).content == b"\0\3one\0\3two\0\5three"
