# SPDX-License-Identifier: Apache-2.0
"""Attacks that do not get a wrong model loaded but would stop a device, blind it, or freeze what it runs.

Somebody damages the device's folder, serves what is signed and senseless, or fills the disk. In the end the device follows
its channel again by itself, or says what is the matter.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chopmark.adapters.kms import file as kms
from chopmark.adapters.memory import memfd
from chopmark.apps.agent.loop import turn
from chopmark.artifacts import Digest, read_file
from chopmark.channel import StatusEntry
from chopmark.device import Device, Refreshed, Refusal, Slot, deliver, open_model, refresh
from chopmark.device import folder as device_folder
from chopmark.device import install as device_install
from chopmark.device import store as device_store
from chopmark.errors import ChopmarkError, DecodeError, InternalError, UndecidedError, UsageError
from chopmark.keys import Algorithm
from chopmark.statements import encode_envelope
from chopmark.telemetry import Answer, Enrolled, Result, build_answer, decode_report, decode_signed_report
from simulators import NOW
from unit.device.kit import (
    MODEL,
    SimFleet,
    World,
    no_file_larger_than,
    package,
    queued,
    refused_load,
    runs,
)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def follows(world: World, device: Device, version: str) -> None:
    """Expect that the device installs *version* and loads it."""
    world.publish(version)
    for _ in range(2):
        found = turn(device, world.channel, world.fleet)
    assert (found.undecided, found.refusals) == ((), ())
    assert runs(device) == version


def clutter(path, kind: str, world: World) -> None:
    """Put something in the place of *path*."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "folder":
            (path / "deep").mkdir(parents=True)
            (path / "deep" / "x").write_text("x")
        case "file":
            path.write_bytes(b"{}")
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as served:
                directory = os.open(path.parent, os.O_RDONLY)
                served.bind(f"/proc/self/fd/{directory}/{path.name}")
                os.close(directory)
        case "link":
            path.symlink_to(victim(world))
        case "dangling":
            path.symlink_to("/nowhere/x")


def victim(world: World):
    folder = world.folder / "victim"
    if not folder.exists():
        (folder / "A" / "deep").mkdir(parents=True)
        for name in ("photo.jpg", ".0123456789abcdef.tmp", "A/deep/letter.txt", "A/.x.tmp"):
            (folder / name).write_text("precious")
    return folder


KINDS = [
    "folder",
    "file",
    "link",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("pipe", "socket", "dangling")),
]


# What the channel can do


