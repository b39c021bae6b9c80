# SPDX-License-Identifier: Apache-2.0
"""Attacks on a ledger that is watched, and on who watches it: forks, rollbacks, hidden entries, a monitor that is killed."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from chopmark.adapters.blobs.monitor import FolderMonitor
from chopmark.adapters.kms.file import generate
from chopmark.errors import ChopmarkError, UndecidedError, UsageError
from chopmark.keys import Algorithm
from chopmark.ledger import EMPTY_ROOT, Checkpoint, LineKind, leaf_hash, sign_checkpoint
from chopmark.ledger.compare import Reported
from chopmark.ledger.events import Watch
from chopmark.ledger.followed import decode_followed
from chopmark.ledger.monitor import Second
from chopmark.ledger.seal import encode_seal
from simulators import SimLog
from simulators.crash import killed_everywhere
from simulators.log import TIME
from simulators.served import ServedLog
from unit.ledger.watching import Watching, grown


@pytest.fixture
def world(tmp_path):
    """A monitor that has seen three entries."""
    watching = Watching(tmp_path / "watch", ServedLog(grown(3)))
    assert not watching.turn().alarms
    assert watching.told() == [0, 1, 2]
    return watching


def stands(world, *codes):
    """The last turn alarmed with *codes*; the next ones look at nothing."""
    assert world.codes() == list(codes)
    world.served.asked.clear()
    turn = world.turn()
    assert turn.stands
    assert world.codes() == list(codes)
    assert world.served.asked == []


# The log lies


def test_a_fork_of_the_same_size_is_kept_and_ends_the_following(world):
    before = world.served.log.signed()
    twin = world.served.log.fork(keep=2)
    twin.collude()
    twin.append(b"another by 66")
    world.served.log = twin
    world.turn()
    kept = world.evidence()
    assert {Checkpoint.decode(note.decode().split("\n\n")[0] + "\n").root for note in kept} == {
        twin.checkpoint.root,
        grown(3).checkpoint.root,
    }
    assert before.split(b"\n\n")[0] in {note.split(b"\n\n")[0] for note in kept}
    stands(world, "log-fork")


def test_a_fork_that_grew_is_found_by_its_history(world):
    twin = world.served.log.fork(keep=1)
    twin.collude()
    for n in range(300):
        twin.append(b"other %d by 66" % n)
    world.served.log = twin
    world.turn()
    assert world.told() == []  # nothing of another history is told
    assert len(world.evidence()) == 2
    stands(world, "log-fork")


def test_the_evidence_is_what_was_served_byte_for_byte(world):
    remembered = FolderMonitor(world.folder).load()
    twin = world.served.log.fork(keep=2)
    twin.collude()
    twin.append(b"another by 66")
    note = twin.signed()
    world.served.lies["checkpoint"] = note
    world.turn()
    kept = world.evidence()
    assert note in kept
    assert len(kept) == 2
    assert decode_followed(remembered).note in kept


def test_a_fork_without_witnesses_is_a_fork_all_the_same(world):
    twin = world.served.log.fork(keep=2)
    twin.append(b"another by 66")
    twin.witnesses = []
    world.served.log = twin
    world.turn()
    stands(world, "log-fork")


def test_a_promise_that_no_witness_saw_yet_is_remembered(world):
    """What the log signed binds it, also before anybody saw it."""
    log = world.served.log
    world.served.seen = 3
    log.append(b"promised by 11")
    turn = world.turn()
    assert (turn.alarms, world.told()) == ([], [])  # only what the quorum saw is told
    world.served.seen = None
    twin = log.fork(keep=3)
    twin.append(b"another by 66")
    twin.append(b"and more by 66")
    world.served.log = twin
    world.turn()
    assert world.told() == []
    stands(world, "log-fork")


def test_a_promise_that_is_taken_back_is_remembered(world):
    """Between two signatures an honest log serves what its witnesses saw; a dishonest one forks behind that."""
    log = world.served.log
    world.served.seen = 3
    log.append(b"promised by 11")
    world.turn()
    world.served.log = log.fork(keep=3)
    turn = world.turn()
    assert (turn.alarms, turn.undecided) == ([], [])
    world.served.log.append(b"another by 66")
    world.turn()
    assert len(world.evidence()) == 2
    stands(world, "log-fork")


def test_two_roots_of_one_size_are_a_fork_whatever_the_tiles_are(world):
    twin = world.served.log.fork(keep=2)
    twin.collude()
    twin.append(b"another by 66")
    second(world, twin)
    world.served.lies["tile/0/000.p/3"] = world.served.lies["tile/0/000"] = None
    world.turn()
    stands(world, "log-fork")


def test_a_smaller_log_is_a_rollback_and_ends_the_following(world):
    world.served.log.shrink(2)
    world.served.log.collude()
    world.turn()
    assert len(world.evidence()) == 2
    stands(world, "log-rollback")


def test_after_a_rollback_a_human_lets_it_go_on(world):
    entry = world.served.log.entries[2]
    world.served.log.shrink(2)
    world.served.log.collude()
    world.turn()
    world.monitor.resume("the mirror was restored; the log is well")
    world.turn()  # still smaller: the alarm is raised again
    stands(world, "log-rollback")
    world.served.log.append(entry)
    world.served.log.append(b"next by 11")
    world.monitor.resume("it caught up")
    assert not world.turn().alarms
    assert world.told() == [3]
    assert [event["reason"] for event in world.written("resumed")] == [
        "the mirror was restored; the log is well",
        "it caught up",
    ]


def test_nobody_resumes_what_does_not_stand(world):
    with pytest.raises(UsageError):
        world.monitor.resume("for no reason")


def test_half_of_the_logs_signature_is_stripped(world):
    world.served.log.append(b"new by 11")
    world.served.log.drop.add(LineKind.ML_DSA_44)
    turn = world.turn()
    assert (world.codes(), world.told(), turn.stands) == (["log-unproven"], [], False)
    world.served.log.drop.clear()
    assert not world.turn().alarms
    assert world.told() == [3]


def test_too_few_witnesses(world):
    world.served.log.append(b"new by 11")
    for witness in world.served.log.witnesses[:2]:
        witness.away = True
    world.turn()
    assert (world.codes(), world.told()) == (["log-unwitnessed"], [])
    world.served.log.witnesses[0].away = False
    assert not world.turn().alarms
    assert world.told() == [3]


def test_an_older_quorum_beside_a_new_promise_is_no_quorum(world):
    old = world.served.log.fork(keep=2)
    old.collude()
    world.served.lies["witnessed-checkpoint"] = old.signed()
    world.served.log.append(b"new by 11")
    for witness in world.served.log.witnesses:
        witness.away = True
    world.turn()
    assert world.codes() == ["log-unwitnessed"]


def test_a_log_whose_key_changes(world):
    world.served.log.append(b"new by 11")
    world.served.log.signers = (generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_44))
    world.turn()
    assert (world.codes(), world.told()) == (["log-unproven"], [])


def test_a_state_that_other_keys_signed_is_not_believed(world):
    other = (generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_44))
    world.served.log.signers = other
    world.logs = [replace(world.logs[0], require=world.served.log.keys.require)]
    with pytest.raises(UndecidedError) as caught:
        world.turn()
    assert caught.value.code == "monitor-state"


@pytest.mark.parametrize("path", ["tile/0/000.p/4", "tile/entries/000.p/4"])
def test_an_altered_tile_or_bundle(world, path):
    world.served.log.append(b"new by 11")
    good = world.served._files()[path]
    world.served.lies[path] = good[:-1] + bytes([good[-1] ^ 1])
    turn = world.turn()
    assert (set(world.codes()), world.told(), turn.stands) == ({"log-altered"}, [], False)
    world.served.lies.clear()
    assert not world.turn().alarms
    assert world.told() == [3]


def test_a_hidden_entry_is_never_skipped(tmp_path):
    log = grown(700)
    world = Watching(tmp_path / "watch", ServedLog(log))
    world.served.lies["tile/entries/001"] = None
    turn = world.turn()
    assert world.codes() == ["log-incomplete"]
    assert world.told() == list(range(256))
    assert turn.followed.checkpoint.size == 700  # what was verified is remembered, though not told
    world.turn()
    assert (world.codes(), world.told()) == (["log-incomplete"], [])
    world.served.lies.clear()
    assert not world.turn().alarms
    assert world.told() == list(range(256, 700))


def test_no_checkpoint_any_more(world):
    world.served.lies["checkpoint"] = None
    world.turn()
    assert world.codes() == ["log-incomplete"]


def test_an_empty_log_and_then_one_entry(tmp_path):
    world = Watching(tmp_path / "watch", ServedLog(SimLog()))
    turn = world.turn()
    assert (turn.alarms, turn.undecided, world.told()) == ([], [], [])
    world.served.log.append(b"first by 11")
    assert not world.turn().alarms
    assert world.told() == [0]
    world.served.log.shrink(0)
    world.served.log.collude()
    world.turn()
    stands(world, "log-rollback")


def test_an_empty_log_with_a_root_of_its_own(tmp_path):
    world = Watching(tmp_path / "watch", ServedLog(SimLog()))
    log = world.served.log
    lie = Checkpoint(origin=log.origin, size=0, root=leaf_hash(b""))
    assert lie.root != EMPTY_ROOT
    world.served.lies["checkpoint"] = sign_checkpoint(lie, log.signers, timestamp=1).encode()
    world.turn()
    assert world.codes() == ["log-altered"]


def test_a_log_that_cannot_be_reached_is_undecided(world):
    world.served.down = True
    turn = world.turn()
    assert (world.codes(), turn.alarms) == (["unreachable"], [])


# Old news


def test_a_log_that_is_held_back_is_stale(world):
    world.options["max_age"] = timedelta(hours=24)
    assert not world.turn().undecided
    world.clock.forward(hours=25)
    world.turn()
    assert world.codes() == ["log-stale"]


def test_one_fresh_witness_does_not_make_a_quorum_fresh(world):
    world.options["max_age"] = timedelta(hours=24)
    world.clock.forward(hours=25)
    world.served.log.witnesses[0].time = TIME + 25 * 3600
    world.turn()
    assert world.codes() == ["log-stale"]
    world.served.log.witnesses[1].time = TIME + 25 * 3600
    assert not world.turn().undecided


def test_cosignatures_from_the_future_are_not_fresh(world):
    world.options["max_age"] = timedelta(hours=24)
    world.clock.forward(hours=-1)
    world.turn()
    assert world.codes() == ["log-stale"]


def test_age_without_a_quorum_is_not_asked_for(world):
    world.options["max_age"] = timedelta(hours=24)
    world.logs = [replace(world.logs[0], policy=replace(world.logs[0].policy, quorum="none"))]
    with pytest.raises(UsageError):
        world.turn()


# What others saw


def second(world, log, where="mirror"):
    world.options["seconds"] = [Second(where=where, files=ServedLog(log), path="checkpoint")]


def test_a_second_history_elsewhere_is_kept_and_ends_the_following(world):
    twin = world.served.log.fork(keep=2)
    twin.collude()
    twin.append(b"another by 66")
    second(world, twin)
    world.turn()
    assert len(world.evidence()) == 2
    stands(world, "log-fork")


def test_a_second_history_that_is_ahead(world):
    twin = world.served.log.fork(keep=2)
    twin.collude()
    twin.append(b"another by 66")
    twin.append(b"and more by 66")
    second(world, twin)
    world.turn()
    stands(world, "log-fork")


def test_a_witness_that_keeps_one_of_the_logs_lines_is_enough_to_show_a_fork(world):
    twin = world.served.log.fork(keep=2)
    twin.collude()
    twin.append(b"another by 66")
    twin.drop.add(LineKind.ML_DSA_44)
    second(world, twin)
    world.turn()
    stands(world, "log-fork")


def test_what_others_saw_of_the_same_history(world):
    second(world, world.served.log.fork(keep=2))
    world.options["seconds"][0].files.log.collude()
    assert not world.turn().alarms
    ahead = world.served.log.fork(keep=3)
    ahead.append(b"new by 11")
    second(world, ahead)
    turn = world.turn()
    assert (turn.alarms, turn.undecided) == ([], [])


def test_a_log_that_is_behind_what_others_saw(world):
    """A witness has seen more, and has no tiles: nothing is proven, and it is said."""
    ahead = world.served.log.fork(keep=3)
    ahead.append(b"new by 11")
    second(world, ahead)
    for path in ("tile/0/000.p/4", "tile/0/000"):
        world.options["seconds"][0].files.lies[path] = None
    world.turn()
    assert world.codes() == ["log-behind"]


def test_a_checkpoint_that_the_log_did_not_sign_shows_nothing(world):
    forged = world.served.log.fork(keep=2)
    forged.signers = (generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_44))
    second(world, forged)
    turn = world.turn()
    assert (world.codes(), turn.stands) == (["log-unproven"], False)


def test_a_device_that_saw_another_ledger_alarms_and_stops_nothing(world):
    """Devices sign reports, not for the log: one that lies must not end the following."""
    origin = world.served.log.origin
    honest = Reported(who="kiosk-1", origin=origin, size=3, root=world.served.log.checkpoint.root)
    world.options["reported"] = [honest, replace(honest, who="other", origin="log.other/m", root=bytes(32))]
    assert not world.turn().alarms
    world.options["reported"] = [honest, replace(honest, who="kiosk-2", root=bytes(32))]
    turn = world.turn()
    assert (world.codes(), turn.stands) == (["log-fork"], False)
    assert "kiosk-2" in turn.alarms[0].message
    world.options["reported"] = [replace(honest, size=4, root=bytes(32))]
    world.turn()
    assert world.codes() == ["log-behind"]


# The monitor is killed, restored, started twice


def test_killed_at_any_step_no_entry_is_skipped(tmp_path):
    world = Watching(tmp_path / "watch", ServedLog(grown(3)))
    points = 0
    for point in killed_everywhere(world.turn):
        points = point
        copied = Watching(tmp_path / f"copy{point}", world.served)
        if world.folder.exists():
            shutil.copytree(world.folder, copied.folder)
        copied.turn()
        assert {event["index"] for event in copied.written()} == {0, 1, 2}
        shutil.rmtree(world.folder, ignore_errors=True)
    assert points >= 5
    assert {event["index"] for event in world.written()} == {0, 1, 2}


def test_killed_between_telling_and_marking_an_entry_is_told_again(world):
    class Killed(Exception):
        pass

    def save(state):
        raise Killed

    world.served.log.append(b"new by 11")
    store = FolderMonitor(world.folder)
    for _ in range(2):
        monitor = world.monitor
        monitor._store = store
        store.save = save
        with pytest.raises(Killed):
            monitor.turn()
    assert FolderMonitor(world.folder).load() is not None
    world.turn()
    assert world.told() == [3]


def test_killed_while_it_alarms_the_fork_is_told(tmp_path):
    base = Watching(tmp_path / "base", ServedLog(grown(3)))
    base.turn()
    twin = base.served.log.fork(keep=2)
    twin.collude()
    twin.append(b"another by 66")
    base.served.lies["checkpoint"] = twin.signed()
    base.served.log = twin
    world = Watching(tmp_path / "watch", base.served)
    shutil.copytree(base.folder, world.folder)
    for _ in killed_everywhere(world.turn):
        again = Watching(tmp_path / "again", base.served)
        shutil.copytree(world.folder, again.folder)
        assert again.turn().stands
        assert len(again.evidence()) == 2
        assert again.written("alarm")
        for watching in (again, world):
            shutil.rmtree(watching.folder)
        shutil.copytree(base.folder, world.folder)


def test_stdout_that_takes_nothing_marks_nothing(world):
    def refuse(event):
        if event.kind == "entry":
            raise UndecidedError("full", code="not-written")

    world.served.log.append(b"new by 11")
    monitor = world.monitor
    monitor._tell = refuse
    assert monitor.turn().undecided
    world.turn()
    assert world.told() == [3]


def _hold(folder, held, done):
    with FolderMonitor(folder).exclusive():
        held.set()
        done.wait(20)


def test_two_monitors_on_one_state(world):
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(world.folder, held, done))
    holder.start()
    try:
        assert held.wait(20)
        with pytest.raises(UndecidedError) as caught:
            world.turn()
        assert caught.value.code == "monitor-busy"
    finally:
        done.set()
        holder.join()
    assert not world.turn().alarms  # the lock goes with its holder


def test_a_state_with_any_byte_changed_is_not_believed(world):
    path = world.folder / "state.json"
    good = path.read_bytes()
    for at in range(0, len(good), len(good) // 60):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(ChopmarkError) as caught:
            world.turn()
        assert caught.value.exit_code in {2, 3}  # never "nothing is wrong"
    for cut in (b"", good[:-1], good + b" "):
        path.write_bytes(cut)
        with pytest.raises(UndecidedError):
            world.turn()
    path.write_bytes(good)
    assert not world.turn().alarms


def test_a_state_that_claims_to_have_seen_more_is_not_believed(world):
    path = world.folder / "state.json"
    path.write_bytes(path.read_bytes().replace(b'"scanned":3', b'"scanned":2'))
    with pytest.raises(UndecidedError) as caught:
        world.turn()
    assert caught.value.code == "monitor-state"


def test_a_state_restored_from_yesterday_tells_again(world):
    shutil.copy(world.folder / "state.json", world.folder.parent / "yesterday")
    world.served.log.append(b"new by 11")
    world.turn()
    shutil.copy(world.folder.parent / "yesterday", world.folder / "state.json")
    assert not world.turn().alarms
    assert world.told() == [3]


def test_a_state_made_for_other_filters_hides_nothing(world):
    world.watch = Watch(("model:model-1",))
    with pytest.raises(UsageError):
        world.turn()
    world.monitor.rescan()
    world.turn()
    assert world.told() == [1]


def test_a_link_in_the_place_of_the_events_writes_nowhere_else(world):
    victim = world.folder.parent / "victim"
    victim.write_bytes(b"precious")
    (world.folder / "events.jsonl").unlink()
    (world.folder / "events.jsonl").symlink_to(victim)
    world.served.log.append(b"new by 11")
    with pytest.raises(UndecidedError):
        world.turn()
    assert victim.read_bytes() == b"precious"


# The log ends, and another one follows


@pytest.fixture
def ended(tmp_path):
    """A monitor that has seen the whole old log, and a successor that seals it."""
    old, new = grown(3), SimLog(origin="log.acme/n")
    new.append(encode_seal(old.signed()))
    new.append(b"later by 11")
    return Watching(tmp_path / "watch", ServedLog(old), ServedLog(new))


def test_a_successor_is_followed_where_it_seals_what_was_seen(ended):
    assert not ended.turn().alarms
    told = [(event.data["origin"], event.data["index"]) for event in ended.heard if event.kind == "entry"]
    assert told == [("log.acme/m", 0), ("log.acme/m", 1), ("log.acme/m", 2), ("log.acme/n", 0), ("log.acme/n", 1)]
    ended.served.down = True  # the old one is gone, and is not asked again
    turn = ended.turn()
    assert (turn.alarms, turn.undecided, turn.followed.before) == ([], [], ("log.acme/m",))


def test_the_old_log_may_be_gone_once_all_of_it_was_seen(ended):
    new = ended.logs.pop()
    assert not ended.turn().alarms
    ended.logs.append(new)
    ended.served.down = True
    turn = ended.turn()
    assert turn.followed.checkpoint.origin == "log.acme/n"
    assert ended.told() == [0, 1]


def mismatched(ended, code="seal-mismatch"):
    turn = ended.turn()
    assert turn.followed.checkpoint.origin == "log.acme/m"
    assert ended.codes() == [code]
    return turn


def reseal(ended, entry):
    new = ended.successor.log
    new.collude()
    new.entries[0] = entry


def test_a_successor_that_seals_nothing(ended):
    reseal(ended, b"no seal")
    mismatched(ended)


def test_a_successor_of_another_log(ended):
    reseal(ended, encode_seal(grown(3, origin="log.other/m").signed()))
    mismatched(ended)


def test_a_seal_that_the_old_log_did_not_sign(ended):
    forged = grown(3)  # the same entries, and other keys
    reseal(ended, encode_seal(forged.signed()))
    mismatched(ended, "log-unproven")


def test_a_seal_with_half_of_the_old_logs_signature(ended):
    ended.served.log.drop.add(LineKind.ML_DSA_44)
    reseal(ended, encode_seal(ended.served.log.signed()))
    ended.served.log.drop.clear()
    mismatched(ended, "log-unproven")


def test_a_seal_that_leaves_the_end_out(ended):
    """The old log went on after it was sealed: what came then would be forgotten."""
    shorter = ended.served.log.fork(keep=2)
    shorter.collude()
    reseal(ended, encode_seal(shorter.signed()))
    mismatched(ended)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_seal_over_another_history_is_a_fork(ended, keep):
    twin = ended.served.log.fork(keep=keep)
    twin.collude()
    for n in range(2 - keep + (keep == 2)):
        twin.append(b"another %d by 66" % n)
    reseal(ended, encode_seal(twin.signed()))
    assert mismatched(ended, "log-fork").stands
    assert len(ended.evidence()) == 2


def test_a_seal_over_more_than_was_shown(ended):
    longer = ended.served.log.fork(keep=3)
    longer.append(b"hidden by 66")
    reseal(ended, encode_seal(longer.signed()))
    ended.served.log.collude()
    mismatched(ended, "log-behind")


def test_entries_that_were_never_told_keep_the_successor_waiting(ended):
    ended.served.lies["tile/entries/000.p/3"] = ended.served.lies["tile/entries/000"] = None
    turn = ended.turn()
    assert ended.codes() == ["log-incomplete", "log-behind"]
    assert turn.followed.checkpoint.origin == "log.acme/m"


def test_a_successor_without_an_entry(ended):
    ended.successor.log.entries.clear()
    mismatched(ended, "log-behind")


def test_killed_while_it_goes_over_it_follows_one_of_both(ended, tmp_path):
    for point in killed_everywhere(ended.turn):
        copied = Watching(tmp_path / f"copy{point}", ended.served, ended.successor)
        if ended.folder.exists():
            shutil.copytree(ended.folder, copied.folder)
        copied.turn()
        told = {(event["origin"], event["index"]) for event in copied.written()}
        assert told == {*(("log.acme/m", n) for n in range(3)), *(("log.acme/n", n) for n in range(2))}
        shutil.rmtree(copied.folder)
        shutil.rmtree(ended.folder, ignore_errors=True)


def test_a_successor_of_the_same_name_is_none(ended):
    ended.logs[1] = replace(ended.logs[1], origin=ended.logs[0].origin)
    with pytest.raises(UsageError):
        ended.turn()
