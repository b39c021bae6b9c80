# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql import fleet as sql_fleet
from chopmark.artifacts import Digest
from chopmark.errors import UsageError, VerificationError
from chopmark.fleet import Condition, release_device, summarise
from chopmark.keys import Algorithm
from chopmark.telemetry import EnrolmentRequest, Purpose, Result, SeenLog
from simulators import NOW
from unit.fleet.kit import ORIGIN, TOKEN, BrokenSink, SimLedger, world

BAD = {"verdict": "package-altered", "step": 14, "message": "model.onnx differs", "evidence": {"file": "model.onnx"}}


@pytest.fixture
def w(tmp_path):
    made = world(tmp_path)
    yield made
    made.store.close()


def test_an_enrolled_device_reports_and_is_verified(w):
    phone = w.enroll()
    assert w.device(phone).condition is Condition.ENROLLED
    answer = w.say(phone)
    assert (answer.result, answer.snapshot, answer.tier, answer.reason) == (Result.ACCEPTED, 7, 1, "")
    assert w.device(phone).condition is Condition.VERIFIED
    assert dict(w.device(phone).running) == {"digits": Digest.of(b"release")}


def test_the_same_key_is_enrolled_once(w):
    signer = kms.generate(Algorithm.ED25519)
    first, again = (
        w.fleet.enroll(EnrolmentRequest(token=TOKEN, spki=signer.public.spki, name="phone")) for _ in range(2)
    )
    assert first == again
    assert first.device.startswith("phone-")
    assert len(w.store.devices()) == 1


@pytest.mark.parametrize("name", ["../x", "", "x" * 41, "Phone", "x-phone"])
def test_a_device_name_is_a_name(w, name):
    with pytest.raises(UsageError):
        w.fleet.enroll(EnrolmentRequest(token=TOKEN, spki=kms.generate(Algorithm.ED25519).public.spki, name=name))


def test_a_refusal_is_numbered_explained_and_told_once(w):
    phone = w.enroll()
    w.say(phone, **BAD)
    w.say(phone, **BAD)
    assert w.device(phone).condition is Condition.HELD
    (refusal,) = w.store.refusals()
    assert (refusal.id, refusal.code, refusal.step, refusal.count) == ("R1", "package-altered", 14, 2)
    assert refusal.facts == {"file": "model.onnx"}
    assert refusal.hint == "undo the change, or let it refresh"
    assert len(w.sink.findings) == 1
    assert w.store.unalerted() == []


def test_a_verified_report_about_the_same_model_ends_a_refusal_and_the_next_one_is_new(w):
    phone = w.enroll()
    w.say(phone, **BAD)
    w.say(phone, model="other")
    assert w.device(phone).condition is Condition.HELD
    w.say(phone)
    assert w.device(phone).condition is Condition.VERIFIED
    w.say(phone, **BAD)
    assert [r.id for r in w.store.refusals()] == ["R2", "R1"]


def test_a_refresh_that_goes_through_ends_one_that_failed_before_any_model(w):
    phone = w.enroll()
    w.say(phone, purpose=Purpose.REFRESH, model="", slot="", verdict="channel-expired", step=5)
    assert w.device(phone).condition is Condition.REFUSED
    w.say(phone, purpose=Purpose.REFRESH)
    assert w.device(phone).condition is Condition.VERIFIED


def test_reports_made_offline_share_a_challenge(w):
    phone = w.enroll()
    queue = [phone.report(), phone.report(**BAD), phone.report()]
    for data in queue:
        w.deliver(phone, data)
    assert w.device(phone).seq == 3
    w.say(phone)


def test_a_queue_that_was_cut_off_half_way_goes_on(w):
    phone = w.enroll()
    first, second = phone.report(), phone.report()
    w.deliver(phone, first)
    third = phone.report()  # with the challenge of the first answer, made before the second was sent
    for data in (second, third):
        w.deliver(phone, data)
    assert w.device(phone).seq == 3
    w.say(phone)


def test_an_answer_that_was_lost_comes_again(w):
    phone = w.enroll()
    data = phone.report()
    assert w.fleet.report(data) == w.fleet.report(data)
    assert w.device(phone).seq == 1


def test_a_queue_is_sent_in_order(w):
    phone = w.enroll()
    first, second = phone.report(), phone.report()
    with pytest.raises(VerificationError) as caught:
        w.fleet.report(second)
    assert caught.value.code == "report-out-of-order"
    w.deliver(phone, first)
    w.deliver(phone, second)


