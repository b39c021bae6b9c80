# SPDX-License-Identifier: Apache-2.0
"""The load gate: what is loaded is what was approved; what is refused is said once, and signed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chopmark.adapters.kms import file as kms
from chopmark.artifacts.ports import Runtime, Session
from chopmark.device import Refusal, Slot, Verified, check, open_device, open_model
from chopmark.errors import UndecidedError, UsageError, VerificationError
from chopmark.telemetry import Purpose
from unit.device.kit import MODEL, World, load, package, queued, refused_load, runs


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class SpyRuntime(Runtime):
    """Looks at what it is given; claims to be the tiny runtime."""

    def __init__(self) -> None:
        self.seen: list[bytes | int] = []
        self.content = b""
        self.name_, self.version_ = "tiny", "1.0.0"

    @property
    def name(self) -> str:
        return self.name_

    @property
    def version(self) -> str:
        return self.version_

    def _load(self, model: bytes | int) -> Session:
        self.seen.append(model)
        assert isinstance(model, int)
        self.content = Path(f"/proc/self/fd/{model}").read_bytes()
        with pytest.raises(PermissionError):
            os.pwrite(model, b"x", 0)
        raise VerificationError("only looking")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def spied(world: World, device) -> tuple[SpyRuntime, object]:
    spy = SpyRuntime()
    return spy, open_device(
        device.folder.path,
        load_signer=kms.load,
        clock=world.clock,
        memory=device.memory,
        counter=device.store.counter,
        runtimes=lambda _: spy,
    )


def test_the_parser_is_given_sealed_memory(world):
    device = world.installed()
    spy, watched = spied(world, device)
    opened = open_model(watched, MODEL)
    assert isinstance(opened, Refusal)
    assert (opened.code, opened.message) == ("self-test-failed", "only looking")
    assert spy.content == package("1")["model.tiny"]


def test_the_parser_never_sees_an_altered_model(world):
    device = world.installed()
    file = device.folder.slot(MODEL, Slot.A) / "files" / "labels.json"
    file.write_bytes(b"[]")
    spy, watched = spied(world, device)
    opened = open_model(watched, MODEL)
    assert isinstance(opened, Refusal)
    assert opened.code == "package-altered"
    assert spy.seen == []


def test_a_package_written_to_after_loading_changes_nothing(world):
    device = world.installed()
    with load(device) as model:
        folder = device.folder.slot(MODEL, Slot.A) / "files"
        (folder / "labels.json").write_bytes(b"[]")
        (folder / "model.tiny").unlink()
        assert b"zero" in model.read("labels.json")
        assert model.run([[2.0, 1.0]]) == [[2.0, 1.0]]


def test_closing_gives_the_memory_back(world):
    device = world.installed()
    before = descriptors()
    with load(device) as model:
        assert descriptors() > before
    assert descriptors() == before
    with pytest.raises(UndecidedError):
        model.run([[1.0, 1.0]])
    refused_load_leaves = descriptors()
    (device.folder.slot(MODEL, Slot.A) / "files" / "self-test.json").write_bytes(b"x")
    refused_load(device)
    assert descriptors() == refused_load_leaves


def test_nothing_installed_is_no_refusal(world):
    world.publish("1")
    device = world.enroll()
    for model in (MODEL, "other"):
        with pytest.raises(UndecidedError) as caught:
            open_model(device, model)
        assert caught.value.code == "not-installed"


def test_a_check_reads_every_byte(world):
    device = world.installed()
    verdict = check(device, MODEL)
    assert isinstance(verdict, Verified)
    assert verdict.release.version == "1"
    file = device.folder.slot(MODEL, Slot.A) / "files" / "self-test.json"
    file.write_bytes(file.read_bytes() + b" ")
    refusal = check(device, MODEL)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.step, refusal.evidence["file"]) == ("package-altered", 14, "self-test.json")


def test_a_refusal_is_reported_once_and_again_after_it_came_back(world):
    device = world.installed()
    said = len(queued(device))
    file = device.folder.slot(MODEL, Slot.A) / "files" / "labels.json"
    good = file.read_bytes()
    for content in (b"[]", b"[]", good, good, b"[]"):
        file.write_bytes(content)
        open_model(device, MODEL)
        check(device, MODEL)
    new = queued(device)[said:]
    assert [report.verdict for report in new] == ["package-altered", "verified", "package-altered"]
    assert {report.purpose for report in new} == {Purpose.LOAD}
    first = new[0]
    assert (first.model, first.slot, first.step, first.running) == (MODEL, "A", 14, None)
    assert first.evidence["file"] == "labels.json"
    assert first.evidence["wanted"] != first.evidence["got"]


def test_a_device_that_cannot_report_still_refuses_and_still_loads(world):
    device = world.installed()
    world.revoke(next(iter(world.channel.shipments)))
    device.folder.queue.chmod(0o500)
    if os.geteuid() == 0:  # root writes anyway: take the folder away
        device.folder.queue.rename(device.folder.queue.with_name("gone"))
        device.folder.queue.write_bytes(b"")
    assert runs(device) == "1"
    world.clock.pass_time(days=8)
    assert refused_load(device).code == "status-stale"


def test_the_check_class_decides_how_old_a_status_may_be(world):
    device = world.installed(world.release("1", check_class="critical"))
    world.clock.pass_time(days=1)
    assert runs(device) == "1"
    world.clock.pass_time(seconds=1)
    refusal = refused_load(device)
    assert (refusal.code, refusal.step, refusal.evidence["class"]) == ("status-stale", 17, "critical")


def test_an_unknown_check_class_has_the_strictest_limit(world):
    device = world.installed(world.release("1", check_class="own"))
    world.clock.pass_time(days=1, seconds=1)
    assert refused_load(device).code == "status-stale"


def test_there_is_one_model_in_a_package(world):
    files = package("1") | {"model.onnx": b"another"}
    device_release = world.release("1", files=files)
    world.publish(device_release)
    device = world.enroll()
    assert world.refused(device).code == "package-incomplete"


def test_a_file_that_is_not_there_is_not_read(world):
    with load(world.installed()) as model, pytest.raises(UsageError):
        model.read("../envelope.json")


def test_another_runtime_than_enrolled_loads_nothing(world):
    device = world.installed()
    spy, watched = spied(world, device)
    spy.version_ = "2.0"
    opened = open_model(watched, MODEL)
    assert isinstance(opened, Refusal)
    assert opened.code == "release-misdirected"
