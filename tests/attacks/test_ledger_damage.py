# SPDX-License-Identifier: Apache-2.0
"""Attacks on what a log and a witness remember: a disk that fills up in between, and single values that somebody changed."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from chopmark.adapters.blobs.logfiles import FolderLog
from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import leaves as sql_leaves
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.adapters.sql import witness as sql_witness
from chopmark.errors import ChopmarkError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.ledger import EMPTY_EDGE, Checkpoint, decode_note, integrate, root_of, sign_checkpoint
from chopmark.ledger.migrate import mirror
from chopmark.ledger.prune import prune
from chopmark.ledger.seal import encode_seal
from chopmark.ledger.static import StaticLog
from chopmark.ledger.witness import Witness, encode_request
from simulators import StandingClock
from unit.ledger.kit import LOG_SIGNERS, NONE, ORIGIN, close, ed25519_signer, make_ledger, make_witness, open_ledger


def entries(start: int, end: int) -> list[bytes]:
    return [b"%d" % n for n in range(start, end)]


def change(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as database:
        assert database.execute(sql).rowcount > 0
    database.close()


@pytest.mark.parametrize("batch", [300, 5000])
def test_a_commit_that_fails_makes_no_duplicates_later(tmp_path, monkeypatch, batch):
    """What the filter was told in a transaction that was undone must not count."""
    ledger = make_ledger(tmp_path)
    ledger.append(entries(0, 600))
    real = ledger._store._db.run

    def full(sql, values=()):
        if sql == "COMMIT":
            raise UndecidedError("database or disk is full", code="store-busy")
        return real(sql, values)

    ledger.append(entries(600, 600 + batch))  # the filter is there now
    with monkeypatch.context() as patch:
        patch.setattr(ledger._store._db, "run", full)
        with pytest.raises(UndecidedError):
            ledger.append(entries(10_000, 10_000 + batch))
    start = ledger.checkpoint.size
    assert ledger.append(entries(20_000, 20_000 + batch)) == tuple(range(start, start + batch))
    for _ in range(2):
        assert ledger.append(entries(20_000, 20_000 + batch)) == tuple(range(start, start + batch))
    assert ledger.fsck().ok
    close(ledger)


def test_an_entry_that_stands_twice_is_found(tmp_path, monkeypatch):
    ledger = make_ledger(tmp_path)
    ledger.append(entries(0, 5000))
    with monkeypatch.context() as patch:
        patch.setattr(sql_leaves.LeafIndex, "find", lambda *_: {})
        ledger.append([*entries(100, 101), *entries(5000, 9999)])
    assert any("2 times" in problem for problem in ledger.fsck().problems)
    close(ledger)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM run",
        "DELETE FROM recent",
        "UPDATE run SET count = 0",
        "UPDATE run SET count = 4095",
        "UPDATE run SET start = 1",
        "UPDATE run SET part = 9223372036854775807",
        "UPDATE recent SET idx = idx + 1",
        "UPDATE recent SET idx = 9223372036854775807",
        "UPDATE part SET data = substr(data, 2)",
        "UPDATE part SET data = zeroblob(length(data) - 1)",
        "UPDATE tile SET data = substr(data, 2) WHERE level = 0 AND idx = 3",
    ],
)
def test_a_damaged_index_takes_no_entry_twice(tmp_path, sql):
    ledger = make_ledger(tmp_path)
    ledger.append(entries(0, 4200))
    ledger.append(entries(4200, 4300))
    close(ledger)
    change(tmp_path / "ledger.db", sql)
    for some in (entries(0, 4300), entries(4200, 4201)):
        try:
            ledger = open_ledger(tmp_path)
            indices = ledger.append(some)
        except ChopmarkError as error:
            assert error.code == "ledger-corrupt"  # noqa: PT017 - either is right, and nothing else
        else:
            assert indices == tuple(int(entry) for entry in some)
    ledger = open_ledger(tmp_path)
    assert ledger.checkpoint.size == 4300
    assert ledger.fsck().problems
    close(ledger)


@pytest.mark.parametrize("sql", ["UPDATE head SET size = -1", "UPDATE head SET root = x'00'"])
def test_a_damaged_head_is_said(tmp_path, sql):
    close(make_ledger(tmp_path))
    change(tmp_path / "head.db", sql)
    with pytest.raises(VerificationError) as caught:
        open_ledger(tmp_path)
    assert caught.value.code == "ledger-corrupt"


@pytest.mark.parametrize("file", ["ledger.db", "head.db"])
def test_a_schema_that_is_no_text_is_said(tmp_path, file):
    close(make_ledger(tmp_path))
    path = tmp_path / file
    data = path.read_bytes()
    at = data.index(b"CREATE TABLE ") + len(b"CREATE TABLE ")
    path.write_bytes(data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :])
    with pytest.raises(VerificationError):
        open_ledger(tmp_path)


@pytest.fixture
def witnessed(tmp_path):
    """A witness that has cosigned 256 entries, and a request to cosign another history of them."""
    ledger = make_ledger(tmp_path)
    ledger.append(entries(0, 256))
    store = sql_witness.create(tmp_path / "witness.db")
    witness = Witness(
        name="w",
        signers=[ed25519_signer(b"w" * 32)],
        logs={ORIGIN: ledger.verifier_keys},
        store=store,
        clock=StandingClock(),
    )
    assert witness.add_checkpoint(encode_request(0, (), ledger.signed_checkpoint())).status == 200
    other = Checkpoint(origin=ORIGIN, size=300, root=root_of([bytes(32)] * 300))
    fork = sign_checkpoint(other, LOG_SIGNERS, timestamp=1).encode()
    yield witness, fork, tmp_path / "witness.db"
    store.close()
    close(ledger)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE observed SET size = 0",
        "UPDATE observed SET size = 257",
        "UPDATE observed SET origin = 'log.acme/n'",
        "UPDATE observed SET root = zeroblob(32)",
        "UPDATE observed SET note = x'00'",
    ],
)
def test_a_witness_whose_memory_was_changed_cosigns_nothing(witnessed, sql):
    witness, fork, path = witnessed
    change(path, sql)
    for old in (0, 256, 257):
        with pytest.raises(VerificationError) as caught:
            witness.add_checkpoint(encode_request(old, (), fork))
        assert caught.value.code == "store-corrupt"


def test_a_witness_whose_row_cannot_be_found_does_not_ask_for_ever(witnessed):
    witness, fork, path = witnessed
    change(path, "UPDATE observed SET origin_hash = 'ab'")
    with pytest.raises(UndecidedError):
        witness.add_checkpoint(encode_request(0, (), fork))


def test_a_line_sent_many_times_is_kept_once(tmp_path):
    ledger = make_ledger(tmp_path)
    ledger.append(entries(0, 3))
    witness = make_witness("w", ledger.verifier_keys, store=sql_witness.create(tmp_path / "witness.db"))
    note = ledger.signed_checkpoint()
    text, _, lines = note.decode().rpartition("\n\n")
    first = lines.splitlines(keepends=True)[0]
    many = f"{text}\n\n{first * 62}{''.join(lines.splitlines(keepends=True)[1:])}".encode()
    assert witness.add_checkpoint(encode_request(0, (), many)).status == 200
    kept = witness._store.newest(ORIGIN)
    assert len(decode_note(kept.note).signatures) == 3
    witness._store.close()
    close(ledger)


def test_a_head_that_keeps_no_cosignatures_is_said(tmp_path):
    ledger = make_ledger(tmp_path)
    ledger.append(entries(0, 3))
    note = ledger.signed_checkpoint()
    change(tmp_path / "head.db", "UPDATE head SET witnessed_size = 9223372036854775807")
    with pytest.raises(VerificationError) as caught:
        ledger.keep_witnessed(note)
    assert caught.value.code == "ledger-corrupt"
    close(ledger)


def test_a_mirror_whose_log_was_restored_takes_no_fork_over_what_it_promised(tmp_path):
    def served(name: str, some: list[bytes]) -> tuple[StaticLog, bytes]:
        (tmp_path / name).mkdir()
        log = make_ledger(tmp_path / name)
        log.append(some)
        log.export(tmp_path / name / "files")
        note, checkpoint = log.signed_checkpoint(), log.checkpoint
        close(log)
        return StaticLog(FolderLog(tmp_path / name / "files"), checkpoint), note

    honest, note = served("honest", entries(0, 500))
    fork, forged = served("fork", [*entries(0, 300), *entries(9000, 9400)])
    longer, longer_note = served("longer", entries(0, 700))
    store, heads = sql_ledger.create(tmp_path / "ledger.db", ORIGIN), sql_head.create(tmp_path / "head.db", ORIGIN)
    with store.exclusive():
        store.write(integrate(EMPTY_EDGE, entries(0, 300)))
    store.close()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "yesterday.db")
    store = sql_ledger.load(tmp_path / "ledger.db")
    mirror(honest, (store, heads), note=note, witnessed=None)
    store.close()
    for left in tmp_path.glob("ledger.db*"):
        left.unlink()
    shutil.copy(tmp_path / "yesterday.db", tmp_path / "ledger.db")
    store = sql_ledger.load(tmp_path / "ledger.db")
    with pytest.raises(Refused) as caught:
        mirror(fork, (store, heads), note=forged, witnessed=None)
    assert caught.value.code == "log-fork"
    assert heads.head().size == 500
    assert mirror(longer, (store, heads), note=longer_note, witnessed=None).size == 700
    store.close()
    heads.close()


def test_what_others_start_from_is_not_pruned(tmp_path):
    (tmp_path / "old").mkdir()
    old = make_ledger(tmp_path / "old", origin="log.acme/old")
    old.append(entries(0, 3))
    seal = encode_seal(old.signed_checkpoint())
    close(old)
    ledger = make_ledger(tmp_path)
    ledger.append([seal, *entries(0, 900)])
    ledger.signed_checkpoint()
    store, heads = ledger._store, ledger._heads
    with pytest.raises(UsageError) as caught:
        prune(store, heads, keep_newest=100, policy=NONE, apply=True)
    assert caught.value.code == "log-sealed"
    close(ledger)
    (tmp_path / "plain").mkdir()
    ledger = make_ledger(tmp_path / "plain")
    ledger.append(entries(0, 900))
    ledger.signed_checkpoint()
    store, heads = ledger._store, ledger._heads
    with pytest.raises(UsageError) as caught:
        prune(store, heads, keep_newest=100, policy=NONE, apply=True, indexed=700)
    assert caught.value.code == "index-behind"
    assert prune(store, heads, keep_newest=100, policy=NONE, apply=True, indexed=768).minimum == 768
    close(ledger)
