# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import sqlite3
from functools import partial

import pytest

from chopmark.adapters.blobs.logfiles import FolderLog
from chopmark.apps.cli.ledger.meter import Meter
from chopmark.errors import UndecidedError
from chopmark.ledger import helpers, leaf_hash, root_of
from chopmark.ledger.feed import feed
from chopmark.ledger.fsck import fsck
from chopmark.ledger.fsck_files import fsck_files
from chopmark.ledger.helpers import Reach, cores, do_all
from chopmark.ledger.rehash import leaves_of, tile_root, tile_roots
from chopmark.ledger.tiles import encode_bundle
from unit.ledger.kit import NONE, ORIGIN, DirectClient, close, make_ledger, make_witness, open_ledger, policy_of

SIZE = 256 * 256 + 256 + 3


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    ledger = make_ledger(folder)
    ledger.append([b"%d" % n for n in range(SIZE)])
    ledger.signed_checkpoint()
    ledger.export(folder / "files")
    close(ledger)
    return folder


@pytest.fixture
def folder(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "log")


def check(folder, **options):
    ledger = open_ledger(folder)
    try:
        return fsck(ledger._store, ledger._heads, ledger.verifier_keys, NONE, **options)
    finally:
        close(ledger)


def check_files(folder, **options):
    ledger = open_ledger(folder)
    require = [key.encode() for key in ledger.verifier_keys]
    close(ledger)
    arguments = {"origin": ORIGIN, "require": require, "policy": NONE, **options}
    return fsck_files(FolderLog(folder / "files"), **arguments)


def test_the_inner_loops_say_what_the_tree_says():
    entries = [b"%d" % n * (n % 7) for n in range(256)]
    tile = leaves_of(encode_bundle(entries))
    assert tile == b"".join(map(leaf_hash, entries))
    assert tile_root(tile) == root_of([leaf_hash(entry) for entry in entries])
    assert tile_roots(tile * 2 + tile[:32]) == tile_root(tile) * 2


def test_several_processes_say_what_one_says(folder, monkeypatch):
    monkeypatch.setattr(helpers, "_FEWEST", 2)
    told: list[tuple[int, int]] = []
    report = check(folder, workers=2, progress=lambda done, total: told.append((done, total)))
    assert report == check(folder)
    assert report.ok
    assert (report.size, told[-1]) == (SIZE, (SIZE, SIZE))
    files = check_files(folder, workers=2, opener=partial(FolderLog, folder / "files"))
    assert files == check_files(folder)
    assert (files.ok, files.root) == (True, report.root)


def test_several_processes_find_what_one_finds(folder, monkeypatch):
    monkeypatch.setattr(helpers, "_FEWEST", 2)
    database = sqlite3.connect(folder / "ledger.db", isolation_level=None)
    for index in (3, 200):
        database.execute("UPDATE bundle SET data = ? WHERE idx = ?", (encode_bundle([b"x"] * 256), index))
    database.execute("DELETE FROM tile WHERE level = 0 AND idx = 77")
    database.close()
    report = check(folder, workers=2)
    assert report == check(folder)
    assert sorted(line.split(":")[0] for line in report.problems if line.startswith("tile/0")) == [
        "tile/0/003",
        "tile/0/200",
    ]
    assert any("tile 77" in line for line in report.problems)


def test_a_helper_that_cannot_open_the_log_is_said(folder, monkeypatch):
    monkeypatch.setattr(helpers, "_FEWEST", 1)
    with pytest.raises(UndecidedError) as caught:
        do_all([len, len, len], Reach(here=b"here", opener=partial(int, "none")), workers=2)
    assert caught.value.code == "helper-died"
    assert do_all([len, len], Reach(here=b"here"), workers=8) == [4, 4]
    assert cores() >= 1


def test_others_append_while_it_runs(folder):
    ledger = open_ledger(folder)

    def meanwhile(done, total):
        ledger.append([b"new %d" % n for n in range(done, done + 300)])

    other = open_ledger(folder)
    assert fsck(other._store, other._heads, other.verifier_keys, progress=meanwhile).problems == ()
    assert ledger.checkpoint.size > SIZE
    assert ledger.fsck(NONE).ok
    close(ledger)
    close(other)


@pytest.mark.parametrize(
    "name", ["tile/0/000", "tile/0/257.p/3", "tile/1/000", "tile/2/000.p/1", "tile/entries/255", "tile/entries/257.p/3"]
)
def test_any_file_that_is_altered_or_missing_is_found(folder, name):
    path = folder / "files" / name
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert not check_files(folder).ok
    path.unlink()
    assert any("missing" in problem for problem in check_files(folder).problems)


def test_signatures_and_quorum_of_files(folder):
    ledger = open_ledger(folder)
    witness = make_witness("wit", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    assert "witnesses saw this" in check_files(folder, policy=policy).problems[0]
    feed(ledger, policy, {"w0": DirectClient(witness)})
    ledger.append([b"later"])
    ledger.export(folder / "files")
    report = check_files(folder, policy=policy)  # the newest is not witnessed; the one before is
    assert (report.ok, report.size, report.cosigned_by) == (True, SIZE + 1, ("w0",))
    assert ledger.fsck(policy).cosigned_by == ("w0",)
    note = (folder / "files" / "checkpoint").read_bytes()
    (folder / "files" / "checkpoint").write_bytes(note.replace(ORIGIN.encode(), b"log.else/m"))
    assert not check_files(folder, policy=policy).ok
    (folder / "files" / "checkpoint").unlink()
    assert "the log has none" in check_files(folder).problems[0]
    close(ledger)


def test_a_witnessed_checkpoint_of_another_history_is_found(folder, tmp_path):
    other = make_ledger(tmp_path)
    other.append([b"another"])
    witness = make_witness("wit", other.verifier_keys)
    policy = policy_of([witness], 1)
    fed = feed(other, policy, {"w0": DirectClient(witness)})
    (folder / "files" / "witnessed-checkpoint").write_bytes(fed.note)
    assert check_files(folder, policy=policy).problems == ("witnessed-checkpoint: the log does not start with it",)
    close(other)


def test_progress_is_said_once_a_second_and_with_its_rate(capsys):
    now = [0.0]
    meter = Meter("checked", clock=lambda: now[0])
    for now[0], done in ((0.5, 1000), (2.0, 3000), (2.5, 4000), (4.0, 9000)):
        meter(done, 9000)
    assert capsys.readouterr().err.splitlines() == [
        "  checked: 3,000 of 9,000 entries, 1,000 a second",
        "  checked: 9,000 of 9,000 entries, 2,000 a second",
    ]
