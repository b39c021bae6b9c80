# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from py_ocsf_models.events.findings.detection_finding import DetectionFinding

from chopmark.adapters.alerts.file import FileSink
from chopmark.artifacts import Digest
from chopmark.errors import FAILURES, UndecidedError
from chopmark.fleet import FLEET_FAILURES, Refusal, detection_finding
from simulators import NOW
from unit.fleet.kit import BrokenSink


def a_refusal(code: str, *, model: str = "digits") -> Refusal:
    return Refusal(
        number=1,
        device="phone-00000000",
        topic=f"load/{model}",
        code=code,
        step=14,
        model=model,
        slot="A" if model else "",
        release=Digest.of(b"r") if model else None,
        running=None,
        message="model.onnx differs",
        facts={"file": "model.onnx"},
        hint="undo the change",
        report=Digest.of(b"report"),
        first=NOW,
        last=NOW,
    )


def a_finding(code: str = "package-altered", *, model: str = "digits") -> dict[str, object]:
    return detection_finding(a_refusal(code, model=model), device_name="phone", workspace="acme", version="0.1.0")


@pytest.mark.parametrize("model", ["digits", ""])
@pytest.mark.parametrize("code", [*FAILURES, *FLEET_FAILURES, "of-a-newer-device"])
def test_every_refusal_is_a_valid_ocsf_detection_finding(code, model):
    finding = a_finding(code, model=model)
    event = DetectionFinding.model_validate(finding, strict=False)
    # Everything we say is an attribute of the schema, with the value that we gave: nothing was ignored or converted.
    assert json.loads(event.model_dump_json(exclude_none=True)) == finding | {
        "evidences": [{**finding["evidences"][0], "verdict_id": 0}]
    }


def test_the_numbers_of_the_class():
    finding = a_finding()
    assert {k: finding[k] for k in ("activity_id", "category_uid", "class_uid", "type_uid", "status_id")} == {
        "activity_id": 1,
        "category_uid": 2,
        "class_uid": 2004,
        "type_uid": 200401,
        "status_id": 1,
    }
    assert finding["time"] == int(NOW.timestamp() * 1000)
    assert finding["finding_info"]["uid"] == "acme/R1"


def test_the_severity_says_who_must_get_up():
    assert [a_finding(code)["severity_id"] for code in ("log-fork", "package-altered", "status-stale")] == [5, 4, 3]


def test_the_file_holds_the_newest_alert_whole(tmp_path):
    path = tmp_path / "alert.ocsf.json"
    sink = FileSink(path)
    for code in ("package-altered", "log-fork"):
        sink.send(a_finding(code))
    assert json.loads(path.read_bytes()) == a_finding("log-fork")
    assert [p.name for p in tmp_path.iterdir()] == ["alert.ocsf.json"]


def test_a_sink_that_fails_says_so_in_our_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UndecidedError):
        FileSink(tmp_path / "file" / "alert.json").send(a_finding())
    with pytest.raises(UndecidedError) as caught:
        BrokenSink().send(a_finding())
    assert caught.value.code == "alert-undelivered"
