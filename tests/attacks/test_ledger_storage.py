# SPDX-License-Identifier: Apache-2.0
"""Attacks on a log's files, and crashes: killed between its two commits, an old copy restored, a bit changed anywhere."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.errors import ChopmarkError, Refused, VerificationError
from chopmark.ledger import Checkpoint, decode_note, leaf_hash, root_of, sign_checkpoint
from chopmark.ledger.feed import feed
from unit.ledger.kit import (
    LOG_SIGNERS,
    NONE,
    ORIGIN,
    DirectClient,
    close,
    make_ledger,
    make_witness,
    open_ledger,
    policy_of,
)

CRASHING = """
import os, signal, sys
from pathlib import Path
from chopmark.adapters.sql.head import SqliteHead
from chopmark.adapters.sql.ledger import SqliteLog
from unit.ledger.kit import ed25519_signer, open_ledger

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(function):
    def wrapped(*args, **kwargs):
        function(*args, **kwargs)
        die()
    return wrapped

ledger = open_ledger(Path(sys.argv[1]), signers=[ed25519_signer(bytes(32))])
match sys.argv[2]:
    case "inside the transaction":
        SqliteLog.write = then_die(SqliteLog.write)
    case "between the commits":
        SqliteHead.advance = die
    case "after both":
        SqliteHead.advance = then_die(SqliteHead.advance)
    case "before the signature is kept":
        SqliteHead.keep_note = die
ledger.append([b"%d" % n for n in range(300, 600)])
ledger.signed_checkpoint()
"""

ENDLESS = """
import sys
from pathlib import Path
from unit.ledger.kit import ed25519_signer, open_ledger
ledger = open_ledger(Path(sys.argv[1]), signers=[ed25519_signer(bytes(32))])
for n in range(10**6):
    print(*ledger.append([f"entry {n}".encode() * 40, f"more {n}".encode()]), flush=True)
