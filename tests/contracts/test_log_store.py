# SPDX-License-Identifier: Apache-2.0
"""The ports LogStore and HeadStore: SQLite, and an order with files in an object store, of each kind that there is."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from chopmark.adapters.blobs.objects import open_objects
from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.adapters.sql import postgres as pg
from chopmark.errors import ChopmarkError, UndecidedError, UsageError, VerificationError
from chopmark.ledger import EMPTY_EDGE, EMPTY_ROOT, decode_bundle, integrate, leaf_hash
from chopmark.ledger.files import files
from chopmark.ledger.objects import ObjectLog
from chopmark.ledger.ports import HeadStore, LogCounts, LogStore
from chopmark.ledger.sequencer import Ledger
from chopmark.ledger.staging import file_name
from simulators import StandingClock, servers
from simulators.crash import at_once
from simulators.sequence import Database, SimHead, SimSequence
from unit.ledger.kit import NONE, ORIGIN
from unit.ledger.scaled import KEYS, SIGNERS, some

Stores = tuple[LogStore, HeadStore]


@dataclass
class Kind:
    """A way to keep a log.

    Attributes:
        create: make one and open it.
        open: open the one that was made, as another process does.
        forks: it may be opened after a fork.
    """

    create: Callable[..., Stores]
    open: Callable[[], Stores]
    forks: bool


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with servers.postgres() as found:
        yield found


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with servers.s3() as found:
        endpoint = found.pop("endpoint")
        before = {name: os.environ.get(name) for name in found}
        os.environ.update(found)
        yield {"endpoint": endpoint}
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(
    params=[
        "sqlite",
        "simulated, memory",
        "simulated, folder",
        *map(slow, ("postgres, memory", "postgres, folder", "postgres, s3")),
    ]
)
def kind(request, tmp_path) -> Kind:
    order, _, where = request.param.partition(", ")
    if order == "sqlite":
        return _sqlite(tmp_path)
    match where:
        case "memory":
            kept = open_objects("memory:///")
            objects = lambda: kept  # noqa: E731
        case "folder":
            objects = lambda: open_objects(f"file://{tmp_path}/objects")  # noqa: E731
        case _:
            options, prefix = request.getfixturevalue("s3"), secrets.token_hex(4)
            objects = lambda: open_objects(f"s3://log/{prefix}", options)  # noqa: E731
    if order == "simulated":
        return _simulated(objects)
    return _postgres(request.getfixturevalue("database"), objects, forks=where == "folder")


def _sqlite(folder) -> Kind:
    log, head = folder / "ledger.db", folder / "head.db"
    return Kind(
        create=lambda *, once=True: (sql_ledger.create(log, ORIGIN, once=once), sql_head.create(head, ORIGIN)),
        open=lambda: (sql_ledger.load(log), sql_head.load(head)),
        forks=True,
    )


def _simulated(objects) -> Kind:
    kept: list[Database] = []

    def open_() -> Stores:
        heads = SimHead(kept[0])
        return ObjectLog(sequence=SimSequence(kept[0]), heads=heads, objects=objects(), keys=KEYS), heads

    def create(*, once=True) -> Stores:
        kept.append(Database(ORIGIN, once=once))
        return open_()

    return Kind(create=create, open=open_, forks=False)


def _postgres(database, objects, *, forks) -> Kind:
    import psycopg

    with psycopg.connect(database) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {pg.schema_of(ORIGIN)} CASCADE")

    def open_() -> Stores:
        return pg.open_log(database, objects=objects(), origin=ORIGIN, require=[key.encode() for key in KEYS])

    def create(*, once=True) -> Stores:
        pg.create(database, ORIGIN, once=once)
        return open_()

    return Kind(create=create, open=open_, forks=forks)


def grow(stores, edge, entries):
    """Append as the sequencer does, without its checks."""
    store, heads = stores
    built = integrate(edge, entries)
    with store.turn():
        with store.exclusive():
            store.write(built)
        assert heads.advance(heads.head(), size=built.edge.size, root=built.root)
    return built.edge


def holds(store, entries):
    """Check that the store holds exactly *entries*."""
    built = integrate(EMPTY_EDGE, entries)
    state = store.state()
    assert (state.size, state.root) == (len(entries), built.root if entries else EMPTY_ROOT)
    assert store.entries(0, len(entries)) == tuple(entries)
    for tile in built.tiles:
        assert store.tile(tile.level, tile.index) == tile.encode()
    leaves = list(map(leaf_hash, entries))
    assert store.find(leaves) == ({leaf: n for n, leaf in enumerate(leaves)} if state.once else {})
    assert store.counts() == LogCounts(
        tiles=len(built.tiles),
        bundles=len(entries) // 256,
        tail=len(entries) % 256,
        leaves=len(entries) if state.once else 0,
    )
    assert store.check() == ()


def test_an_empty_log(kind):
    store, heads = kind.create()
    assert store.state().origin == heads.head().origin == ORIGIN
    holds(store, [])
    assert store.entries(0, 0) == ()
    with pytest.raises(VerificationError):
        store.tile(0, 0)
    with pytest.raises(VerificationError):
        store.entries(0, 1)
    if not isinstance(heads, SimHead):
        with pytest.raises(UsageError):
            kind.create()


@pytest.mark.parametrize("step", [1, 100, 255, 256, 257, 700])
def test_what_was_written_is_there(kind, step):
    stores, edge, entries = kind.create(), EMPTY_EDGE, some(0, 3 * step)
    for at in range(0, len(entries), step):
        edge = grow(stores, edge, entries[at : at + step])
        holds(stores[0], entries[: at + step])
    holds(kind.open()[0], entries)


def test_an_exception_undoes_all_of_a_block(kind):
    stores = kind.create()
    edge = grow(stores, EMPTY_EDGE, some(0, 10))
    store = stores[0]
    built = integrate(edge, some(10, 300))
    with pytest.raises(ZeroDivisionError), store.exclusive():
        store.write(built) or 1 / 0
    holds(store, some(0, 10))
    grow(stores, edge, [*some(10, 20), b"and others"])
    holds(store, [*some(0, 20), b"and others"])


def test_a_block_sees_what_it_wrote(kind):
    stores = kind.create()
    edge = grow(stores, EMPTY_EDGE, some(0, 10))
    store, heads = stores
    with store.turn():
        with store.exclusive():
            for first in (10, 300):
                built = integrate(edge, some(first, first + 290))
                store.write(built)
                edge = built.edge
                assert store.state().size == edge.size
                assert store.entries(0, edge.size) == tuple(
                    some(0, 300) if first == 10 else [*some(0, 300), *some(300, 590)]
                )
                assert store.find([leaf_hash(b"entry 11")]) == {leaf_hash(b"entry 11"): 11}
        assert heads.advance(heads.head(), size=edge.size, root=edge.root)
    holds(store, some(0, 590))


def test_a_change_that_starts_elsewhere_is_refused(kind):
    stores = kind.create()
    edge = grow(stores, EMPTY_EDGE, some(0, 10))
    store = stores[0]
    for built in (integrate(EMPTY_EDGE, some(50, 60)), integrate(integrate(edge, [b"x"]).edge, [b"y"])):
        with pytest.raises(VerificationError), store.exclusive():
            store.write(built)
        holds(store, some(0, 10))


def test_an_entry_twice_is_refused_where_each_stands_once(kind):
    stores = kind.create()
    edge = grow(stores, EMPTY_EDGE, some(0, 10))
    store = stores[0]
    for entries in (some(9, 12), [b"twice", b"twice"]):
        with pytest.raises(VerificationError), store.exclusive():
            store.write(integrate(edge, entries))
        holds(store, some(0, 10))


def test_an_entry_twice_is_kept_twice_elsewhere(kind):
    stores = kind.create(once=False)
    edge = grow(stores, EMPTY_EDGE, [b"a", b"b", b"a"])
    grow(stores, edge, [b"a"])
    holds(stores[0], [b"a", b"b", b"a", b"a"])


def test_its_files_are_those_of_the_specification(kind):
    stores = kind.create()
    grow(stores, EMPTY_EDGE, some(0, 600))
    found = {path: data for path, data, _ in files(stores[0], 600)}
    assert sorted(found) == [
        "tile/0/000",
        "tile/0/001",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/88",
    ]
    entries = [e for path in sorted(found) if path.startswith("tile/entries") for e in decode_bundle(found[path])]
    assert entries == some(0, 600)
    assert all(file_name(path) for path in found)


def test_many_processes_append_to_one_log(kind):
    if not kind.forks:
        pytest.skip("its client does not outlive a fork")
    for store in kind.create():
        store.close()

    def writer(n):
        def run():
            store, heads = kind.open()
            ledger = Ledger.open(store=store, heads=heads, origin=ORIGIN, signers=SIGNERS, clock=StandingClock())
            for m in range(6):
                own = [b"writer %d entry %d %d" % (n, m, k) for k in range(20)]
                assert ledger.entries((i := ledger.append([*own, b"common %d" % m]))[0], i[0] + 1) == (own[0],)
                assert ledger.append(own) == i[:20]
            return True

        return run

    assert all(at_once([writer(n) for n in range(3)]))
    store, heads = kind.open()
    ledger = Ledger.open(store=store, heads=heads, origin=ORIGIN, signers=SIGNERS, clock=StandingClock())
    assert ledger.checkpoint.size == 3 * 6 * 20 + 6
    assert ledger.fsck(NONE).ok


def test_a_frozen_log_takes_nothing_any_more(kind):
    stores = kind.create()
    edge = grow(stores, EMPTY_EDGE, some(0, 300))
    store = stores[0]
    with pytest.raises(ZeroDivisionError), store.exclusive():
        store.freeze() or 1 / 0
    assert not store.state().frozen
    for _ in range(2):
        with store.exclusive():
            store.freeze()
        for each in (store, kind.open()[0]):
            assert each.state().frozen
            with pytest.raises(VerificationError) as caught, each.exclusive():
                each.write(integrate(edge, [b"late"]))
            assert caught.value.code == "log-frozen"
    holds(store, some(0, 300))


def test_pruned_bundles_are_gone_and_tiles_stay(kind):
    stores, edge = kind.create(), EMPTY_EDGE
    for size in (100, 300, 900):  # in an object store, narrower bundles lie beside the full ones
        edge = grow(stores, edge, some(edge.size, size))
    store = stores[0]
    tiles = [store.tile(0, index) for index in range(4)]
    with pytest.raises(ZeroDivisionError), store.exclusive():
        store.prune(256) or 1 / 0
    assert store.state().minimum == 0
    for asked, minimum in ((512, 512), (256, 512), (512, 512), (0, 512), (1024, 512), (768, 768)):
        with store.exclusive():
            store.prune(asked)
            assert store.state().minimum == minimum
        for each in (store, kind.open()[0]):
            state = each.state()
            assert (state.minimum, state.size) == (minimum, 900)
            assert each.entries(minimum, 900) == tuple(some(minimum, 900))
            assert [each.tile(0, index) for index in range(4)] == tiles
            assert each.counts() == LogCounts(tiles=5, bundles=(900 - minimum) // 256, tail=132, leaves=900)
            assert each.check() == ()
            with pytest.raises(VerificationError):
                each.entries(minimum - 1, 900)
    grow(stores, edge, some(900, 1100))
    assert kind.open()[0].entries(768, 1100) == tuple(some(768, 1100))


def test_a_copy_of_a_log_without_its_oldest_entries_holds_none(kind):
    stores = kind.create()
    store, heads = stores
    built = integrate(EMPTY_EDGE, [b""] * 512, [leaf_hash(entry) for entry in some(0, 512)])
    with store.turn():
        with store.exclusive():
            store.write(built)
            store.prune(512)
        assert heads.advance(heads.head(), size=512, root=built.edge.root)
    grow(stores, built.edge, some(512, 600))
    store = kind.open()[0]
    assert store.entries(512, 600) == tuple(some(512, 600))
    assert store.counts() == LogCounts(tiles=4, bundles=0, tail=88, leaves=600)
    for index in (0, 255, 256, 511):
        with pytest.raises(VerificationError):
            store.entries(index, index + 1)


# HeadStore


def test_a_frozen_head_is_the_last_one(kind):
    heads = kind.create()[1]
    first = heads.head()
    assert heads.advance(first, size=5, root=b"5" * 32)
    assert not heads.freeze(first)
    last = heads.head()
    assert heads.freeze(last, moved_to="there")
    for each in (heads, kind.open()[1]):
        assert (each.head().frozen, each.head().moved_to) == (True, "there")
        assert each.freeze(last, moved_to="there")
        assert not each.freeze(last)
        assert not each.freeze(last, moved_to="elsewhere")
        assert not each.advance(last, size=6, root=b"6" * 32)
        assert not each.advance(each.head(), size=6, root=b"6" * 32)
    assert heads.keep_note(last, b"note") == b"note"
    assert heads.keep_witnessed(5, b"witnessed")
    now = kind.open()[1].head()
    assert (now.size, now.note, now.witnessed, now.moved_to) == (5, b"note", b"witnessed", "there")


def test_an_end_that_leads_nowhere_stays_one(kind):
    heads = kind.create()[1]
    assert heads.freeze(heads.head())
    assert heads.freeze(heads.head())
    assert not heads.freeze(heads.head(), moved_to="there")
    assert (heads.head().frozen, heads.head().moved_to) == (True, "")


def test_the_head_moves_by_comparison_and_never_back(kind):
    heads = kind.create()[1]
    first = heads.head()
    assert (first.size, first.root, first.note, first.witnessed) == (0, EMPTY_ROOT, None, None)
    assert heads.advance(first, size=5, root=b"5" * 32)
    assert not heads.advance(first, size=6, root=b"6" * 32)
    second = heads.head()
    for size in (5, 4, 0):
        assert not heads.advance(second, size=size, root=b"4" * 32)
    assert kind.open()[1].head() == second


def test_one_note_is_kept_for_a_head(kind):
    heads = kind.create()[1]
    first = heads.head()
    assert heads.keep_note(first, b"first") == b"first"
    assert heads.keep_note(first, b"second") == b"first"
    assert heads.head().note == b"first"
    assert heads.advance(heads.head(), size=1, root=b"1" * 32)
    assert heads.head().note is None
    assert heads.keep_note(first, b"late") is None
    assert heads.head().note is None


def test_the_largest_witnessed_checkpoint_is_kept(kind):
    heads = kind.create()[1]
    assert heads.keep_witnessed(3, b"three")
    if not isinstance(heads, SimHead):
        assert not heads.keep_witnessed(2, b"two")
    assert heads.head().witnessed == b"three"
    assert heads.keep_witnessed(3, b"three, with more lines")
    assert heads.head().witnessed == b"three, with more lines"


def test_of_many_processes_one_moves_the_head(kind):
    if not kind.forks:
        pytest.skip("its client does not outlive a fork")
    for store in kind.create():
        store.close()
    heads = kind.open()[1]
    first = heads.head()
    heads.close()
    moved = at_once([lambda n=n: kind.open()[1].advance(first, size=n + 1, root=bytes([n]) * 32) for n in range(4)])
    assert sorted(moved) == [False, False, False, True]


def test_a_store_that_is_missing_is_said(kind):
    with pytest.raises((UndecidedError, IndexError)) as caught:
        kind.open()[1].head()
    assert not isinstance(caught.value, ChopmarkError) or caught.value.code == "store-missing"
