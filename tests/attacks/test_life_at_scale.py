# SPDX-License-Identifier: Apache-2.0
"""Attacks on the life of a log in PostgreSQL and an object store: an end and a pruning that are killed at any call, a move
there and back that is killed anywhere, a copy into tables or objects that belong to somebody else."""

from __future__ import annotations

import contextlib
import shutil

import pytest

from chopmark.adapters.sql import postgres as pg
from chopmark.apps.cli.ledger.moving import migrate
from chopmark.apps.cli.ledger.wiring import LogSite, create_log, make_scaled, open_log_objects
from chopmark.apps.cli.main import run
from chopmark.errors import UndecidedError, UsageError, VerificationError
from chopmark.ledger import VerifierKey
from chopmark.ledger.collect import collect
from chopmark.ledger.fsck import fsck
from chopmark.ledger.migrate import copy_log
from chopmark.ledger.objects import ObjectLog
from chopmark.ledger.place import PostgresSettings, Retention, SqliteSettings
from chopmark.ledger.prune import prune
from chopmark.ledger.sequencer import Ledger
from simulators import servers
from simulators.crash import killed_everywhere
from simulators.sequence import Died, Faults, SimHead, SimSequence
from unit.ledger.kit import NONE, ORIGIN
from unit.ledger.scaled import KEYS, World, some

SIZE = 700


def world_of(count):
    world = World()
    if count:
        world.process().append(some(0, count))
    return world


def stores(world, faults=None):
    faults = faults or Faults()
    heads = SimHead(world.database, faults)
    sequence = SimSequence(world.database, faults)
    return ObjectLog(sequence=sequence, heads=heads, objects=world.objects.seen_by(faults), keys=KEYS), heads


def at_every_call(prepare, act):
    """Let the process of *act* be killed at each of its calls, after it was done; yield each world that is left."""
    for after in (False, True):
        at, ended = 0, False
        while not ended:
            at += 1
            world, faults = prepare(), Faults(at=at, after=after)
            try:
                act(world, faults)
                ended = len(faults.calls) < at
            except Died:
                pass
            faults.dead = True
            yield world


# Ending


def test_an_end_that_is_killed_at_any_call():
    count = 0
    for world in at_every_call(lambda: world_of(300), lambda world, faults: world.process(faults).freeze(moved_to="x")):
        count += 1
        ledger = world.process()
        if world.database.state.frozen or world.database.head.frozen:
            with pytest.raises(UsageError) as caught:
                ledger.append([b"late"])
            assert caught.value.code == "log-frozen"
        note = ledger.freeze(moved_to="x")
        assert ledger.freeze(moved_to="x") == note == world.objects.kept["checkpoint"]
        with pytest.raises(UsageError):
            world.process().append([b"late"])
        with pytest.raises(UsageError):
            ledger.freeze(moved_to="elsewhere")
        assert ledger.append(some(3, 4)) == (3,)
        world.check({})
    assert count > 20


def test_an_append_that_was_killed_before_the_end_is_finished_by_it():
    for world in at_every_call(lambda: world_of(300), lambda world, faults: world.process(faults).append([b"last"])):
        world.process().freeze()
        ledger = world.check({})
        assert ledger.checkpoint.size in (300, 301)
        assert ledger.fsck(NONE).ok


def test_a_database_of_before_the_end_says_so_to_fsck():
    world = world_of(10)
    before = world.database.backup()
    world.process().freeze()
    world.database.state = before.state  # one table of yesterday, the other of today
    report = world.process().fsck(NONE)
    assert "frozen" in report.problems[0]
    with pytest.raises(UsageError):
        world.process().append([b"late"])


# Pruning


def pruned(world, faults=None):
    store, heads = stores(world, faults)
    return prune(store, heads, keep_newest=100, policy=NONE, apply=True)


def bundles(world):
    return sorted(path for path in world.objects.kept if path.startswith("tile/entries/"))


def grown():
    world = world_of(100)
    ledger = world.process()
    ledger.append(some(100, 300))
    ledger.append(some(300, SIZE))
    return world


def test_a_pruning_that_is_killed_at_any_call_is_finished():
    for again in (pruned, lambda world: world.process()):  # by itself, or by whoever comes next
        count = 0
        for world in at_every_call(grown, pruned):
            count += 1
            pruned_already = world.database.state.minimum
            assert pruned_already in (0, 512)
            assert world.process().fsck(NONE).ok or pruned_already
            again(world)
            if again is pruned or pruned_already:
                assert bundles(world) == ["tile/entries/002.p/188"]
                assert world.database.state.removed == 512
            assert world.process().fsck(NONE).problems == ()
            assert world.process().append(some(3, 4)) == (3,)
        assert count > 20


def test_a_bundle_that_comes_back_is_no_part_of_the_log():
    world = grown()
    late = world.objects.kept["tile/entries/000"]
    pruned(world)
    world.objects.kept["tile/entries/000"] = late  # a writer that had lost its turn
    assert world.process().fsck(NONE).ok
    pruned(world)
    assert bundles(world) == ["tile/entries/002.p/188"]