"""

ENV = {"PYTHONPATH": ":".join(sys.path)}
SIGNERS = LOG_SIGNERS[:1]


@pytest.fixture
def folder(tmp_path):
    ledger = make_ledger(tmp_path, signers=SIGNERS)
    ledger.append([b"%d" % n for n in range(300)])
    ledger.signed_checkpoint()
    close(ledger)
    return tmp_path


@pytest.mark.parametrize(
    ("moment", "size"),
    [
        ("inside the transaction", 300),
        ("between the commits", 600),
        ("after both", 600),
        ("before the signature is kept", 600),
    ],
)
def test_killed(folder, moment, size):
    before = open_ledger(folder, signers=SIGNERS)
    promised = before.signed_checkpoint()
    close(before)
    done = subprocess.run([sys.executable, "-c", CRASHING, str(folder), moment], env=ENV, check=False)
    assert done.returncode == -signal.SIGKILL
    ledger = open_ledger(folder, signers=SIGNERS)
    assert ledger.checkpoint.size == size
    assert ledger.fsck(NONE).ok
    # The caller, who got no answer, asks again: the same entries have the same places.
    assert ledger.append([b"%d" % n for n in range(250, 600)]) == tuple(range(250, 600))
    assert ledger.checkpoint.root == root_of([leaf_hash(b"%d" % n) for n in range(600)])
    assert ledger.signed_checkpoint() != promised
    assert ledger.fsck(NONE).ok
    close(ledger)


def test_killed_at_any_moment(folder):
    for lines in (3, 40):
        writer = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(folder)], env=ENV, stdout=subprocess.PIPE, text=True
        )
        acknowledged = [writer.stdout.readline() for _ in range(lines)]
        writer.kill()
        acknowledged += [line for line in writer.stdout.read().splitlines() if len(line.split()) == 2]
        writer.wait()
        writer.stdout.close()
        ledger = open_ledger(folder, signers=SIGNERS)
        # Everything that was acknowledged is there. (The last line may have been cut in the middle of a number.)
        for n, line in enumerate(acknowledged[:-1]):
            first, second = map(int, line.split())
            assert ledger.entry(first) == f"entry {n}".encode() * 40
            assert ledger.entry(second) == f"more {n}".encode()
        assert ledger.fsck(NONE).ok
        close(ledger)


def copy(folder, name):
    """Copy a closed database with what is still in its write-ahead log."""
    (folder / "copy").mkdir(exist_ok=True)
    for path in folder.glob(f"{name}*"):
        shutil.copy(path, folder / "copy")


def restore(folder, name):
    for path in folder.glob(f"{name}*"):
        path.unlink()
    for path in (folder / "copy").glob(f"{name}*"):
        shutil.copy(path, folder)


def test_an_old_copy_of_the_log_is_refused(folder):
    copy(folder, "ledger.db")
    ledger = open_ledger(folder, signers=SIGNERS)
    ledger.append([b"promised"])
    note = ledger.signed_checkpoint()
    close(ledger)
    restore(folder, "ledger.db")
    with pytest.raises(Refused) as caught:
        open_ledger(folder, signers=SIGNERS)
    assert caught.value.code == "log-rollback"
    assert Checkpoint.decode(caught.value.evidence["head"]).size == 301
    assert Checkpoint.decode(caught.value.evidence["log"]).size == 300
    assert caught.value.evidence["signed"] == note


def test_an_old_copy_that_grew_differently_is_refused(folder):
    """Somebody restores an old copy and appends to it with other software: one size, two roots."""
    copy(folder, "ledger.db")
    ledger = open_ledger(folder, signers=SIGNERS)
    ledger.append([b"promised"])
    ledger.signed_checkpoint()
    close(ledger)
    for extra in ([b"other"], [b"other", b"and more"]):
        restore(folder, "ledger.db")
        forge = make_ledger(folder / f"forge{len(extra)}", signers=SIGNERS)
        forge.append([b"%d" % n for n in range(300)] + extra)
        close(forge)
        for path in folder.glob("ledger.db*"):
            path.unlink()
        shutil.copy(folder / f"forge{len(extra)}" / "ledger.db", folder)
        with pytest.raises(Refused) as caught:
            open_ledger(folder, signers=SIGNERS)
        assert caught.value.code == "log-fork"
        assert caught.value.evidence["head"] != caught.value.evidence["log"]


def test_a_running_log_whose_file_is_rolled_back_stops(folder):
    ledger = open_ledger(folder, signers=SIGNERS)
    copy(folder, "ledger.db")
    ledger.append([b"promised"])
    ledger._store.close()
    restore(folder, "ledger.db")
    ledger._store = sql_ledger.load(folder / "ledger.db")
    with pytest.raises(Refused) as caught:
        ledger.append([b"other"])
    assert caught.value.code == "log-rollback"
    close(ledger)


def test_a_running_log_whose_file_is_replaced_by_a_fork_writes_nothing(folder):
    forge = make_ledger(folder / "forge", signers=SIGNERS)
    forge.append([b"%d" % n for n in range(299)] + [b"other", b"and more"])
    close(forge)
    ledger = open_ledger(folder, signers=SIGNERS)
    ledger._store.close()
    ledger._store = sql_ledger.load(folder / "forge" / "ledger.db")
    with pytest.raises(Refused) as caught:
        ledger.append([b"next"])
    assert caught.value.code == "log-fork"
    assert ledger._store.state().size == 301
    close(ledger)


def test_both_files_restored_is_noticed_by_a_witness(tmp_path):
    """Nothing local can tell; the witness refuses to go back, and says how far it was."""
    ledger = make_ledger(tmp_path)
    ledger.append([b"a"])
    witness = make_witness("wit", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    feed(ledger, policy, {"w0": DirectClient(witness)})
    close(ledger)
    copy(tmp_path, "ledger.db")
    copy(tmp_path, "head.db")
    ledger = open_ledger(tmp_path)
    ledger.append([b"b", b"c"])
    feed(ledger, policy, {"w0": DirectClient(witness)})
    close(ledger)
    restore(tmp_path, "ledger.db")
    restore(tmp_path, "head.db")
    ledger = open_ledger(tmp_path)
    ledger.append([b"d"])
    with pytest.raises(Refused) as caught:
        feed(ledger, policy, {"w0": DirectClient(witness)})
    assert "seen 3 entries" in caught.value.evidence["failed"]["w0"]
    ledger.append([b"e"])
    with pytest.raises(Refused) as caught:
        feed(ledger, policy, {"w0": DirectClient(witness)})
    assert "422" in caught.value.evidence["failed"]["w0"]
    close(ledger)


def test_a_log_that_shows_two_histories_gets_one_cosigned(tmp_path):
    """A stolen log key signs a second tree of one size: the witness has cosigned the first."""
    ledger = make_ledger(tmp_path)
    ledger.append([b"a"])
    witness = make_witness("wit", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    feed(ledger, policy, {"w0": DirectClient(witness)})
    fork = sign_checkpoint(Checkpoint(origin=ORIGIN, size=1, root=leaf_hash(b"b")), LOG_SIGNERS, timestamp=1).encode()
    assert witness.add_checkpoint(b"old 1\n\n" + fork).status == 422
    with pytest.raises(VerificationError):
        ledger.keep_witnessed(fork)
    close(ledger)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A log with full and partial tiles and bundles, a signed and a witnessed checkpoint."""
    folder = tmp_path_factory.mktemp("sample")
    ledger = make_ledger(folder)
    ledger.append([b"%d" % n for n in range(4360)])
    witness = make_witness("wit", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    feed(ledger, policy, {"w0": DirectClient(witness)})
    ledger.append([b"last"])
    ledger.signed_checkpoint()
    assert ledger.fsck(policy).ok
    close(ledger)
    return folder, policy


def found(folder, policy):
    """What opening, then fsck, say about a log; empty when nothing."""
    try:
        ledger = open_ledger(folder)
    except ChopmarkError as error:
        return error.message
    try:
        return "; ".join(ledger.fsck(policy).problems)
    finally:
        close(ledger)


def flipped(value, generator):
    if isinstance(value, bytes):
        at = generator.randrange(len(value)) if value else 0
        return value[:at] + bytes([value[at] ^ (1 << generator.randrange(8))]) + value[at + 1 :] if value else b"\0"
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1)
    return value ^ (1 << generator.randrange(12))