def test_a_status_of_the_end_of_time_stops_no_device(world):
    device = world.installed()
    state = device.store.read()
    assert state.floor is not None
    late = replace(state.floor, moment=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    device.store.commit(lambda now: replace(now, floor=late))  # as an older agent may have believed it
    world.clock.pass_time(seconds=5)
    assert refused_load(device).code == "status-stale"
    found = turn(device, world.channel, world.fleet)
    assert [refusal.code for refusal in found.refusals] == ["status-stale", "root-expired"]
    world.adopt_root(*world.trust.build_root(version=2, reset=1))
    world.republish()
    turn(device, world.channel, world.fleet)
    assert runs(device) == "1"


def test_what_a_check_raises_keeps_no_turn_from_refreshing(world, monkeypatch):
    device = world.installed()
    world.publish("2")
    monkeypatch.setattr("chopmark.apps.agent.loop.check", lambda *_: 1 // 0)
    found = turn(device, world.channel, world.fleet)
    assert [type(error) for error in found.errors] == [InternalError]
    assert runs(device) == "2"


def test_a_package_that_does_not_fit_keeps_no_revocation_away(world, monkeypatch):
    device = world.installed()
    running = device.store.read().slots[MODEL].release
    world.publish("2", files=package("2") | {"large.bin": b"x" * 100_000})
    free = device_install.RESERVE_BYTES + 99_000
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((1, 1, free, free, free, 1, 1, 1, 1, 1)))
    found = turn(device, world.channel, None)
    assert [(error.code, "free" in error.hint) for error in found.undecided] == [("no-space", True)]
    world.revoke(running)
    turn(device, world.channel, None)
    assert refused_load(device).code == "release-revoked"


def test_half_a_package_is_removed_where_the_disk_is_full(world):
    device = world.installed()
    world.publish("2", files=package("2") | {"large.bin": b"x" * 200_000})
    with no_file_larger_than(100_000):
        found = turn(device, world.channel, None)
    assert [error.code for error in found.undecided] == ["not-written"]
    assert not device.folder.incoming(MODEL).exists()
    assert runs(device) == "1"


def test_half_a_package_makes_room_for_a_revocation(world, monkeypatch):
    device = world.installed()
    incoming = device.folder.incoming(MODEL)
    incoming.mkdir()
    write = device_folder.write_file

    def full(path, data, **options):
        if incoming.exists():
            raise UndecidedError("full", code="not-written")
        write(path, data, **options)

    monkeypatch.setattr(device_folder, "write_file", full)
    world.revoke(device.store.read().slots[MODEL].release)
    refresh(device, world.channel)
    assert refused_load(device).code == "release-revoked"


def test_a_state_that_could_not_be_read_back_is_not_written(world, monkeypatch):
    device = world.installed()
    before = device.folder.state.read_bytes()
    monkeypatch.setattr(device_store, "MAX_STATE_BYTES", len(before) + 1000)
    monkeypatch.setattr("chopmark.device.wire.MAX_STATE_BYTES", len(before) + 1000)
    many = tuple(StatusEntry(kind="release", digest=Digest.of(bytes([n])), reason="x", since=NOW) for n in range(99))
    world.channel.issue(revoked=many)
    world.channel.publish(*world.assignments)
    with pytest.raises(UndecidedError) as undecided:
        refresh(device, world.channel)
    assert undecided.value.code == "not-readable"
    assert device.folder.state.read_bytes() == before
    assert runs(device) == "1"


def test_a_hold_wears_no_counter_out(world):
    device = world.installed()
    hold = StatusEntry(kind="release", digest=Digest.of(b"another"), reason="x", since=NOW)
    world.channel.issue(holds=(hold,))
    world.channel.publish(*world.assignments)
    world.refresh(device)
    gen = device.store.read().gen
    for _ in range(3):
        world.refresh(device)
    assert device.store.read().gen == gen


def test_a_device_three_hundred_roots_behind_catches_up(world):
    device = world.installed()
    for version in range(2, 302):
        if version == 301:
            world.trust.signers["operator"] = (kms.generate(Algorithm.ED25519),)
        world.adopt_root(*world.trust.build_root(version=version))
    world.channel.targets = world.trust.build_targets(version=2)
    world.republish()
    world.refresh(device)
    assert device.store.read().root.version == 301


def test_a_served_text_ends_in_no_log_and_no_report_as_it_is(world):
    device = world.installed()
    evil = "\x1b[2K\rdigits: unchanged\nreports delivered: 3\x07"
    root = json.loads(world.trust.first)
    root["signed"]["version"] = 2
    root["signed"]["x-chopmark"][evil] = evil
    world.channel.lies["metadata/2.root.json"] = json.dumps(root).encode()
    found = turn(device, world.channel, None)
    (refusal,) = found.refusals
    report = queued(device)[-1]
    for text in (refusal.message, report.message, *report.evidence.values()):
        assert text.isprintable()


class BadFleet(SimFleet):
    """A service whose challenges are no challenges."""

    bad = "c/ 1+=="

    def _report(self, data: bytes) -> bytes:
        signed = decode_signed_report(data)
        report = decode_report(signed.payload)
        answer = Answer(
            device=report.device,
            report=signed.digest,
            nonce=report.nonce,
            next_nonce="good",
            time=NOW,
            snapshot=0,
            tier=1,
            result=Result.ACCEPTED,
        )
        object.__setattr__(answer, "next_nonce", self.bad)  # an honest service cannot say it
        return encode_envelope(build_answer(answer, self.trust.keys("verifier")))


def test_a_challenge_that_is_none_silences_no_device(world):
    world.fleet = BadFleet(world.trust)
    device = world.installed()
    delivery = deliver(device, world.fleet)
    assert (delivery.sent, type(delivery.refused)) == (0, DecodeError)
    (device.folder.slot(MODEL, Slot.A) / "files" / "model.tiny").write_bytes(b"tampered")
    assert refused_load(device).code == "package-altered"
    assert [report.verdict for report in queued(device)] == ["verified", "package-altered"]
    with pytest.raises(DecodeError):
        Enrolled(device="phone-1", nonce=world.fleet.bad)


# What somebody in the folder can do


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["A", "B", "incoming", "old", "incoming/files"])
def test_whatever_lies_beside_a_slot_freezes_no_version(world, name, kind):
    device = world.installed("1")
    follows(world, device, "2")  # slot A is the inactive one
    if name != "B":  # an active slot is healed, and says so
        clutter(device.folder.slot(MODEL, Slot.A).parent / name, kind, world)
    else:
        clutter(device.folder.slot(MODEL, Slot.B), kind, world)
        turn(device, world.channel, world.fleet)
    for version in ("3", "4", "5"):
        follows(world, device, version)
    assert sorted(path.name for path in victim(world).rglob("*") if path.is_file()) == [
        ".0123456789abcdef.tmp",
        ".x.tmp",
        "letter.txt",
        "photo.jpg",
    ]


