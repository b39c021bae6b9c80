# SPDX-License-Identifier: Apache-2.0
"""Attacks on a log at scale, and crashes: writers killed and overtaken at every call, a database or an object store of
yesterday, objects by somebody else, a bit changed anywhere."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from chopmark.errors import ChopmarkError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.ledger import Checkpoint, decode_note, leaf_hash, sign_checkpoint
from chopmark.ledger.feed import feed
from chopmark.ledger.ports import Head
from chopmark.ledger.static import StaticLog
from simulators.sequence import Died, Faults
from unit.ledger.kit import NONE, ORIGIN, DirectClient, make_witness, policy_of
from unit.ledger.scaled import KEYS, World, appended, some


@pytest.fixture
def world():
    """A log of 250 entries: what is appended next crosses the end of a bundle and of a tile."""
    made = World()
    made.process().append(some(0, 250))
    return made


def at_every_call(act, prepare, *, after):
    """Yield a world for each call that *act* makes in it, and the process that dies at this call."""
    at = 0
    while True:
        at += 1
        world, faults = prepare(), Faults(after=after)
        ledger = world.process(faults)
        faults.calls.clear()
        faults.at = at
        died = False
        try:
            act(ledger)
        except Died:
            died = True
        yield world, faults
        if not died and len(faults.calls) < at:
            return


def of_250():
    made = World()
    made.process().append(some(0, 250))
    return made


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_writer_killed_at_any_call_loses_nothing_and_forks_nothing(after):
    calls = 0
    for world, faults in at_every_call(lambda ledger: ledger.append(some(240, 530)), of_250, after=after):
        calls += 1
        acknowledged = {entry: n for n, entry in enumerate(some(0, 250))}
        if not faults.dead:
            acknowledged |= {entry: n for n, entry in enumerate(some(0, 530))}
        ledger = world.check(acknowledged)
        # The caller, who got no answer, asks again: the same entries have the same places.
        assert ledger.append(some(240, 530)) == tuple(range(240, 530))
        assert world.check({}).append([b"next"]) == (530,)
        assert not [path for path in world.objects.kept if path.startswith("staging/")]
    assert calls > 25, "the faults were not where the calls are"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_another_writer_goes_on_where_one_was_killed(after):
    """The other has been running all the time, and has other entries."""
    for world, _ in at_every_call(lambda ledger: ledger.append(some(250, 530)), of_other, after=after):
        acknowledged: dict[bytes, int] = {}
        assert appended(world.other, [b"other %d" % n for n in range(20)], acknowledged)
        assert appended(world.process(), some(250, 530), acknowledged)
        world.check(acknowledged)


def of_other():
    world = of_250()
    world.other = world.process()
    world.other.append([])
    return world


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("entries", [some(250, 262), [b"other %d" % n for n in range(300)]], ids=["same", "other"])
def test_a_writer_that_is_overtaken_at_any_call_forks_nothing(entries, after):
    """It stalls, its connection is lost, another appends; then it goes on, and knows nothing of that."""
    at, overtaken = 0, True
    while overtaken:
        at += 1
        world, acknowledged = of_other(), {}
        faults = Faults(
            after=after,
            then=lambda w=world, a=acknowledged: appended(w.other, entries, a) or pytest.fail("it could not"),
        )
        slow = world.process(faults)
        faults.calls.clear()
        faults.at = at
        appended(slow, some(250, 530), acknowledged)
        overtaken, faults.at = len(faults.calls) >= at, 0
        assert not overtaken or all(entry in acknowledged for entry in entries)
        # It may have shown an older checkpoint over a newer one; whoever has the next turn shows the newest again.
        assert world.process().append([b"next"])[0] == world.shown().size - 1
        assert appended(slow, some(250, 530), acknowledged)
        world.check(acknowledged)
    assert at > 20


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_recovery_that_is_killed_is_taken_up_again(after):
    """Killed after the commit; the next writer is killed too, at every call of its recovery."""

    def half_done():
        world, faults = of_250(), Faults(after=True)
        ledger = world.process(faults)
        faults.calls.clear()
        faults.at = 1000
        faults.then = None
        original = ledger._store._put
        ledger._store._put = lambda files: (_ for _ in ()).throw(Died()) if files else original(files)
        with pytest.raises(Died):
            ledger.append(some(250, 530))
        assert world.database.state.size == 530
        assert world.database.head.size == 250
        return world

    at, died = 0, True
    while died:
        at += 1
        world, faults, died = half_done(), Faults(at=at, after=after), False
        try:
            world.process(faults)
        except Died:
            died = True
        world.check({entry: n for n, entry in enumerate(some(0, 530))})
    assert at > 10


def test_readers_see_a_whole_log_at_every_call(world):
    """Between any two calls of a writer, what the shown checkpoint promises is there."""
    seen = set()
    at = 0
    while True:
        at += 1
        fresh = of_250()
        faults = Faults(then=lambda w=fresh: seen.add(len(w.read())))
        ledger = fresh.process(faults)
        faults.calls.clear()
        faults.at = at
        ledger.append(some(250, 530))
        if len(faults.calls) < at:
            break
    assert seen == {250, 530}


# Yesterday


def test_a_database_of_yesterday_is_refused_with_both_checkpoints(world):
    yesterday = world.database.backup()
    signed = world.process()
    signed.append(some(250, 300))
    note = signed.signed_checkpoint()
    world.database.restore(yesterday)
    with pytest.raises(Refused) as caught:
        world.process()
    assert caught.value.code == "log-rollback"
    assert Checkpoint.decode(caught.value.evidence["database"]).size == 250
    assert Checkpoint.decode(caught.value.evidence["objects"]).size == 300
    assert caught.value.evidence["signed"] == note
    assert len(world.read()) == 300


@pytest.mark.parametrize("act", ["append", "sign", "other"])
def test_a_database_of_yesterday_under_running_processes_is_refused(world, act):
    yesterday = world.database.backup()
    running = world.process()
    other = world.process()
    running.append(some(250, 300))
    world.database.restore(yesterday)
    before = dict(world.objects.kept)
    if act == "sign":
        world.database.head = replace(world.database.head, note=None)
    acts = {
        "append": lambda: running.append([b"forked"]),
        "other": lambda: other.append([b"forked"]),
        "sign": running.signed_checkpoint,
    }
    with pytest.raises(Refused) as caught:
        acts[act]()
    assert caught.value.code == "log-rollback"
    assert world.objects.kept == before


def test_a_database_of_yesterday_that_went_another_way_is_a_fork(world):
    """It was restored, and somebody appended with the objects out of sight: as many entries, and others."""
    yesterday = world.database.backup()
    world.process().append(some(250, 300))
    elsewhere = World(database=yesterday, objects=world.objects.seen_by(Faults()))
    elsewhere.objects.kept = {}
    fresh = of_250()
    fresh.process().append([b"forked %d" % n for n in range(60)])
    world.database.restore(fresh.database)
    for path, data in fresh.objects.kept.items():  # whoever did it has its tiles there too
        if path.startswith("tile/"):
            world.objects.kept[path] = data
    with pytest.raises(Refused) as caught:
        world.process()
    assert caught.value.code == "log-fork"
    assert caught.value.evidence["database"] != caught.value.evidence["objects"]


def test_only_the_witnessed_checkpoint_is_left_of_today(world):
    """The object `checkpoint` was put back too."""
    witness = make_witness("wit", KEYS)
    policy = policy_of([witness], 1)
    old = world.objects.kept["checkpoint"]
    yesterday = world.database.backup()
    ledger = world.process()
    ledger.append(some(250, 300))
    feed(ledger, policy, {"w0": DirectClient(witness)})
    assert Checkpoint.decode(decode_note(world.objects.kept["witnessed-checkpoint"]).text).size == 300
    world.database.restore(yesterday)
    world.objects.kept["checkpoint"] = old
    with pytest.raises(Refused) as caught:
        world.process()
    assert caught.value.code == "log-rollback"


def half_put(world):
    """Kill a writer between its commit and its first object."""
    ledger = world.process()
    ledger._store._put = lambda files: (_ for _ in ()).throw(Died())
    with pytest.raises(Died):
        ledger.append(some(250, 530))
    return next(path for path in world.objects.kept if path.startswith("staging/"))


def test_objects_behind_the_database_with_the_staging_gone_are_refused(world):
    path = half_put(world)
    del world.objects.kept[path]
    for _ in range(2):
        with pytest.raises(VerificationError) as caught:
            world.process()
        assert caught.value.code == "log-incomplete"
        assert caught.value.evidence["missing"] == path
        assert "staged object" in caught.value.hint


def test_a_staged_object_of_somebody_else_is_not_put(world):
    path = half_put(world)
    forge = World()
    forge.process().append([b"forged %d" % n for n in range(250)])
    other = half_put(forge)
    before = dict(world.objects.kept)
    world.objects.kept[path] = forge.objects.kept[other]
    with pytest.raises(VerificationError) as caught:
        world.process()
    assert caught.value.code == "log-altered"
    world.objects.kept[path] = before[path]
    assert world.objects.kept == before
    world.check({entry: n for n, entry in enumerate(some(0, 530))})


def test_objects_of_yesterday_are_refused(world):
    yesterday = dict(world.objects.kept)
    world.process().append(some(250, 530))
    world.objects.kept.clear()
    world.objects.kept.update(yesterday)
    with pytest.raises(VerificationError) as caught:
        world.process()
    assert caught.value.code == "log-incomplete"


# Somebody else writes to the object store


def test_an_object_of_another_history_in_the_way_is_refused(world):
    world.objects.kept["tile/0/000"] = b"x" * 8192
    with pytest.raises(VerificationError) as caught:
        world.process().append(some(250, 300))
    assert caught.value.code == "object-conflict"
    assert caught.value.evidence["path"] == "tile/0/000"
    assert caught.value.evidence["ours"] != caught.value.evidence["kept"]
    # Nothing was acknowledged; with the stranger's object away, the log goes on.
    assert world.shown().size == 250
    del world.objects.kept["tile/0/000"]
    world.check({entry: n for n, entry in enumerate(some(0, 300))})


def test_a_checkpoint_that_the_log_did_not_sign_is_refused(world):
    stranger = make_witness("x", KEYS)._signers[0]
    good = world.objects.kept["checkpoint"]
    huge = Checkpoint(origin=ORIGIN, size=10**6, root=bytes(32))
    for note in (sign_checkpoint(huge, [stranger], timestamp=1).encode(), huge.encode().encode(), b"", b"\xff" * 99):
        world.objects.kept["checkpoint"] = note
        with pytest.raises(VerificationError) as caught:
            world.process()
        assert caught.value.code in {"log-altered", "undecodable"}
        assert world.objects.kept["checkpoint"] == note, "what a stranger wrote is evidence"
    world.objects.kept["checkpoint"] = good
    world.check({})


def test_a_checkpoint_that_was_removed_or_set_back_is_shown_again(world):
    old = world.objects.kept["checkpoint"]
    world.process().append(some(250, 300))
    for set_back in (None, old):
        if set_back is None:
            del world.objects.kept["checkpoint"]
        else:
            world.objects.kept["checkpoint"] = set_back
        world.process()
        assert world.shown().size == 300


def test_a_smaller_witnessed_checkpoint_replaces_no_larger_one(world):
    witness = make_witness("wit", KEYS)
    policy = policy_of([witness], 1)
    ledger = world.process()
    feed(ledger, policy, {"w0": DirectClient(witness)})
    small = world.database.head.witnessed
    ledger.append(some(250, 300))
    feed(ledger, policy, {"w0": DirectClient(witness)})
    large = world.objects.kept["witnessed-checkpoint"]
    world.database.head = Head(
        origin=ORIGIN, size=300, root=world.database.head.root, note=world.database.head.note, witnessed=small
    )
    world.process().append([b"next"])
    assert world.objects.kept["witnessed-checkpoint"] == large


def found(world):
    """What opening, then fsck, say about a log; empty when nothing."""
    try:
        ledger = world.process()
        return "; ".join(ledger.fsck(NONE).problems)
    except ChopmarkError as error:
        return error.message


def test_a_bit_flipped_in_any_object_is_found_or_was_superseded():
    generator = random.Random(3)
    sample = of_250()
    sample.process().append(some(250, 530))
    for path, data in sample.objects.kept.items():
        world = World(database=sample.database.backup())
        world.objects.kept.update(sample.objects.kept)
        at = generator.randrange(len(data))
        world.objects.kept[path] = data[:at] + bytes([data[at] ^ (1 << generator.randrange(8))]) + data[at + 1 :]
        superseded = ".p/250" in path
        assert bool(found(world)) != superseded, path
        if superseded:
            assert len(world.read()) == 530


def test_an_object_removed_or_added_is_found():
    sample = of_250()
    sample.process().append(some(250, 530))
    paths = [path for path in sample.objects.kept if path.startswith("tile/") and ".p/250" not in path]
    for path in paths:
        world = World(database=sample.database.backup())
        world.objects.kept.update(sample.objects.kept)
        del world.objects.kept[path]
        assert found(world), path
    for path in ("tile/0/003", "tile/entries/003.p/1", "tile/5/000"):
        world = World(database=sample.database.backup())
        world.objects.kept.update(sample.objects.kept)
        world.objects.kept[path] = b"x" * 32
        assert found(world), path


def test_an_index_of_leaves_that_lies_is_found(world):
    for change in ({leaf_hash(b"entry 3"): 4}, {leaf_hash(b"nobody"): 7}):
        lying = World(database=world.database.backup(), objects=world.objects)
        lying.database.leaves |= change
        assert found(lying)


def test_a_store_of_another_log_is_refused(world):
    world.database.head = Head(origin="log.other/m", size=250, root=world.database.head.root, note=None, witnessed=None)
    with pytest.raises(UsageError):
        world.process()


def test_an_object_store_that_does_not_answer_acknowledges_nothing(world):
    ledger = world.process()
    objects = ledger._store._objects
    for name in ("_create", "_replace", "_find"):
        working = getattr(objects, name)
        setattr(objects, name, lambda *_: (_ for _ in ()).throw(OSError("unplugged")))
        with pytest.raises(UndecidedError):
            ledger.append([f"with {name} away".encode()])
        setattr(objects, name, working)
    acknowledged = dict.fromkeys(())
    assert appended(ledger, [b"with _create away", b"with _replace away", b"with _find away"], acknowledged)
    world.check(acknowledged)
    assert list(StaticLog(world.objects, world.shown()).entries(250, 253))