TABLES = {
    "ledger.db": {
        "state": ("origin", "size", "root"),
        "bundle": ("idx", "data"),
        "tail": ("idx", "data"),
        "tile": ("level", "idx", "data"),
        "recent": ("hash", "idx"),
        "run": ("start", "count", "part"),
        "part": ("number", "data"),
    },
    "head.db": {"head": ("origin", "size", "root", "note", "witnessed")},
}


@pytest.mark.parametrize(
    ("file", "table", "column"),
    [(file, table, column) for file, tables in TABLES.items() for table, names in tables.items() for column in names],
)
def test_a_bit_flipped_in_any_row_is_found(tmp_path, sample, file, table, column):
    generator = random.Random(f"{table}.{column}")
    tried = 0
    for _ in range(3):
        folder = tmp_path / str(generator.random())
        shutil.copytree(sample[0], folder)
        database = sqlite3.connect(folder / file, isolation_level=None)
        rows = database.execute(f"SELECT {column} FROM {table}").fetchall()  # noqa: S608
        value = generator.choice(rows)[0]
        try:
            sql = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"  # noqa: S608
            changed = database.execute(sql, (flipped(value, generator), value)).rowcount
        except sqlite3.IntegrityError:
            changed = 0  # the flip makes it another row's key, which the database itself refuses
        database.close()
        assert not changed or found(folder, sample[1])
        tried += changed
    assert tried


@pytest.mark.parametrize("table", ["state", "bundle", "tail", "tile", "recent", "run", "part", "head"])
def test_a_row_removed_or_added_is_found(tmp_path, sample, table):
    file = "head.db" if table == "head" else "ledger.db"
    column = TABLES[file][table][-1 if table != "head" else 2]
    changes = [f"DELETE FROM {table} WHERE {column} = (SELECT {column} FROM {table} LIMIT 1)"]  # noqa: S608
    if table in {"bundle", "tail"}:
        changes.append(f"INSERT INTO {table} VALUES (100000, x'0000')")  # noqa: S608
    if table == "tile":
        changes.append("INSERT INTO tile VALUES (5, 0, x'00')")
    if table == "recent":
        changes.append("INSERT INTO recent VALUES (x'00', 3)")
    if table == "run":
        changes.append("INSERT INTO run VALUES (4360, 1, 3)")
    if table == "part":
        changes.append("INSERT INTO part VALUES (9, x'00')")
    for number, sql in enumerate(changes):
        folder = tmp_path / str(number)
        shutil.copytree(sample[0], folder)
        database = sqlite3.connect(folder / file, isolation_level=None)
        assert database.execute(sql).rowcount > 0
        database.close()
        assert found(folder, sample[1])


def test_a_byte_changed_anywhere_in_a_file_is_found_or_harmless(tmp_path, sample):
    """Below SQL: either it is noticed as an error of ours, or the log still says exactly what it said."""
    source, policy = sample
    entries = (*(b"%d" % n for n in range(4360)), b"last")
    generator = random.Random(7)
    noticed = 0
    for number in range(60):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        file = folder / generator.choice(["ledger.db", "ledger.db", "head.db"])
        data = bytearray(file.read_bytes())
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        file.write_bytes(data)
        if found(folder, policy):
            noticed += 1
            continue
        ledger = open_ledger(folder)
        assert ledger.entries(0, 4361) == entries
        assert Checkpoint.decode(decode_note(ledger.signed_checkpoint()).text) == ledger.checkpoint
        close(ledger)
    assert noticed > 10