def test_a_link_in_a_download_deletes_nothing_and_writes_nothing_elsewhere(world):
    device = world.installed()
    shipment = world.channel.shipments[world.publish("2")]
    incoming = device.folder.incoming(MODEL)
    incoming.mkdir()
    (incoming / "manifest.json").write_bytes(shipment.manifest.encode())
    (incoming / "files").symlink_to(victim(world))
    before = sorted(victim(world).rglob("*"))
    world.refresh(device)
    assert sorted(victim(world).rglob("*")) == before
    assert runs(device) == "2"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "state.json",
        "trust",
        "trust/1.trust.json",
        "trust/1.root.json",
        "slots",
        f"slots/{MODEL}",
        "lock",
        "lock.next",
        "refresh.lock",
        "queue",
        "evidence",
        "answer.json",
        "delivered.json",
        "root.json",
    ],
)
def test_whatever_lies_in_the_place_of_a_file_or_folder_is_moved_away(world, name, kind):
    device = world.installed("1")
    turn(device, world.channel, world.fleet)
    clutter(device.folder.path / name, kind, world)
    turn(device, world.channel, world.fleet)
    follows(world, device, "2")
    assert len(list(victim(world).rglob("*"))) == 6


def test_evidence_that_is_a_file_and_junk_in_the_queue_end_no_agent(world):
    device = world.installed()
    device.folder.evidence.write_bytes(b"")
    (device.folder.queue / "0junk.json").write_bytes(b"{}")
    found = turn(device, world.channel, world.fleet)
    assert found.errors == ()
    assert [report.verdict for report in world.fleet.reports][:1] == ["verified"]
    device.folder.state.write_bytes(b"{}")
    turn(device, world.channel, world.fleet)
    assert runs(device) == "1"


def test_evidence_does_not_grow_without_end(world, monkeypatch):
    monkeypatch.setattr(device_folder, "MAX_KEPT", 3)
    device = world.installed()
    for number in range(6):
        device.folder.state.write_bytes(b"%d" % number)
        (device.folder.queue / f"{number}junk.json").write_bytes(b"{}")
        turn(device, world.channel, world.fleet)
    assert len(list(device.folder.evidence.iterdir())) == 3
    assert runs(device) == "1"


NOBODY = 65534


@pytest.fixture
def as_nobody(tmp_path, world):
    """Go on as a user who is not root: permissions mean nothing to root."""
    if os.geteuid() != 0:
        yield
        return
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o005 != 0o005 and path.is_relative_to("/tmp/pytest-of-root"):  # noqa: S108
            path.chmod(0o755)
    tmp_path.chmod(0o777)
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


