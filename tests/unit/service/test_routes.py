# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json

import pytest
from litestar.testing import TestClient

from chopmark.adapters.kms import file as kms
from chopmark.apps.service.fleet_routes import fleet_routes
from chopmark.apps.service.web import application
from chopmark.artifacts import Digest
from chopmark.errors import InternalError, UndecidedError
from chopmark.keys import Algorithm
from chopmark.statements import decode_envelope
from chopmark.telemetry import decode_signed_report, verify_answer
from unit.fleet.kit import TOKEN, SimDevice, world


@pytest.fixture
def w(tmp_path):
    made = world(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def client(w):
    with TestClient(application(fleet_routes(w.fleet)), raise_server_exceptions=False) as made:
        yield made


def enrolment(**changes):
    public = base64.b64encode(kms.generate(Algorithm.ED25519).public.spki).decode()
    return {"token": TOKEN, "public": public, "name": "phone"} | changes


def test_a_device_from_enrolment_to_refusal(client, w):
    signer = kms.generate(Algorithm.ED25519)
    answer = client.post("/v1/devices", json=enrolment(public=base64.b64encode(signer.public.spki).decode()))
    assert answer.status_code == 201
    made = answer.json()
    phone = SimDevice(made["device"], made["nonce"], signer)
    assert client.get(f"/v1/challenges/{made['device']}").json() == made

    data = phone.report(verdict="package-altered", step=14, evidence={"file": "model.onnx"})
    answer = client.post("/v1/reports", content=data)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-type"] == "application/vnd.dsse.envelope.v1+json"
    verified = verify_answer(
        decode_envelope(answer.content), w.trust, decode_signed_report(data).digest, nonce=made["nonce"]
    )
    assert verified.result == "accepted"

    (device,) = client.get("/v1/devices").json()["devices"]
    assert (device["condition"], device["refusals"]) == ("held", ["R1"])
    assert device["running"] == {"digits": str(Digest.of(b"release"))}
    (refusal,) = client.get("/v1/refusals").json()["refusals"]
    assert (refusal["id"], refusal["code"], refusal["facts"]) == ("R1", "package-altered", {"file": "model.onnx"})
    status = client.get("/v1/status").json()
    assert (status["devices"], status["conditions"]["held"], status["newest"]) == (1, 1, "R1")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"token": "wrong"}, 403, "token-refused"),
        ({"token": ""}, 403, "token-refused"),
        ({"public": "AAAA"}, 400, "undecodable"),
        ({"public": "not base64"}, 400, "undecodable"),
        ({"name": "../../etc"}, 400, "usage"),
        ({"extra": 1}, 400, "undecodable"),
        ({"name": 7}, 400, "undecodable"),
    ],
)
def test_enrolments_that_fail(client, changes, status, code):
    answer = client.post("/v1/devices", json=enrolment(**changes))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"code", "message", "hint"}
    assert TOKEN not in answer.text


def test_what_is_not_there(client):
    assert client.get("/v1/challenges/nobody").json()["code"] == "device-unknown"
    assert client.get("/").status_code == 404
    assert client.get("/schema").status_code == 404
    assert client.get("/v1/reports").status_code == 405
    assert client.post("/v1/reports", content=b"").json()["code"] == "undecodable"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UndecidedError("/secret/place/fleet.db: disk full", code="store-busy"), 503, "undecided"),
        (InternalError("a secret"), 500, "internal"),
        (RuntimeError("a secret"), 500, "internal"),
    ],
)
def test_what_is_inside_stays_inside(client, w, monkeypatch, capsys, *, error, status, code):
    def fail(_):
        raise error

    monkeypatch.setattr(w.store, "device_by_key", fail)
    answer = client.post("/v1/devices", content=json.dumps(enrolment()))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "secret" not in answer.text
    said = capsys.readouterr().err
    assert said.startswith("POST /v1/devices: ")
    assert TOKEN not in said
