# SPDX-License-Identifier: Apache-2.0
"""Sealed memory, counters, the folder's lock."""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
import threading

import pytest

from chopmark.adapters.counters.simulated import SimulatedCounter
from chopmark.adapters.counters.software import NoCounter
from chopmark.adapters.http.fleet import HttpFleet
from chopmark.adapters.memory.memfd import MemfdMemory
from chopmark.device import Folder
from chopmark.errors import UndecidedError, UsageError
from chopmark.telemetry import EnrolmentRequest
from unit.device.kit import World, runs


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(256)) * 9000)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor, path.read_bytes()
    os.close(descriptor)


def test_sealed_memory_holds_what_was_hashed(source):
    descriptor, data = source
    sealed, digest = MemfdMemory().copy("a/model.bin", descriptor, max_bytes=len(data))
    assert (sealed.read(), digest, sealed.length) == (data, hashlib.sha256(data).digest(), len(data))
    for attempt in (
        lambda: os.pwrite(sealed.fd, b"x", 0),
        lambda: os.ftruncate(sealed.fd, 1),
        lambda: os.ftruncate(sealed.fd, len(data) + 1),
        lambda: mmap.mmap(sealed.fd, len(data), access=mmap.ACCESS_WRITE),
    ):
        with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's choice
            attempt()
    sealed.close()
    sealed.close()


def test_a_longer_file_shows_by_its_length(source):
    descriptor, data = source
    sealed, digest = MemfdMemory().copy("model.bin", descriptor, max_bytes=1000)
    assert (sealed.length, sealed.read()) == (1001, data[:1001])
    assert digest == hashlib.sha256(data[:1001]).digest()
    sealed.close()


def test_an_empty_file_can_be_sealed(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with (tmp_path / "empty").open("rb") as file:
        sealed, digest = MemfdMemory().copy("empty", file.fileno(), max_bytes=0)
    assert (sealed.read(), digest) == (b"", hashlib.sha256(b"").digest())
    sealed.close()


def test_elsewhere_than_on_linux_it_says_so(source, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UndecidedError) as caught:
        MemfdMemory().copy("model.bin", source[0], max_bytes=10)
    assert caught.value.code == "no-sealed-memory"


def test_a_failure_of_the_system_is_ours(monkeypatch, source):
    monkeypatch.setattr(os, "memfd_create", lambda *_: (_ for _ in ()).throw(OSError(24, "too many files")))
    with pytest.raises(UndecidedError):
        MemfdMemory().copy("model.bin", source[0], max_bytes=10)


def test_a_counter_only_goes_up(tmp_path):
    counter = SimulatedCounter(tmp_path / "chip")
    assert (counter.value(), counter.kind) == (0, "simulated")
    for to, value in ((5, 5), (3, 5), (6, 6)):
        counter.advance(to)
        assert SimulatedCounter(tmp_path / "chip").value() == value
    (tmp_path / "chip").write_bytes(b"many")
    with pytest.raises(UndecidedError):
        counter.value()


def test_no_counter_says_so():
    counter = NoCounter()
    counter.advance(7)
    assert (counter.value(), counter.kind) == (0, "software")


def test_readers_share_the_lock_and_a_writer_waits(tmp_path):
    folder = Folder(tmp_path)
    with folder.locked(shared=True), folder.locked(shared=True), pytest.raises(UndecidedError), folder.locked(wait_s=0):
        pass
    with folder.locked(), pytest.raises(UndecidedError), folder.locked(shared=True, wait_s=0):
        pass


def test_applications_load_while_the_agent_refreshes(tmp_path):
    world = World(tmp_path)
    device = world.installed("1")
    seen: list[str] = []

    def use() -> None:
        own = world.open(device.folder.path)
        seen.extend(runs(own) for _ in range(5))

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in ("2", "3"):
        world.publish(version)
        world.refresh(device)
    for thread in threads:
        thread.join()
    assert len(seen) == 15
    assert runs(device) == "3"


def test_a_service_needs_an_address():
    with pytest.raises(UsageError):
        HttpFleet("ftp://fleet")
    with pytest.raises(UndecidedError):
        HttpFleet("http://127.0.0.1:1").report(b"{}")
    with pytest.raises(UndecidedError):
        HttpFleet("http://127.0.0.1:1").enroll(EnrolmentRequest(token="t", spki=b"", name="n"))
