# SPDX-License-Identifier: Apache-2.0
"""Attacks on what devices tell the fleet, over HTTP as an attacker would: nothing is believed, somebody is told."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from litestar.testing import TestClient

from chopmark.adapters.kms import file as kms
from chopmark.apps.service.fleet_routes import fleet_routes
from chopmark.apps.service.web import application
from chopmark.fleet import Condition
from chopmark.fleet.desk import release_device
from chopmark.keys import Algorithm
from chopmark.ledger.files import LedgerFiles
from chopmark.statements import decode_envelope
from chopmark.telemetry import (
    EnrolmentRequest,
    SeenLog,
    decode_signed_report,
    encode_report,
    encode_signed_report,
    sign_report,
    verify_answer,
)
from simulators import NOW
from unit.fleet.kit import ORIGIN, SimDevice, SimLedger, a_report, world
from unit.ledger.kit import close, make_ledger

BAD = {"verdict": "package-altered", "step": 14}


@pytest.fixture
def w(tmp_path):
    made = world(tmp_path, ledger=SimLedger({31: b"a" * 32}))
    yield made
    made.store.close()


@pytest.fixture
def client(w):
    with TestClient(application(fleet_routes(w.fleet))) as made:
        yield made


def refused(client, data):
    answer = client.post("/v1/reports", content=data)
    assert answer.status_code >= 400
    return answer.status_code, answer.json()["code"]


def nothing_happened(w, device):
    return w.device(device).seq == 0 and w.store.count_refusals() == 0 and not w.sink.findings


def test_a_report_signed_by_another_key(client, w):
    phone = w.enroll()
    thief = kms.generate(Algorithm.ED25519)
    forged = sign_report(a_report(device=phone.device, nonce=phone.nonce), thief)
    assert refused(client, forged) == (404, "device-unknown")
    named = replace(decode_signed_report(forged), keyid=phone.signer.public.keyid)
    assert refused(client, encode_signed_report(named)) == (403, "report-forged")
    assert nothing_happened(w, phone)


def test_a_report_changed_on_the_way(client, w):
    phone = w.enroll()
    honest = decode_signed_report(sign_report(a_report(device=phone.device, nonce=phone.nonce, **BAD), phone.signer))
    rosy = encode_report(a_report(device=phone.device, nonce=phone.nonce))
    assert refused(client, encode_signed_report(replace(honest, payload=rosy))) == (403, "report-forged")
    assert nothing_happened(w, phone)


def test_a_report_under_another_devices_name(client, w):
    rogue, victim = w.enroll("rogue"), w.enroll("victim")
    lie = sign_report(a_report(device=victim.device, nonce=victim.nonce, **BAD), rogue.signer)
    assert refused(client, lie) == (403, "report-misdirected")
    assert nothing_happened(w, victim)
    assert nothing_happened(w, rogue)


def test_an_old_rosy_report_sent_again_hides_nothing(client, w):
    phone = w.enroll()
    rosy = phone.report()
    first = client.post("/v1/reports", content=rosy)
    w.deliver(phone, rosy)
    w.say(phone, **BAD)
    again = client.post("/v1/reports", content=rosy)
    assert again.content == first.content, "the answer of then, and nothing else"
    assert w.device(phone).condition is Condition.HELD
    assert w.device(phone).seq == 2


def test_a_report_kept_back_and_sent_after_newer_challenges(client, w):
    phone = w.enroll()
    w.say(phone)
    old_nonce = phone.nonce
    w.say(phone)
    w.say(phone)
    assert refused(client, phone.report(nonce=old_nonce)) == (409, "report-stale")
    assert w.device(phone).seq == 3


def test_an_answer_is_no_answer_to_another_report(client, w):
    phone = w.enroll()
    first, second = phone.report(), phone.report(**BAD)
    answers = [client.post("/v1/reports", content=data).content for data in (first, second)]
    with pytest.raises(Exception, match="another report"):
        verify_answer(decode_envelope(answers[0]), w.trust, decode_signed_report(second).digest, nonce=a_report().nonce)


def test_a_cloned_device_is_held_with_its_twin(client, w):
    phone = w.enroll()
    w.say(phone)
    twin = SimDevice(phone.device, phone.nonce, phone.signer)
    twin.seq, twin.head = phone.seq, phone.head
    w.say(phone)
    answer = w.say(twin, verdict="package-altered", step=14)
    assert (answer.result, answer.reason[:13]) == ("held", "device-cloned")
    assert w.device(phone).condition is Condition.HELD
    assert w.say(phone).result == "held", "both are: nobody can tell them apart"
    (refusal,) = w.store.refusals()
    assert (refusal.code, refusal.id) == ("device-cloned", "R1")
    assert (w.sink.findings[0]["status_code"], w.sink.findings[0]["severity_id"]) == ("device-cloned", 5)
    assert w.store.report(decode_signed_report(phone.report()).digest) is None
    assert len(w.store.successors(phone.device, twin_of(w, refusal))) == 2, "both reports are kept as evidence"


def twin_of(w, refusal):
    report = w.store.report(refusal.report)
    assert report is not None
    return report.prev


def test_a_state_folder_put_back_is_a_clone(client, w):
    phone = w.enroll()
    w.say(phone)
    w.say(phone)
    phone.seq, phone.head = 0, None
    assert w.say(phone).result == "held"


def test_a_forked_ledger_shown_to_one_device(client, w):
    one, two = w.enroll("one"), w.enroll("two")
    w.say(one, log=SeenLog(origin=ORIGIN, size=31, root=b"a" * 32))
    answer = w.say(two, log=SeenLog(origin=ORIGIN, size=31, root=b"b" * 32))
    assert answer.reason == "log-fork"
    (refusal,) = w.store.refusals()
    assert refusal.facts == {
        "origin": ORIGIN,
        "size": "31",
        "reported": (b"b" * 32).hex(),
        "ledger": (b"a" * 32).hex(),
    }


def test_a_fork_raises_an_alert_with_both_roots(client, w):
    phone = w.enroll()
    w.say(phone, log=SeenLog(origin=ORIGIN, size=31, root=b"b" * 32))
    (finding,) = w.sink.findings
    assert (finding["status_code"], finding["severity_id"]) == ("log-fork", 5)
    facts = finding["evidences"][0]["data"]["facts"]
    assert (facts["reported"], facts["ledger"], facts["size"]) == ((b"b" * 32).hex(), (b"a" * 32).hex(), "31")


def test_a_history_that_is_ahead_of_the_ledger_is_compared_when_the_ledger_is_that_far(client, w):
    one, honest = w.enroll("one"), w.enroll("honest")
    assert w.say(one, log=SeenLog(origin=ORIGIN, size=33, root=b"b" * 32)).reason == ""
    w.say(honest, log=SeenLog(origin=ORIGIN, size=32, root=b"c" * 32))
    w.fleet._ledger.roots |= {32: b"c" * 32, 33: b"d" * 32}
    assert w.say(honest, log=SeenLog(origin=ORIGIN, size=33, root=b"d" * 32)).reason == ""
    assert w.say(one).reason == "log-fork"
    (finding,) = w.sink.findings
    facts = finding["evidences"][0]["data"]["facts"]
    assert (facts["reported"], facts["ledger"]) == ((b"b" * 32).hex(), (b"d" * 32).hex())
    release_device(w.store, one.device, by="alice", now=NOW)
    assert w.say(one).reason == "", "what a person has settled is not found again"


def test_a_real_ledger_is_compared_with_what_a_device_saw_of_its_fork(tmp_path):
    made, fork = (make_ledger(folder(tmp_path / name)) for name in ("log", "fork"))
    made.append([b"%d" % n for n in range(300)])
    fork.append([b"%d" % n for n in range(299)] + [b"another"])
    view = LedgerFiles(store=made._store, heads=made._heads)
    w = world(folder(tmp_path / "fleet"), ledger=view)
    good, bad = w.enroll("good"), w.enroll("bad")
    point, forged = made.checkpoint, fork.checkpoint
    assert w.say(good, log=SeenLog(origin=ORIGIN, size=point.size, root=point.root)).reason == ""
    assert w.say(bad, log=SeenLog(origin=ORIGIN, size=forged.size, root=forged.root)).reason == "log-fork"
    (finding,) = w.sink.findings
    facts = finding["evidences"][0]["data"]["facts"]
    assert (facts["reported"], facts["ledger"]) == (forged.root.hex(), point.root.hex())
    close(made)
    close(fork)
    w.store.close()


def folder(path):
    path.mkdir()
    return path


def test_a_rogue_device_cannot_put_honest_ones_in_the_wrong(client, w):
    rogue, honest = w.enroll("rogue"), w.enroll("honest")
    w.say(rogue, log=SeenLog(origin=ORIGIN, size=31, root=b"z" * 32))
    w.say(honest, log=SeenLog(origin=ORIGIN, size=31, root=b"a" * 32))
    assert w.device(honest).condition is Condition.VERIFIED


def test_a_clock_set_back_to_keep_an_old_status_fresh(client, w):
    phone = w.enroll()
    assert w.say(phone, time=NOW.replace(year=1970)).reason == "clock-off"
    assert w.device(phone).condition is Condition.REFUSED


@pytest.mark.parametrize("where", ["/v1/reports", "/v1/devices"])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversized_body(client, where, chunked):
    body = b"x" * (16 * 1024 + 1)
    answer = client.post(where, content=iter([body]) if chunked else body)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 9000, b'{"v":1}', b"\xff" * 100, b'{"v":1e400}', b"null"])
def test_bytes_that_are_no_report(client, data):
    assert refused(client, data) == (400, "undecodable")


def test_a_guessed_token_enrols_nobody(client, w):
    public = base64.b64encode(kms.generate(Algorithm.ED25519).public.spki).decode()
    for token in ("", "an-enrolment-token-of-some-lengt", "an-enrolment-token-of-some-length "):
        body = json.dumps({"token": token, "public": public, "name": "phone"})
        answer = client.post("/v1/devices", content=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "token-refused"), token
    assert w.store.devices() == []


def test_an_empty_token_file_lets_nobody_in(tmp_path):
    made = world(tmp_path)
    made.fleet._token = lambda: b""
    with pytest.raises(Exception, match="token"):
        made.fleet.enroll(EnrolmentRequest(token="", spki=kms.generate(Algorithm.ED25519).public.spki, name="phone"))
    made.store.close()


def test_a_device_cannot_choose_its_place_in_a_rollout(client, w):
    signer = kms.generate(Algorithm.ED25519)
    ids = {
        w.fleet.enroll(
            EnrolmentRequest(token="an-enrolment-token-of-some-length", spki=signer.public.spki, name=n)
        ).device
        for n in "abc"
    }
    assert len(ids) == 1, "one key has one id, whatever it asks for"
