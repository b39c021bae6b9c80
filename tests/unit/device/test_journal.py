# SPDX-License-Identifier: Apache-2.0
"""Reports are chained, bounded, delivered in order, and an answer is believed with a signature only."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chopmark.artifacts import Digest
from chopmark.device import Slot, deliver, refresh
from chopmark.device import journal as journal_module
from chopmark.errors import UndecidedError
from chopmark.telemetry import Purpose, encode_report
from unit.device.kit import MODEL, World, queued, refused_load, runs


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_reports_are_a_chain(world):
    device = world.installed("1")
    world.publish("2")
    world.refresh(device)
    (device.folder.slot(MODEL, Slot.B) / "files" / "labels.json").unlink()
    refused_load(device)
    reports = queued(device)
    assert [report.seq for report in reports] == [1, 2, 3]
    assert [report.verdict for report in reports] == ["verified", "verified", "package-incomplete"]
    for before, after in pairwise(reports):
        assert after.prev == Digest.of(encode_report(before))
    state = device.store.read()
    assert (state.chain.seq, state.chain.head) == (3, Digest.of(encode_report(reports[-1])))
    assert reports[0].purpose is Purpose.REFRESH
    assert reports[0].log is not None
    assert reports[0].log.size == 1


def test_delivered_in_order_with_the_answers_challenge(world):
    device = world.installed("1")
    world.publish("2")
    world.refresh(device)
    done = deliver(device, world.fleet)
    assert (done.sent, done.refused, done.behind) == (2, None, False)
    assert [report.seq for report in world.fleet.reports] == [1, 2]
    assert queued(device) == []
    world.republish()
    world.refresh(device)
    deliver(device, world.fleet)
    assert [report.nonce for report in world.fleet.reports] == ["c0", "c0", "c2"]


def test_without_network_reports_wait(world):
    device = world.installed()
    world.fleet.cut = True
    with pytest.raises(UndecidedError):
        deliver(device, world.fleet)
    assert len(queued(device)) == 1
    world.fleet.cut = False
    assert deliver(device, world.fleet).sent == 1


def test_an_answer_without_the_verifiers_signature_is_no_answer(world):
    device = world.installed()
    world.fleet.forged = True
    done = deliver(device, world.fleet)
    assert (done.sent, done.answer) == (0, None)
    assert done.refused is not None
    assert len(queued(device)) == 1


def test_the_answer_tells_of_a_channel_that_is_kept_away(world):
    device = world.installed()
    world.fleet.snapshot = 9
    assert deliver(device, world.fleet).behind


def test_a_report_that_was_altered_in_the_queue_is_set_aside(world):
    device = world.installed()
    path = next(device.folder.queue.iterdir())
    path.write_bytes(path.read_bytes().replace(b'"sig":"', b'"sig":"A'))
    assert deliver(device, world.fleet).sent == 0
    assert queued(device) == []
    assert len(list(device.folder.evidence.iterdir())) == 1


def test_a_report_that_the_state_does_not_name_is_not_sent(world):
    device = world.installed()
    old = device.folder.state.read_bytes()
    (device.folder.slot(MODEL, Slot.A) / "files" / "labels.json").unlink()
    refused_load(device)
    device.folder.state.write_bytes(old)  # as after a crash between the report and the state
    assert deliver(device, world.fleet).sent == 1
    assert refused_load(device).code == "package-incomplete"
    assert deliver(device, world.fleet).sent == 1
    assert [report.seq for report in world.fleet.reports] == [1, 2]


def test_the_queue_is_bounded_and_keeps_room_for_refusals(world, monkeypatch):
    monkeypatch.setattr(journal_module, "MAX_QUEUED", 3)
    monkeypatch.setattr(journal_module, "MAX_QUEUED_GOOD", 2)
    device = world.installed()
    for _ in range(3):
        world.republish()
        world.refresh(device)
    assert [report.verdict for report in queued(device)] == ["verified"] * 2
    labels = device.folder.slot(MODEL, Slot.A) / "files" / "labels.json"
    labels.unlink()
    for _ in range(3):
        refused_load(device)
        world.clock.pass_time(days=8)
    assert [report.verdict for report in queued(device)] == ["verified", "verified", "package-incomplete"]


def test_a_channel_that_fails_is_reported_once_until_it_works_again(world):
    device = world.installed()
    good = world.channel.store.files["metadata/timestamp.json"]
    for content in (b"{}", b"{}", good, good, b"{}"):
        world.channel.store.files["metadata/timestamp.json"] = content
        refresh(device, world.channel)
    assert [(report.model, report.verdict) for report in queued(device)[1:]] == [
        ("", "channel-untrusted"),
        (MODEL, "verified"),
        ("", "channel-untrusted"),
    ]
    assert runs(device) == "1"


def test_a_lost_state_goes_on_with_its_chain(world):
    device = world.installed()
    deliver(device, world.fleet)
    device.folder.state.unlink()
    assert refused_load(device).code == "state-corrupt"
    assert refused_load(device).code == "state-corrupt"
    world.refresh(device)
    assert runs(device) == "1"
    deliver(device, world.fleet)
    reports = world.fleet.reports
    assert [report.seq for report in reports] == [1, 2, 3, 4]
    assert [report.verdict for report in reports] == ["verified", "state-corrupt", "verified", "verified"]
    assert [report.purpose for report in reports[1:]] == [Purpose.LOAD, Purpose.REFRESH, Purpose.LOAD]
    assert [report.nonce for report in reports] == ["c0", "c1", "c1", "c1"]
    for before, after in pairwise(reports):
        assert after.prev == Digest.of(encode_report(before))


def test_a_load_of_a_model_that_is_fine_is_reported_when_it_is_news(world):
    device = world.installed()
    for _ in range(3):
        assert runs(device) == "1"
        assert [report.purpose for report in queued(device)] == [Purpose.REFRESH, Purpose.LOAD]
    world.republish()
    world.refresh(device)
    assert runs(device) == "1"
    assert len(queued(device)) == 3


def test_healing_settles_what_was_refused_at_load(world):
    device = world.installed()
    (device.folder.slot(MODEL, Slot.A) / "files" / "labels.json").unlink()
    refused_load(device)
    world.refresh(device)
    said = [(report.purpose, report.verdict) for report in queued(device)]
    assert said[1:] == [(Purpose.LOAD, "package-incomplete"), (Purpose.LOAD, "verified")]


def test_a_device_without_assignment_says_that_it_follows(world):
    release = world.release("1")
    world.assign(release, model="other")
    device = world.enroll()
    world.refresh(device)
    world.refresh(device)
    assert [(report.model, report.verdict, report.release) for report in queued(device)] == [("", "verified", None)]