@pytest.mark.parametrize(
    "name",
    [
        f"slots/{MODEL}/A",
        f"slots/{MODEL}/A/files",
        f"slots/{MODEL}/A/files/model.tiny",
        f"slots/{MODEL}/A/envelope.json",
        f"slots/{MODEL}",
        "slots",
        "trust",
        "trust/1.root.json",
        "queue",
        "evidence",
        "state.json",
        "lock",
        "root.json",
    ],
)
def test_files_and_folders_without_permissions_freeze_nothing(world, as_nobody, name):
    device = world.installed("1")
    device.folder.evidence.mkdir(exist_ok=True)
    (device.folder.path / name).chmod(0)
    with suppress(ChopmarkError):
        refused_or_loaded = open_model(device, MODEL)
        if not isinstance(refused_or_loaded, Refusal):
            refused_or_loaded.close()
    turn(device, world.channel, world.fleet)
    follows(world, device, "2")
    follows(world, device, "3")


def test_the_pinned_root_is_healed_before_it_is_needed(world):
    device = world.installed()
    device.folder.pinned.write_bytes(b"x")
    world.refresh(device)
    assert device.folder.pinned.read_bytes() == world.trust.first
    world.adopt_root(*world.trust.build_root(version=2))
    world.republish()
    device.folder.pinned.unlink()
    device.folder.state.unlink()
    turn(device, world.channel, world.fleet)
    assert device.folder.pinned.read_bytes() == world.trust.first
    assert runs(device) == "1"
    # A channel without it: what needs it is refused by name.
    device.folder.pinned.unlink()
    device.folder.state.unlink()
    world.channel.lies["metadata/1.root.json"] = b"another"
    assert world.refused(device).code == "root-untrusted"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('app = "0"', 'app = "99999"'),
        ("http://fleet.example", ""),
        ("http://channel.example", "http://evil.example"),
        ("poll_s = 300", "poll_s = 604800"),
        ('["digits"]', '["digits", "other"]'),
        ('name = "phone"', 'name = "Phone"'),
    ],
)
def test_a_changed_setting_is_refused_reported_and_costs_no_ratchet(world, old, new):
    device = world.installed("1")
    top = device.store.read().top
    config = device.folder.config
    text = config.read_text()
    config.write_text(text.replace(old, new))
    changed = world.open(device.folder.path)
    refusal = refused_load(changed)
    assert (refusal.code, "device.toml" in refusal.message) == ("state-corrupt", True)
    assert queued(changed)[-1].verdict == "state-corrupt"
    config.write_text(text)
    assert runs(world.open(device.folder.path)) == "1"
    config.write_text(text.replace(old, new))
    changed = world.open(device.folder.path)
    done = refresh(changed, world.channel)
    assert isinstance(done, Refreshed)
    assert done.healed is not None
    assert runs(changed) == "1"
    assert changed.store.read().top == top


def test_another_key_is_not_this_devices(world):
    device = world.installed()
    device.folder.key.unlink()
    kms.create(device.folder.key, Algorithm.ED25519)
    with pytest.raises(UsageError, match="not the key that was enrolled"):
        world.open(device.folder.path)


def test_a_key_file_with_a_flipped_bit_is_said(world):
    path, said = world.folder / "key.pem", 0
    for number in range(3):
        path.unlink(missing_ok=True)
        kms.create(path, Algorithm.ED25519)
        data = path.read_bytes()
        for at in range(number, len(data), 3):
            for bit in (1, 4, 16):
                path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
                try:
                    kms.load(path)
                except ChopmarkError:
                    said += 1
    assert said > 100  # of some two hundred: a bit of the seed itself makes another key, which enrolment tells


