# SPDX-License-Identifier: Apache-2.0
"""The agent's turn and loop, and what an application imports."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import chopmark
from chopmark.apps.agent import main as agent
from chopmark.apps.agent.loop import Turn, loop, turn
from chopmark.apps.cli import main as cli
from chopmark.clock import SystemClock
from chopmark.device import Refusal, Slot, next_delay
from chopmark.errors import Refused, Retry, UndecidedError, VerificationError
from chopmark.telemetry import decode_enrolment, encode_enrolled
from unit.device.kit import CHANNEL, MODEL, World, runs


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_turn_installs_and_delivers(world):
    world.publish("1")
    device = world.enroll()
    found = turn(device, world.channel, world.fleet)
    assert (found.checks, found.refusals, found.undecided, found.retry) == ({}, (), (), None)
    assert found.delivery is not None
    assert found.delivery.sent == 1
    assert [report.verdict for report in world.fleet.reports] == ["verified"]


def test_tampering_is_delivered_before_the_channel_is_asked_and_then_healed(world):
    device = world.installed()
    turn(device, world.channel, world.fleet)
    (device.folder.slot(MODEL, Slot.A) / "files" / "labels.json").write_bytes(b"[]")
    world.channel.down = True
    found = turn(device, world.channel, world.fleet)
    assert [refusal.code for refusal in found.refusals] == ["package-altered"]
    assert (world.fleet.reports[-1].verdict, found.retry) == ("package-altered", Retry.WAIT)
    world.channel.down = False
    turn(device, world.channel, world.fleet)
    assert world.fleet.reports[-1].verdict == "verified"
    assert runs(device) == "1"


@pytest.mark.parametrize("newer", [False, True], ids=["healed", "replaced"])
def test_one_tampering_is_one_incident(world, newer):
    device = world.installed()
    turn(device, world.channel, world.fleet)
    (device.folder.slot(MODEL, Slot.A) / "files" / "labels.json").write_bytes(b"[]")
    if newer:
        world.publish("2")
    codes = [[r.code for r in turn(device, world.channel, world.fleet).refusals] for _ in range(3)]
    assert codes == [["package-altered"], [], []]
    refused = [r for r in world.fleet.reports if r.verdict != "verified"]
    assert {(r.verdict, r.slot, r.release) for r in refused} == {("package-altered", "A", refused[0].release)}
    assert [r.verdict for r in world.fleet.reports[world.fleet.reports.index(refused[-1]) + 1 :]].count("verified") >= 1
    assert not device.folder.slot(MODEL, Slot.A).exists()
    assert runs(device) == ("2" if newer else "1")


def test_damage_in_the_slot_that_is_not_used_is_said(world):
    device = world.installed()
    world.publish("2")
    turn(device, world.channel, world.fleet)
    (device.folder.slot(MODEL, Slot.A) / "files" / "labels.json").write_bytes(b"[]")
    found = turn(device, world.channel, world.fleet)
    assert [(r.code, r.slot) for r in found.refusals] == [("package-altered", "A")]
    assert turn(device, world.channel, world.fleet).refusals == ()


def test_a_service_that_is_away_stops_nothing(world):
    world.publish("1")
    device = world.enroll()
    world.fleet.cut = True
    found = turn(device, world.channel, world.fleet)
    assert [error.code for error in found.undecided] == ["unreachable"]
    assert runs(device) == "1"
    assert turn(device, world.channel, None).retry is None


def test_a_refused_channel_is_a_refusal_of_the_turn(world):
    device = world.installed()
    world.channel.store.files["metadata/timestamp.json"] = b"{}"
    found = turn(device, world.channel, world.fleet)
    assert isinstance(found.refreshed, Refusal)
    assert ([refusal.code for refusal in found.refusals], found.retry) == (["channel-untrusted"], Retry.STALL)


def test_the_loop_backs_off_and_stops(world):
    device = world.installed()
    world.channel.down = True
    delays: list[float] = []
    turns: list[Turn] = []

    def wait(seconds: float) -> bool:
        delays.append(seconds)
        world.channel.down = len(delays) < 3
        return len(delays) == 5

    loop(device, world.channel, world.fleet, wait=wait, jitter=lambda: 0.5, tell=turns.append)
    assert delays == [5, 10, 20, 300, 300]
    assert len(turns) == 5


def test_delays_are_bounded_and_jittered():
    assert next_delay(300, retry=None, failures=0, jitter=0) == pytest.approx(240)
    assert next_delay(300, retry=Retry.STALL, failures=9, jitter=0.999) < 360
    assert next_delay(300, retry=Retry.RETRY, failures=1, jitter=0.5) == pytest.approx(1)
    assert next_delay(300, retry=Retry.WAIT, failures=10**6, jitter=0.5) == pytest.approx(300)
    assert next_delay(2, retry=Retry.WAIT, failures=1, jitter=0.5) == pytest.approx(2)


@pytest.fixture
def server(world: World) -> Iterator[str]:
    """Serve the world's channel and fleet over HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = world.channel.store.get(self.path.removeprefix("/channel/"))
            self.answer(404 if data is None else 200, data or b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/reports":
                self.answer(200, world.fleet.report(body))
            elif b'"token":"good"' in body:
                self.answer(201, encode_enrolled(world.fleet.enroll(decode_enrolment(body))))
            else:
                self.answer(403, b'{"code":"token-refused","message":"no","hint":"ask"}')

        def answer(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def command(*argv: object) -> int:
    return cli.run(["device", *map(str, argv)])


def test_the_commands_over_http(world, server, tmp_path, capsys):
    world.channel.now = world.clock.moment = SystemClock().now()
    world.channel.issue()
    world.publish("1")
    folder = tmp_path / "device"
    wish = {"name": "phone", "channel_url": f"{server}/channel", "pin": str(world.trust.pin), "models": [MODEL]}
    wish |= {"channel": CHANNEL, "fleet_url": server, "runtime": "tiny"}
    with pytest.raises(VerificationError, match="no") as refused:
        agent.enroll(folder, **wish, token="bad")
    assert (refused.value.code, refused.value.hint) == ("token-refused", "ask")
    agent.enroll(folder, **wish, token="good")
    assert command("load", folder, MODEL) == 3
    assert command("run", folder, "--once") == 0
    assert "digits: installed: version 1 in slot A" in capsys.readouterr().err
    assert command("verify", folder) == 0
    assert "digits v1 in slot A: verified" in capsys.readouterr().out
    assert command("load", folder, MODEL) == 0
    assert "digits v1 loaded from sealed memory" in capsys.readouterr().out
    assert [report.verdict for report in world.fleet.reports] == ["verified"]

    with chopmark.load(MODEL, device=folder) as model:
        assert model.run([[2.0, 1.0]]) == [[2.0, 1.0]]
    (tmp_path / "device" / "slots" / MODEL / "A" / "files" / "model.tiny").write_bytes(b"{}")
    with pytest.raises(Refused) as caught:
        chopmark.load(MODEL, device=folder)
    assert (caught.value.code, caught.value.step) == ("package-altered", 14)
    assert command("verify", folder, "--json") == 1
    (verdict,) = json.loads(capsys.readouterr().out)["models"]
    assert (verdict["verdict"], verdict["step"]) == ("package-altered", 14)
    assert command("load", folder, MODEL) == 1
    assert "error package-altered: " in capsys.readouterr().err
    capsys.readouterr()
    assert command("run", folder, "--once", "--json") == 1  # it says what it healed
    healed = json.loads(capsys.readouterr().out)
    assert [refusal["verdict"] for refusal in healed["refused"]] == ["package-altered"]
    assert (healed["models"][MODEL]["action"], healed["models"][MODEL]["slot"]) == ("installed", "B")
    assert command("run", folder, "--once") == 0


def test_the_library_asks_which_device(monkeypatch, tmp_path):
    monkeypatch.delenv("CHOPMARK_DEVICE", raising=False)
    with pytest.raises(chopmark.errors.UsageError):
        chopmark.load(MODEL)
    monkeypatch.setenv("CHOPMARK_DEVICE", str(tmp_path))
    with pytest.raises(chopmark.errors.UsageError, match="no device is enrolled"):
        chopmark.load(MODEL)
    with pytest.raises(AttributeError):
        chopmark.unload  # noqa: B018


FORBIDDEN = (
    "chopmark.release",
    "chopmark.fleet",
    "chopmark.finops",
    "chopmark.data",
    "chopmark.builds",
    "chopmark.inspection",
    "chopmark.policy",
    "chopmark.channel.publish",
    "chopmark.channel.status",
    "chopmark.ledger.sequencer",
    "chopmark.ledger.witness",
    "litestar",
    "uvicorn",
    "sqlite3",
)


@pytest.mark.parametrize(
    ("start", "more"),
    [
        ("import chopmark.apps.agent.main", ("chopmark.apps.library", "chopmark.apps.cli", "onnxruntime")),
        ("import chopmark; chopmark.load", ("chopmark.apps.agent", "chopmark.apps.cli", "onnxruntime", "urllib3")),
        ("import chopmark", ("chopmark.apps", "cryptography")),
    ],
)
def test_a_device_carries_no_server(start, more):
    script = f"{start}\nimport sys\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded for bad in (*FORBIDDEN, *more) if name == bad or name.startswith(f"{bad}.")]


def test_an_unknown_runtime_is_said():
    from chopmark.adapters.runtimes import open_runtime

    assert open_runtime("tiny").name == "tiny"
    with pytest.raises(UndecidedError):
        open_runtime("abacus")