def test_objects_that_cannot_be_removed_are_said_and_gone_later():
    world = grown()
    store, heads = stores(world)

    def fail(path):
        raise OSError(path)

    store._objects._remove = fail
    with pytest.raises(UndecidedError):
        prune(store, heads, keep_newest=100, policy=NONE, apply=True)
    assert "tile/entries/000" in bundles(world)
    assert pruned(world).entries == 0
    assert bundles(world) == ["tile/entries/002.p/188"]


# Moving


def copied(source, world, faults=None):
    return copy_log(source, stores(world, faults), progress=None)


@pytest.mark.parametrize(("end", "keep"), [("there", 0), ("", 0), ("there", 100)])
def test_a_copy_that_is_killed_at_any_call_is_finished(end, keep):
    source = grown()
    if keep:
        pruned(source)
    note = source.process().freeze(moved_to=end)
    count = 0
    for world in at_every_call(lambda: world_of(0), lambda world, faults: copied(stores(source), world, faults)):
        count += 1
        assert "checkpoint" not in world.objects.kept or world.database.head.size == SIZE
        state = copied(stores(source), world)
        assert (state.size, state.frozen, state.minimum) == (SIZE, not end, 512 if keep else 0)
        assert world.objects.kept["checkpoint"] == world.database.head.note == note
        assert not [path for path in world.objects.kept if path.startswith("staging/")]
        assert (bundles(world)[0] == "tile/entries/000") is not bool(keep)
        ledger = world.process()
        assert ledger.fsck(NONE).problems == ()
        if end:
            assert ledger.append([b"3", *some(3, 4), b"new"]) == (SIZE, 3, SIZE + 1)
    assert count > 40


def test_a_copy_over_another_history_is_refused():
    source = grown()
    source.process().freeze(moved_to="there")
    other = world_of(0)
    other.process().append([b"else"])
    with pytest.raises(VerificationError) as caught:
        copied(stores(source), other)
    assert caught.value.code == "log-fork"


# Collecting


def test_garbage_is_collected_beside_writers_at_any_call():
    """Before each call of an append, somebody collects: what was committed is whole, and staged objects stay."""
    at, ended, lost = 0, False, set()
    while not ended:
        at += 1
        world = world_of(100)

        def collected(world=world):
            before = {path for path in world.objects.kept if path.startswith("staging/")}
            collect(world.objects, apply=True)
            lost.update(before - set(world.objects.kept))

        faults = Faults(at=at, then=collected)
        world.process(faults).append(some(100, 300))
        ended = len(faults.calls) < at
        world.check({})
        assert collect(world.objects, apply=True).odd == ()
        assert "tile/0/000.p/100" not in world.objects.kept
        world.check({})
    assert at > 20
    assert not lost


def test_gc_takes_folders_and_object_stores(tmp_path, monkeypatch, capsys):
    create_log(tmp_path / "log", origin=ORIGIN, once=True)
    LogSite.at(tmp_path / "log").export(tmp_path / "files")
    for where in (tmp_path / "files", f"file://{tmp_path}/files"):
        assert run(["ledger", "gc", str(where)]) == 0
    for words in (
        ["nowhere"],
        ["file:///nowhere"],
        ["ftp://x"],
        ["s3://"],
        ["s3://log", "--option", "secret_access_key=x"],
        [str(tmp_path / "files"), "--option", "region=x"],
        ["s3://log", "--option", "region"],
    ):
        assert run(["ledger", "gc", *words]) == 2
    assert open_log_objects("s3://log/prefix", {"endpoint": "http://127.0.0.1:1", "region": "x"})


# The real thing


@pytest.fixture(scope="module")
def database():
    with servers.postgres() as found:
        yield found


@pytest.fixture
def scaled(database, tmp_path):
    clear(database)
    return PostgresSettings(database=database, objects=f"file://{tmp_path}/objects")


def clear(database):
    import psycopg

    with psycopg.connect(database) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {pg.schema_of(ORIGIN)} CASCADE")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine") / "log"
    create_log(folder, origin=ORIGIN, once=True)
    site = LogSite.at(folder)
    site.ledger.append(some(0, SIZE))
    site.ledger.signed_checkpoint()
    site.close()
    return folder


def append(folder, entry):
    """Append in a process's own way; whether it was taken."""
    with closing(LogSite.at(folder)) as site:
        try:
            site.ledger.append([entry])
        except (UsageError, UndecidedError) as error:
            if error.code in {"log-frozen", "key-missing"}:
                return False
            raise
    return True


@contextlib.contextmanager
def closing(site):
    """A process forks with no connection open."""
    try:
        yield site
    finally:
        site.close()


def intact(folder):
    with closing(LogSite.at(folder)) as site:
        report = fsck(*site.stores, [VerifierKey.decode(vkey) for vkey in site.place.require], site.place.policy)
    assert report.problems == ()
    return report


def moved(start, folder, settings):
    with closing(LogSite.at(start)) as site:
        return migrate(site, folder, settings)