def test_a_disk_that_fails_while_it_is_read_is_said(tmp_path, monkeypatch):
    class Failing:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, _):
            raise OSError(5, "Input/output error")

    (tmp_path / "x").write_bytes(b"x")
    monkeypatch.setattr("chopmark.artifacts.files.os.fdopen", lambda descriptor, _: os.close(descriptor) or Failing())
    with pytest.raises(UsageError):
        read_file(tmp_path / "x", max_bytes=9)


def test_readers_without_a_gap_do_not_keep_the_agent_out(world):
    device = world.installed("1")
    world.publish("2")
    stop = threading.Event()

    def read(start: threading.Event) -> None:
        while not stop.is_set():
            with device.folder.locked(shared=True):
                start.set()
                stop.wait(0.05)

    started = [threading.Event() for _ in range(4)]
    threads = [threading.Thread(target=read, args=(event,)) for event in started]
    for thread, event in zip(threads, started, strict=True):
        thread.start()
        event.wait()
    try:
        with device.folder.locked(wait_s=5):
            pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_load_waits_shortly_to_report(world, monkeypatch):
    monkeypatch.setattr("chopmark.device.gate.REPORT_WAIT_S", 0.05)
    device = world.installed("1")
    world.republish()
    world.refresh(device)
    (device.folder.slot(MODEL, Slot.A) / "files" / "model.tiny").write_bytes(b"x")
    descriptor = os.open(device.folder.path / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert refused_load(device).code == "package-altered"
    os.close(descriptor)
    failure = device.journal.take_failure()
    assert failure is not None
    assert failure.code == "locked"


def test_a_report_that_cannot_be_made_is_said(world, monkeypatch):
    device = world.installed()
    (device.folder.slot(MODEL, Slot.A) / "files" / "model.tiny").write_bytes(b"x")

    def full(*_args):
        raise UndecidedError("full", code="not-written")

    monkeypatch.setattr(device.journal, "_write", full)
    found = turn(device, world.channel, None)
    assert "package-altered" in [refusal.code for refusal in found.refusals]
    assert [error.code for error in found.errors] == ["not-written"]


def test_what_killed_writes_leave_is_removed(world):
    device = world.installed()
    path = device.folder.path
    left = [
        path / ".0123.tmp",
        path / "queue" / ".4567.tmp",
        path / "trust" / ".89ab.tmp",
        path / "trust" / "0.root.json",
    ]
    for file in left:
        file.write_bytes(b"{")
    world.refresh(device)
    assert not [file for file in left if file.exists()]
    assert (path / "trust" / "1.root.json").exists()


# Packages


def test_a_package_of_many_files_and_long_names_is_loaded(world):
    files = {f"t{number:04}.txt": b"x" for number in range(300)}
    names = {"語" * 84: b"y", "a" * 255: b"z"}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    device = world.installed(world.release("1", files=package("1") | files | names))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
    try:
        opened = open_model(device, MODEL)
        assert not isinstance(opened, Refusal)
        with opened:
            assert opened.read("語" * 84) == b"y"
            assert opened.read("t0299.txt") == b"x"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_memory_that_is_lengthened_before_it_is_sealed_is_refused(world, monkeypatch):
    device = world.installed("1")
    seal = memfd._seal

    def lengthened(fd: int) -> None:
        os.pwrite(fd, b"evil", os.fstat(fd).st_size)  # through /proc, by another process of the same user
        seal(fd)

    monkeypatch.setattr(memfd, "_seal", lengthened)
    assert refused_load(device).code == "package-altered"


def test_a_damaged_spare_package_is_reported_and_removed(world):
    device = world.installed("1")
    follows(world, device, "2")
    spare = device.folder.slot(MODEL, Slot.A)
    (spare / "files" / "labels.json").write_bytes(b"[]")
    turn(device, world.channel, world.fleet)
    assert not spare.exists()
    assert [(report.verdict, report.slot) for report in world.fleet.reports][-2:] == [
        ("package-altered", "A"),
        ("verified", "B"),
    ]
    assert device.store.read().slots[MODEL].releases.keys() == {Slot.B}
    follows(world, device, "3")
