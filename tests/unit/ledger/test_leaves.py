# SPDX-License-Identifier: Apache-2.0
"""The index behind "each entry once": runs, merges, and what somebody could make of prefixes."""

from __future__ import annotations

import hashlib
import sqlite3

import pytest

from chopmark.adapters.sql import leaves as sql_leaves
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.ledger import EMPTY_EDGE, integrate
from unit.ledger.kit import ORIGIN, close, make_ledger, open_ledger


def entries(start, end):
    return [b"%d" % n for n in range(start, end)]


@pytest.fixture
def small(monkeypatch):
    """Runs of 16, so that many merges happen soon."""
    monkeypatch.setattr(sql_leaves, "_RUN", 16)
    monkeypatch.setattr(sql_leaves, "_FILTER_FROM", 8)


@pytest.mark.parametrize("batch", [1, 3, 15, 16, 17, 100])
def test_every_entry_is_found_whatever_the_batches(tmp_path, small, batch):
    ledger = make_ledger(tmp_path)
    for start in range(0, 1200, batch):
        assert ledger.append(entries(start, start + batch)) == tuple(range(start, start + batch))
    size = ledger.checkpoint.size
    assert ledger.append(entries(0, size + 5)) == tuple(range(size + 5))
    assert [ledger.find(entry) for entry in entries(0, size)] == list(range(size))
    assert ledger.find(b"never") is None
    assert ledger.fsck().ok
    close(ledger)


def test_runs_stay_few(tmp_path, small):
    ledger = make_ledger(tmp_path)
    for start in range(0, 16 * 200, 16):  # large and small ones in turn
        ledger.append(entries(start, start + 16))
        ledger.append(entries(10_000 + start * 8, 10_000 + start * 8 + 128))
    close(ledger)
    database = sqlite3.connect(tmp_path / "ledger.db")
    assert database.execute("SELECT count(*) FROM run").fetchone()[0] < 8 * sql_leaves._TIERS
    database.close()


def test_what_another_process_appended_is_known_to_the_filter(tmp_path, small):
    one = make_ledger(tmp_path)
    other = open_ledger(tmp_path)
    one.append(entries(0, 300))
    other.append(entries(300, 600))
    assert one.append(entries(0, 700)) == tuple(range(700))
    other.append(entries(690, 710))
    assert one.append(entries(0, 710)) == tuple(range(710))
    assert one.checkpoint.size == 710
    assert one.fsck().ok
    close(one)
    close(other)


def test_a_batch_that_is_undone_leaves_the_filter_right(tmp_path, small, monkeypatch):
    ledger = make_ledger(tmp_path)
    ledger.append(entries(0, 64))
    write = ledger._store.write

    def unplugged(integration):
        write(integration)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ledger._store, "write", unplugged)
        with pytest.raises(MemoryError):
            ledger.append(entries(64, 128))
    assert ledger.append(entries(100, 200)) == tuple(range(64, 164))
    assert ledger.append(entries(64, 100)) == tuple(range(164, 200))
    assert ledger.fsck().ok
    close(ledger)


def test_leaves_that_share_a_prefix_are_told_apart(tmp_path):
    """Nobody finds such entries by chance; somebody may by work."""
    store = sql_ledger.create(tmp_path / "ledger.db", ORIGIN)
    same = [b"\x7f" * 8 + hashlib.sha256(b"%d" % n).digest()[8:] for n in range(5000)]
    with store.exclusive():
        store.write(integrate(EMPTY_EDGE, entries(0, 5000), same))
    assert store.find([same[0], same[4999], same[2500]]) == {same[0]: 0, same[4999]: 4999, same[2500]: 2500}
    assert store.find(same[:300]) == {leaf: index for index, leaf in enumerate(same[:300])}
    assert store.find([b"\x7f" * 32, bytes(32)]) == {}
    assert store.check() == ()
    store.close()


@pytest.mark.parametrize("prefix", [b"\x00", b"\xff", b"\x80"])
def test_leaves_that_lie_all_in_one_place_are_found(tmp_path, prefix):
    store = sql_ledger.create(tmp_path / "ledger.db", ORIGIN)
    skewed = [prefix * 5 + hashlib.sha256(b"%d" % n).digest()[5:] for n in range(5000)]
    with store.exclusive():
        store.write(integrate(EMPTY_EDGE, entries(0, 5000), skewed))
    assert all(store.find([leaf]) == {leaf: index} for index, leaf in enumerate(skewed[::50]) for index in [index * 50])
    store.close()


def test_a_log_that_takes_entries_twice(tmp_path):
    sql_ledger.create(tmp_path / "ledger.db", ORIGIN, once=False).close()
    from chopmark.adapters.sql import head as sql_head

    sql_head.create(tmp_path / "head.db", ORIGIN).close()
    ledger = open_ledger(tmp_path)
    assert ledger.append([b"a", b"a"]) == (0, 1)
    assert ledger.append([b"a"]) == (2,)
    assert ledger.fsck().ok
    close(ledger)
    database = sqlite3.connect(tmp_path / "ledger.db")
    database.execute("UPDATE state SET once = 1")
    database.commit()
    database.close()
    ledger = open_ledger(tmp_path)
    assert not ledger.fsck().ok
    close(ledger)
