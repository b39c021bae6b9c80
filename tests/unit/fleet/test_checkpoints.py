# SPDX-License-Identifier: Apache-2.0
"""What devices saw of ledgers, listed for whoever compares: the file of ``fleet checkpoints`` is what a monitor reads."""

from __future__ import annotations

import json

from chopmark.adapters.sql import fleet
from chopmark.apps.cli.main import run
from chopmark.ledger.compare import decode_reported
from chopmark.release import open_workspace
from chopmark.telemetry import SeenLog
from unit.fleet.kit import world

ORIGIN = "log.acme/m"


def test_every_root_that_was_seen_is_listed_once(tmp_path):
    w = world(tmp_path)
    one, two = w.enroll("one"), w.enroll("two")
    for device, size, root in ((one, 31, b"a"), (two, 31, b"a"), (two, 31, b"b"), (one, 7, b"c")):
        w.say(device, log=SeenLog(origin=ORIGIN, size=size, root=root * 32))
    found = w.fleet.store.checkpoints()
    assert [(log.size, log.root[:1]) for _, log in found] == [(7, b"c"), (31, b"a"), (31, b"b")]
    assert [device for device, _ in found] == [one.device, one.device, two.device]


def test_the_command_writes_what_the_monitor_reads(tmp_path, capsys):
    assert run(["init", str(tmp_path / "acme")]) == 0
    store = fleet.load(open_workspace(tmp_path / "acme").fleet_db)
    world_store = world(tmp_path / "devices")
    phone = world_store.enroll("phone")
    store.put_device(world_store.fleet.store.devices()[0])
    store.see_checkpoint(phone.device, SeenLog(origin=ORIGIN, size=3, root=b"a" * 32), agreed=None)
    store.close()
    capsys.readouterr()
    assert run(["-w", str(tmp_path / "acme"), "fleet", "checkpoints", "--json"]) == 0
    out = capsys.readouterr().out
    (seen,) = decode_reported(out.encode())
    assert (seen.who, seen.origin, seen.size, seen.root) == (phone.device, ORIGIN, 3, b"a" * 32)
    assert json.loads(out)["ok"] is True