def test_a_clock_that_is_off_is_found_and_settled(w):
    phone = w.enroll()
    w.clock.forward(hours=1)
    assert w.say(phone, time=NOW.replace(year=2100)).reason == "clock-off"
    assert w.device(phone).condition is Condition.REFUSED
    w.say(phone)
    assert w.device(phone).condition is Condition.VERIFIED
    assert w.say(phone, time=NOW.replace(year=1999)).reason == "clock-off"


def test_a_device_that_was_offline_is_not_early(w):
    phone = w.enroll()
    w.clock.forward(days=30)
    assert w.say(phone, time=NOW).reason == ""


def test_a_held_device_rejoins_when_a_person_releases_it(w):
    phone = w.enroll()
    w.say(phone)
    phone.seq, phone.head = 0, None
    assert w.say(phone).result is Result.HELD
    assert w.device(phone).condition is Condition.HELD
    assert w.say(phone).result is Result.HELD
    with pytest.raises(UsageError):
        release_device(w.fleet.store, phone.device, by="", now=NOW)
    release_device(w.fleet.store, phone.device, by="owner-a", now=NOW)
    assert w.say(phone).result is Result.ACCEPTED
    assert w.device(phone).condition is Condition.VERIFIED
    with pytest.raises(UsageError):
        release_device(w.fleet.store, "nobody", by="owner-a", now=NOW)


def test_nobody_releases_a_device_that_waits_for_nobody(w):
    phone = w.enroll()
    w.say(phone)
    with pytest.raises(UsageError) as caught:
        release_device(w.fleet.store, phone.device, by="owner-a", now=NOW)
    assert caught.value.code == "not-held"
    assert w.device(phone).released == "", "the file tells of nothing that did not happen"


def seen(size: int, root: bytes) -> SeenLog:
    return SeenLog(origin=ORIGIN, size=size, root=root)


def test_two_devices_that_saw_two_ledgers_are_a_fork(w):
    one, two = w.enroll("one"), w.enroll("two")
    assert w.say(one, log=seen(31, b"a" * 32)).reason == ""
    assert w.say(two, log=seen(31, b"b" * 32)).reason == "log-fork"
    (refusal,) = w.store.refusals()
    assert refusal.code == "log-fork"
    assert refusal.facts[one.device] == (b"a" * 32).hex()
    assert w.sink.findings[0]["severity_id"] == 5
    w.say(two)
    assert w.device(two).condition is Condition.REFUSED, "a fork is settled by a person"


def test_the_organisations_ledger_decides_who_lies(tmp_path):
    w = world(tmp_path, ledger=SimLedger({31: b"a" * 32}))
    liar, honest = w.enroll("liar"), w.enroll("honest")
    assert w.say(liar, log=seen(31, b"b" * 32)).reason == "log-fork"
    assert w.say(honest, log=seen(31, b"a" * 32)).reason == ""
    w.store.close()


def test_a_ledger_that_was_rewritten_contradicts_what_devices_saw(tmp_path):
    ledger = SimLedger({31: b"a" * 32})
    w = world(tmp_path, ledger=ledger)
    before, after = w.enroll("before"), w.enroll("after")
    w.say(before, log=seen(31, b"a" * 32))
    ledger.roots[31] = b"b" * 32
    assert w.say(after, log=seen(31, b"b" * 32)).reason == "log-fork"
    w.store.close()


def test_an_alert_that_cannot_be_delivered_is_kept(tmp_path):
    w = world(tmp_path, sink=BrokenSink())
    phone = w.enroll()
    assert w.say(phone, **BAD).result is Result.ACCEPTED
    assert summarise(w.store).undelivered == 1
    w.store.close()


def test_the_summary_and_the_store_survive_a_restart(tmp_path):
    w = world(tmp_path)
    one, two = w.enroll("one"), w.enroll("two")
    w.enroll("three")
    w.say(one)
    w.say(two, **BAD)
    devices, refusals = w.store.devices(), w.store.refusals()
    w.store.close()
    store = sql_fleet.load(tmp_path / "fleet.db")
    assert (store.devices(), store.refusals()) == (devices, refusals)
    summary = summarise(store)
    assert summary.devices == 3
    assert {c: n for c, n in summary.conditions.items() if n} == {
        Condition.ENROLLED: 1,
        Condition.VERIFIED: 1,
        Condition.HELD: 1,
    }
    assert summary.running == {"digits": {Digest.of(b"release"): 2}}
    assert (summary.refusals, summary.newest.id) == (1, "R1")
    store.close()


def test_a_report_that_fails_half_way_leaves_nothing(w, monkeypatch):
    phone = w.enroll()

    def full(_):
        raise UsageError("disk full")

    monkeypatch.setattr(w.store, "add_report", full)
    with pytest.raises(UsageError):
        w.fleet.report(phone.report(**BAD))
    assert w.store.count_refusals() == 0
    assert w.device(phone).seq == 0