@pytest.mark.slow
def test_a_log_moves_to_postgresql_and_back(scaled, pristine, tmp_path, monkeypatch, capsys):
    old, there, back = tmp_path / "old", tmp_path / "there", tmp_path / "back"
    shutil.copytree(pristine, old)
    words = ["--to", "postgresql", "--database", scaled.database, "--objects", scaled.objects]
    monkeypatch.chdir(old)
    for _ in range(2):
        assert run(["ledger", "migrate", str(there), *words]) == 0
    assert not append(old, b"late")
    assert append(there, b"on")
    assert intact(there).size == SIZE + 1
    monkeypatch.chdir(there)
    (there / "ledger.toml").write_text((there / "ledger.toml").read_text() + "\n[retention]\nkeep_newest = 100\n")
    assert run(["ledger", "prune", "--apply"]) == 0
    assert run(["ledger", "gc", scaled.objects, "--apply"]) == 0
    assert intact(there).minimum == 512
    with pytest.raises(UsageError):  # into the tables that it is in
        moved(there, tmp_path / "same", PostgresSettings(database=scaled.database, objects=f"file://{tmp_path}/o2"))
    assert append(there, b"and on")
    assert run(["ledger", "migrate", str(back)]) == 0
    assert not append(there, b"late")
    assert append(back, b"at home")
    assert (intact(back).size, intact(back).minimum) == (SIZE + 3, 512)
    with closing(LogSite.at(back)) as site:
        assert site.place.retention == Retention(keep_newest=100)
    monkeypatch.chdir(back)
    for command in (["freeze"], ["rotate", str(tmp_path / "next"), "--origin", "log.acme/next"]):
        assert run(["ledger", *command]) == 0
    capsys.readouterr()


@pytest.mark.slow
def test_a_log_in_postgresql_ends_and_is_followed(scaled, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "log"
    create_log(folder, origin=ORIGIN, once=True, settings=scaled)
    assert append(folder, b"one")
    monkeypatch.chdir(folder)
    assert run(["ledger", "freeze"]) == 0
    assert not append(folder, b"late")
    assert intact(folder).size == 1
    assert run(["ledger", "rotate", str(tmp_path / "next"), "--origin", "log.acme/next"]) == 0
    assert run(["ledger", "migrate", str(tmp_path / "copy")]) == 0  # an end may be copied
    assert not append(tmp_path / "copy", b"late")
    capsys.readouterr()


@pytest.mark.slow
def test_tables_and_objects_of_somebody_else_are_not_taken(scaled, pristine, tmp_path):
    log = shutil.copytree(pristine, tmp_path / "log")
    make_scaled(scaled, origin=ORIGIN)  # empty, and somebody's all the same
    with pytest.raises(UsageError):
        moved(log, tmp_path / "new", scaled)
    clear(scaled.database)
    (tmp_path / "objects").mkdir(exist_ok=True)
    (tmp_path / "objects" / "checkpoint").write_bytes(b"")
    with pytest.raises(UsageError):
        moved(log, tmp_path / "new", scaled)
    assert append(log, b"on")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["there", "back"])
def test_a_move_killed_anywhere_leaves_one_live_log(scaled, pristine, tmp_path, monkeypatch, way):
    old, new, building = (tmp_path / name for name in ("old", "new", ".new.moving"))
    start = scaled if way == "back" else SqliteSettings()
    target = SqliteSettings() if way == "back" else scaled

    def prepare():
        for folder in (old, new, building, tmp_path / "objects"):
            shutil.rmtree(folder, ignore_errors=True)
        clear(scaled.database)
        shutil.copytree(pristine, old)
        if start == scaled:
            moved(shutil.copytree(pristine, tmp_path / "first"), tmp_path / "second", scaled)
            shutil.rmtree(old)
            shutil.rmtree(tmp_path / "first")
            (tmp_path / "second").rename(old)

    prepare()
    stepping(monkeypatch)
    count = 0
    for _ in killed_everywhere(lambda: moved(old, new, target), at=("replace", "unlink")):
        count += 1
        taken = [append(folder, b"tried") for folder in (old, new, building) if (folder / "ledger.toml").exists()]
        assert sum(taken) <= 1
        moved(old, new, target)
        assert not append(old, b"late")
        assert append(new, b"on")
        assert intact(new).size == SIZE + 1 + any(taken)
        prepare()
    assert count > 15


def stepping(monkeypatch):
    """Make each change in the database a point at which a process is killed: before it, and after it."""
    for kind, names in {
        pg.PostgresSequence: ("advance", "freeze", "prune", "keep_removed"),
        pg.PostgresHead: ("advance", "keep_note", "keep_witnessed", "freeze"),
        ObjectLog: ("exclusive", "show"),
        Ledger: ("freeze",),
    }.items():
        for name in names:
            monkeypatch.setattr(kind, name, _stepped(getattr(kind, name)))
    monkeypatch.setattr(pg, "create", _stepped(pg.create))


def _stepped(method):
    def run(*args, **options):
        _point()
        result = method(*args, **options)
        _point()
        return result

    return run


def _point():
    import os

    with contextlib.suppress(OSError):
        os.unlink("")  # noqa: PTH108 - counted where a child is to be killed; else it does nothing
