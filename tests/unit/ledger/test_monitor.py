# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest

from chopmark.adapters.blobs.logfiles import FolderLog
from chopmark.adapters.blobs.monitor import FolderMonitor
from chopmark.artifacts import write_file
from chopmark.errors import UsageError
from chopmark.ledger import leaf_hash
from chopmark.ledger.compare import Watched
from chopmark.ledger.events import Watch
from chopmark.ledger.feed import feed
from chopmark.ledger.monitor import Second
from simulators import StandingClock
from simulators.served import ServedLog
from unit.ledger.kit import DirectClient, MemoryWitnessStore, close, make_ledger, make_witness, policy_of
from unit.ledger.watching import Watching, grown


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        ((), True),
        (("model:digits",), True),
        (("model:letters",), False),
        (("model:letters", "model:digits"), True),
        (("model:digits", "signer:11*"), True),
        (("model:digits", "signer:22*"), False),
        (("signer:1*", "signer:22*"), True),
        (("predicate:p",), False),
        (("model:digit",), False),
    ],
)
def test_kinds_add_up_and_values_of_one_kind_are_alternatives(patterns, wanted):
    assert Watch(patterns).wants(["model:digits", "signer:11ab"]) is wanted


def test_filters_without_a_key_are_met_by_nothing():
    assert Watch().wants([])
    assert not Watch(("model:digits",)).wants([])


def test_what_an_event_says(tmp_path):
    world = Watching(tmp_path, ServedLog(grown(2)), watch=Watch(("signer:11ab1*",)))
    turn = world.turn()
    assert [event.kind for event in world.heard] == ["checkpoint", "entry", "turn"]
    _, entry, last = (json.loads(event.encode()) for event in world.heard)
    assert entry == {
        "event": "entry",
        "time": "2026-07-22T16:00:00Z",
        "origin": "log.acme/m",
        "index": 1,
        "leaf": leaf_hash(b"model-1 by 11ab1").hex(),
        "keys": ["model:model-1", "signer:11ab1"],
    }
    assert (last["size"], last["seen"], last["scanned"], last["told"], last["stands"]) == (2, 2, 2, 1, False)
    assert (turn.told, turn.scanned) == (1, 2)
    assert world.written() == [entry]


def test_nothing_new_tells_nothing(tmp_path):
    world = Watching(tmp_path, ServedLog(grown(2)))
    world.turn()
    state = (tmp_path / "state.json").read_bytes()
    world.turn()
    assert [event.kind for event in world.heard] == ["turn"]
    assert (tmp_path / "state.json").read_bytes() == state


def test_a_log_ahead_of_its_witnesses_is_told_as_far_as_they_saw(tmp_path):
    world = Watching(tmp_path, ServedLog(grown(5)))
    world.served.seen = 3
    assert not world.turn().alarms
    assert world.told() == [0, 1, 2]
    world.served.seen = None
    assert not world.turn().alarms
    assert world.told() == [3, 4]


def test_progress_and_batches(tmp_path):
    world = Watching(tmp_path, ServedLog(grown(600)))
    seen = []
    world.options["progress"] = lambda at, size: seen.append((at, size))
    world.turn()
    assert seen == [(600, 600)]
    assert len(world.written()) == 600


def test_a_state_of_another_log(tmp_path):
    Watching(tmp_path, ServedLog(grown(1))).turn()
    with pytest.raises(UsageError, match=r"follows log\.acme/m"):
        Watching(tmp_path, ServedLog(grown(1, origin="log.other/m"))).turn()


def test_an_event_after_one_that_was_cut_short_has_its_own_line(tmp_path):
    store = FolderMonitor(tmp_path)
    store.report([b'{"event":"a"}'])
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"event":')
    store.report([b'{"event":"b"}'])
    assert (tmp_path / "events.jsonl").read_bytes() == b'{"event":"a"}\n{"event":\n{"event":"b"}\n'


def test_what_killed_writes_left_is_removed(tmp_path):
    (tmp_path / "evidence").mkdir()
    left = [tmp_path / ".0123.tmp", tmp_path / "evidence" / ".4567.tmp"]
    for path in left:
        path.write_bytes(b"half")
    with FolderMonitor(tmp_path).exclusive():
        assert not any(path.exists() for path in left)


def test_a_real_log_with_real_witnesses(tmp_path):
    """Exported files, cosigned by two witnesses; compared with what one of them keeps for everybody."""
    ledger = make_ledger(tmp_path)
    witnesses = [make_witness(f"w{n}", ledger.verifier_keys, store=Remembering()) for n in range(2)]
    policy = policy_of(witnesses, 2)
    log = Watched(
        origin=ledger.origin,
        require=tuple(key.encode() for key in ledger.verifier_keys),
        policy=policy,
        files=FolderLog(tmp_path / "files"),
    )
    kept = tmp_path / "witness"
    world = Watching(tmp_path / "state", ServedLog(grown(1)))
    world.logs, world.clock = [log], StandingClock()
    world.options["seconds"] = [Second(where="w0", files=FolderLog(kept), path="checkpoint")]
    world.options["max_age"] = timedelta(minutes=1)
    for start in (0, 300, 70_000):
        ledger.append([b"%d by 11" % n for n in range(start, start + 300)])
        feed(ledger, policy, {f"w{n}": DirectClient(witness) for n, witness in enumerate(witnesses)})
        ledger.export(tmp_path / "files")
        answer = witnesses[0].checkpoint(hashlib.sha256(ledger.origin.encode()).hexdigest())
        write_file(kept / "checkpoint", answer.body)
        turn = world.turn()
        assert (turn.alarms, turn.undecided, turn.told) == ([], [], 300)
    close(ledger)


class Remembering(MemoryWitnessStore):
    def by_origin_hash(self, origin_hash):
        return next(iter(self.seen.values()))
