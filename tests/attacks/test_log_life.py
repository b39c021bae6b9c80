# SPDX-License-Identifier: Apache-2.0
"""Attacks on the life of a log: a needed tile collected, an end that is written past, an old head that is altered, a copy
that is not the log, and a move that is killed anywhere, after which both sides are tried."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from functools import wraps
from pathlib import Path

import pytest

from chopmark.adapters.blobs.logfiles import FolderObjects
from chopmark.adapters.sql.head import SqliteHead
from chopmark.adapters.sql.ledger import SqliteLog
from chopmark.apps.cli.ledger.moving import fetch, migrate, succeed
from chopmark.apps.cli.ledger.wiring import LogSite, create_log
from chopmark.errors import ChopmarkError, DecodeError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.ledger import VerifierKey, WitnessPolicy, cosign, decode_note, encode_bundle, witness_key
from chopmark.ledger.collect import collect
from chopmark.ledger.freeze import seal_of
from chopmark.ledger.fsck import fsck
from chopmark.ledger.fsck_files import fsck_files
from chopmark.ledger.place import PostgresSettings, SqliteSettings
from chopmark.ledger.prune import prune
from chopmark.ledger.seal import decode_seal
from simulators.crash import killed_everywhere
from unit.ledger.kit import NONE, ed25519_signer

ORIGIN = "log.life/m"
SIZE = 600
POINTS = ("replace", "unlink", "link")
WITNESS = ed25519_signer(b"w" * 32)
WITNESSED = f"witness w {witness_key('w', WITNESS.public).encode()}\nquorum w\n"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A log of 600 entries, signed."""
    folder = tmp_path_factory.mktemp("pristine") / "log"
    create_log(folder, origin=ORIGIN, once=True)
    site = LogSite.at(folder)
    site.ledger.append([b"%d" % n for n in range(SIZE)])
    site.ledger.signed_checkpoint()
    site.close()
    return folder


@pytest.fixture
def log(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "log"))


def append(folder, entry):
    """Append in a process's own way: everything opened anew. Returns whether it was taken."""
    try:
        LogSite.at(folder).ledger.append([entry])
    except (UsageError, UndecidedError) as error:
        if error.code in {"log-frozen", "key-missing"}:
            return False
        raise
    return True


def intact(folder):
    site = LogSite.at(folder)
    keys = [VerifierKey.decode(vkey) for vkey in site.place.require]
    report = fsck(*site.stores, keys, site.place.policy)
    assert report.problems == ()
    return report


def freeze(folder):
    return LogSite.at(folder).ledger.freeze()


def change(folder, file, sql, *values):
    database = sqlite3.connect(folder / file, isolation_level=None)
    assert database.execute(sql, values).rowcount > 0
    database.close()


def witnessed(folder):
    """Let a witness cosign the newest checkpoint."""
    (folder / "policy.txt").write_text(WITNESSED)
    ledger = LogSite.at(folder).ledger
    note = decode_note(ledger.signed_checkpoint())
    line = cosign(note.text, WITNESS, "w", timestamp=1)
    ledger.keep_witnessed(note.encode() + line.encode().encode())


# Freezing


def test_a_frozen_log_that_is_appended_to_by_another_process(log):
    other = LogSite.at(log).ledger  # opened before, and in use
    note = LogSite.at(log).ledger.freeze()
    with pytest.raises(UsageError) as caught:
        other.append([b"late"])
    assert caught.value.code == "log-frozen"
    assert other.append([b"7"]) == (7,)  # what is there is still found
    assert not append(log, b"later")
    assert LogSite.at(log).ledger.signed_checkpoint() == note == LogSite.at(log).ledger.freeze()
    assert intact(log).size == SIZE


@pytest.mark.parametrize(("file", "table"), [("ledger.db", "state"), ("head.db", "head")])
def test_a_log_that_is_thawed_on_one_side(log, file, table):
    LogSite.at(log).ledger.freeze()
    change(log, file, f"UPDATE {table} SET frozen = 0")  # noqa: S608
    assert not append(log, b"late")
    site = LogSite.at(log)
    assert "frozen" in fsck(*site.stores, [VerifierKey.decode(key) for key in site.place.require]).problems[0]


def test_a_frozen_head_is_not_moved_by_a_log_that_grew_behind_its_back(log):
    LogSite.at(log).ledger.freeze()
    change(log, "ledger.db", "UPDATE state SET frozen = 0")
    change(log, "head.db", "UPDATE head SET frozen = 0")
    assert append(log, b"late")
    change(log, "head.db", "UPDATE head SET frozen = 1")
    heads = LogSite.at(log).stores[1]
    head = heads.head()
    assert not heads.advance(head, size=head.size + 1, root=head.root)
    change(log, "head.db", "UPDATE head SET size = ?, root = ?, note = NULL", SIZE, root_of_first(log, SIZE))
    with pytest.raises(VerificationError) as caught:
        LogSite.at(log).ledger  # noqa: B018
    assert caught.value.code == "ledger-corrupt"


def root_of_first(folder, size):
    return LogSite.at(folder).ledger._root_at(size)


def test_freezing_killed_anywhere(pristine, tmp_path, monkeypatch):
    stepping(monkeypatch)
    log = Path(shutil.copytree(pristine, tmp_path / "log"))
    count = 0
    for _ in killed_everywhere(lambda: freeze(log), at=POINTS):
        count += 1
        site = LogSite.at(log)
        if site.stores[0].state().frozen or site.stores[1].head().frozen:
            assert not append(log, b"late")
        site.ledger.freeze()
        assert not append(log, b"late")
        assert intact(log).size == SIZE
        shutil.rmtree(log)
        shutil.copytree(pristine, log)
    assert count >= 4


def stepping(monkeypatch):
    """Make every change of a store two more points at which a process is killed: before it, and after it."""
    for kind, names in {
        SqliteLog: ("write", "freeze", "prune"),
        SqliteHead: ("advance", "keep_note", "keep_witnessed", "freeze"),
    }.items():
        for name in names:
            monkeypatch.setattr(kind, name, _stepped(getattr(kind, name)))


def _stepped(method):
    @wraps(method)
    def run(*args, **options):
        _point()
        result = method(*args, **options)
        _point()
        return result

    return run


def _point():
    with contextlib.suppress(OSError):
        os.link("", "")  # counted where a child is to be killed; else it does nothing


# Rotation


def test_rotation_waits_for_the_end_and_for_its_witnesses(log, tmp_path):
    new = tmp_path / "new"
    with pytest.raises(UsageError) as caught:
        succeed(LogSite.at(log), new, origin="log.life/m2")
    assert caught.value.code == "not-frozen"
    (log / "policy.txt").write_text(WITNESSED)
    LogSite.at(log).ledger.freeze()
    with pytest.raises(Refused) as refused:
        succeed(LogSite.at(log), new, origin="log.life/m2")
    assert refused.value.code == "log-unwitnessed"
    witnessed(log)
    with pytest.raises(UsageError):
        succeed(LogSite.at(log), new, origin=ORIGIN)
    place = succeed(LogSite.at(log), new, origin="log.life/m2")
    seal = decode_seal(LogSite.at(new).stores[0].entries(0, 1)[0])
    assert (seal.checkpoint.origin, seal.checkpoint.size) == (ORIGIN, SIZE)
    assert b"w " in seal.note  # the witness's line is sealed too
    assert place.policy.quorum == "w"
    assert not set(place.require) & set(LogSite.at(log).place.require)
    assert succeed(LogSite.at(log), new, origin="log.life/m2") == place  # again is the same
    with pytest.raises(UsageError):
        succeed(LogSite.at(log), new, origin="log.life/m3")


def test_a_head_that_was_witnessed_before_its_end_is_not_sealed(log, tmp_path):
    witnessed(log)
    assert append(log, b"one more")
    LogSite.at(log).ledger.freeze()
    with pytest.raises(Refused) as caught:
        succeed(LogSite.at(log), tmp_path / "new", origin="log.life/m2")
    assert caught.value.code == "log-unwitnessed"


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("UPDATE head SET root = zeroblob(32)", "log-fork"),
        ("UPDATE head SET size = size - 1", "log-rollback"),
        ("UPDATE head SET note = replace(note, '600', '599')", "log-unproven"),
        ("UPDATE head SET note = (SELECT note FROM other)", "log-unproven"),
        ("UPDATE head SET frozen = 0", "not-frozen"),
        ("UPDATE head SET moved_to = 'elsewhere'", "not-frozen"),
    ],
)
def test_rotation_with_an_altered_old_head(log, tmp_path, sql, code):
    LogSite.at(log).ledger.freeze()
    database = sqlite3.connect(log / "head.db", isolation_level=None)
    if "other" in sql:  # somebody else's checkpoint, well signed
        create_log(tmp_path / "else", origin=ORIGIN, once=True)
        LogSite.at(tmp_path / "else").ledger.signed_checkpoint()
        database.execute("ATTACH ? AS els", (str(tmp_path / "else" / "head.db"),))
        sql = sql.replace("FROM other", "FROM els.head")
    database.execute(
        sql
        if "replace" not in sql
        else "UPDATE head SET note = CAST(replace(CAST(note AS TEXT), '600', '599') AS BLOB)"
    )
    database.close()
    with pytest.raises(ChopmarkError) as caught:
        succeed(LogSite.at(log), tmp_path / "new", origin="log.life/m2")
    assert caught.value.code == code
    assert not (tmp_path / "new").exists()


def test_rotation_with_an_altered_tile(log):
    LogSite.at(log).ledger.freeze()
    change(log, "ledger.db", "UPDATE tile SET data = zeroblob(64) WHERE level = 1")
    site = LogSite.at(log)
    with pytest.raises(Refused) as caught:
        seal_of(*site.stores, require=site.place.require, policy=NONE)
    assert caught.value.code == "log-fork"


@pytest.mark.slow
def test_rotation_killed_anywhere(pristine, tmp_path, monkeypatch):
    old = Path(shutil.copytree(pristine, tmp_path / "old"))
    LogSite.at(old).ledger.freeze()
    stepping(monkeypatch)
    new, count = tmp_path / "new", 0
    for _ in killed_everywhere(lambda: succeed(LogSite.at(old), new, origin="log.life/m2"), at=POINTS):
        count += 1
        assert not new.exists() or LogSite.at(new).stores[1].head().size == 1
        succeed(LogSite.at(old), new, origin="log.life/m2")
        assert LogSite.at(new).stores[1].head().size == 1
        assert append(new, b"on")
        with pytest.raises(UsageError):
            succeed(LogSite.at(old), tmp_path / "another", origin="log.life/m3")
        shutil.rmtree(new)
        for name in ("successor", "successor.keys"):  # as before the first run
            (old / name).unlink()
    assert count > 5


# Moving


def test_a_move_killed_anywhere_leaves_one_live_log(pristine, tmp_path, monkeypatch):
    """After every kill both sides are tried: at most one takes an entry, and the move can be finished."""
    stepping(monkeypatch)
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(pristine, old)
    count = 0
    for _ in killed_everywhere(lambda: migrate(LogSite.at(old), new, SqliteSettings()), at=POINTS):
        count += 1
        building = tmp_path / ".new.moving"
        taken = [append(folder, b"tried") for folder in (old, new, building) if (folder / "ledger.toml").exists()]
        assert sum(taken) <= 1
        if LogSite.at(old).stores[1].head().moved_to and not new.exists():  # it can go nowhere else
            with pytest.raises(UsageError):
                migrate(LogSite.at(old), tmp_path / "third", SqliteSettings())
            assert not (tmp_path / ".third.moving").exists()
        migrate(LogSite.at(old), new, SqliteSettings())
        assert not append(old, b"late")
        assert append(new, b"on")
        assert intact(new).size == SIZE + 1 + any(taken)
        for folder in (old, new, building):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(pristine, old)
    assert count > 15


def test_nothing_is_frozen_for_a_copy_that_cannot_be_made(log, tmp_path):
    settings = PostgresSettings(database="host=/nowhere dbname=x", objects=f"file://{tmp_path}/objects")
    with pytest.raises(ChopmarkError):
        migrate(LogSite.at(log), tmp_path / "new", settings)
    assert append(log, b"on")


def test_a_log_that_was_moved_is_not_moved_again_from_where_it_was(log, tmp_path):
    migrate(LogSite.at(log), tmp_path / "new", SqliteSettings())
    shutil.rmtree(tmp_path / "new")  # or carried to another machine: nobody knows here
    with pytest.raises(UsageError) as caught:
        migrate(LogSite.at(log), tmp_path / "new", SqliteSettings())
    assert caught.value.code == "log-frozen"
    with pytest.raises(UsageError):
        succeed(LogSite.at(log), tmp_path / "next", origin="log.life/m2")


def test_a_copy_of_an_altered_log_gets_no_keys(log, tmp_path):
    change(
        log, "ledger.db", "UPDATE bundle SET data = ? WHERE idx = 0", encode_bundle([b"x%d" % n for n in range(256)])
    )
    with pytest.raises(Refused) as caught:
        migrate(LogSite.at(log), tmp_path / "new", SqliteSettings())
    assert caught.value.code == "log-fork"
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / ".new.moving" / "keys").exists()


def test_an_ended_log_may_be_copied_and_no_copy_goes_on(log, tmp_path):
    LogSite.at(log).ledger.freeze()
    for name in ("one", "two"):
        migrate(LogSite.at(log), tmp_path / name, SqliteSettings())
        migrate(LogSite.at(log), tmp_path / name, SqliteSettings())
        assert not append(tmp_path / name, b"late")
        assert intact(tmp_path / name).size == SIZE


def test_who_is_external_is_carried_along(log, tmp_path):
    (log / "policy.txt").write_text(WITNESSED)
    config = log / "ledger.toml"
    config.write_text(config.read_text().replace("external = []", 'external = ["w"]'))
    witnessed(log)
    migrate(LogSite.at(log), tmp_path / "moved", SqliteSettings())
    site = LogSite.at(tmp_path / "moved")
    assert (site.place.external, site.witnessed()) == (("w",), "witnessed: w (external: w)")
    site.export(tmp_path / "files")
    site.ledger.freeze()
    assert succeed(site, tmp_path / "next", origin="log.life/m2").external == ("w",)
    arguments = {"vkeys": site.place.require, "policy": site.place.policy, "keys": None}
    with pytest.raises(DecodeError):
        fetch(str(tmp_path / "files"), tmp_path / "copy", **arguments, external=["nobody"])
    assert not (tmp_path / "copy").exists()
    assert fetch(str(tmp_path / "files"), tmp_path / "copy", **arguments, external=["w"]).place.external == ("w",)


# Imports


@pytest.fixture
def served(log, tmp_path):
    site = LogSite.at(log)
    site.export(tmp_path / "files")
    return tmp_path / "files", site.place.require


def fetched(files, folder, require, **options):
    arguments = {"vkeys": require, "policy": None, "keys": None, **options}
    return fetch(str(files), folder, **arguments)


@pytest.mark.parametrize(
    "name",
    ["tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/001", "tile/entries/002.p/88", "checkpoint"],
)
def test_an_altered_log_is_not_imported(served, tmp_path, name):
    files, require = served
    path = files / name
    good = path.read_bytes()
    path.write_bytes(good[:-40] + bytes([good[-40] ^ 1]) + good[-39:])
    with pytest.raises(VerificationError):
        fetched(files, tmp_path / "copy", require)
    assert LogSite.at(tmp_path / "copy").stores[1].head().size == 0  # nobody is promised anything
    path.write_bytes(good)
    fetched(files, tmp_path / "copy", require)
    assert intact(tmp_path / "copy").size == SIZE


def test_an_import_of_another_log_or_with_other_keys(served, log, tmp_path):
    files, require = served
    create_log(tmp_path / "else", origin=ORIGIN, once=True)
    others = LogSite.at(tmp_path / "else").place.require
    with pytest.raises(Refused) as caught:
        fetched(files, tmp_path / "copy", others)
    assert caught.value.code == "log-unproven"
    with pytest.raises(UsageError):
        fetched(files, tmp_path / "copy", require)  # the place is of the other log
    with pytest.raises(UsageError):
        fetched(files, tmp_path / "none", ())
    fetched(files, tmp_path / "mirror", require)
    with pytest.raises(UsageError):
        fetched(files, tmp_path / "mirror", require, keys=tmp_path / "else" / "keys")
    assert not append(tmp_path / "mirror", b"mine")


def test_a_mirror_notices_a_fork_and_a_rollback(served, log, tmp_path):
    files, require = served
    fetched(files, tmp_path / "copy", require)
    older = shutil.copytree(files, tmp_path / "older")
    forked = Path(shutil.copytree(log, tmp_path / "forked"))
    append(log, b"one")
    LogSite.at(log).export(files)
    fetched(files, tmp_path / "copy", ())
    with pytest.raises(Refused) as caught:
        fetched(older, tmp_path / "copy", ())
    assert caught.value.code == "log-rollback"
    append(forked, b"other")
    append(forked, b"and more")
    LogSite.at(forked).export(tmp_path / "lies")
    with pytest.raises(Refused) as caught:
        fetched(tmp_path / "lies", tmp_path / "copy", ())
    assert caught.value.code == "log-fork"
    assert intact(tmp_path / "copy").size == SIZE + 1


def test_an_import_without_the_quorum_that_was_asked_for(served, log, tmp_path):
    files, require = served
    policy = WitnessPolicy.parse(WITNESSED)
    with pytest.raises(Refused) as caught:
        fetched(files, tmp_path / "copy", require, policy=policy)
    assert caught.value.code == "log-unwitnessed"
    witnessed(log)
    append(log, b"one")
    LogSite.at(log).export(files)
    site = fetched(files, tmp_path / "copy", ())
    assert site.stores[1].head().witnessed
    assert intact(tmp_path / "copy").cosigned_by == ("w",)


@pytest.mark.slow
def test_an_import_killed_anywhere_goes_on(served, log, tmp_path, monkeypatch):
    files, require = served
    stepping(monkeypatch)
    copy, count = tmp_path / "copy", 0
    for _ in killed_everywhere(lambda: fetched(files, copy, require, keys=log / "keys"), at=POINTS):
        count += 1
        if (copy / "keys").exists():
            assert intact(copy).size == SIZE
        fetched(files, copy, require, keys=log / "keys")
        assert intact(copy).size == SIZE
        shutil.rmtree(copy)
    assert count > 5


# Collecting and pruning


def test_gc_that_would_drop_a_needed_tile(log, tmp_path):
    files = tmp_path / "files"
    LogSite.at(log).export(files)
    objects = FolderObjects(files)
    for size in (100, 300):  # what earlier publications left
        for path in (f"tile/0/{size // 256:03}", f"tile/entries/{size // 256:03}"):
            whole = (files / path).read_bytes() if size < 512 else b""
            width = size % 256
            part = (
                whole[: width * 32] if "/0/" in path else encode_bundle([b"%d" % n for n in range(size - width, size)])
            )
            objects.create(f"{path}.p/{width}", part)
    (files / "tile/0/001").unlink()  # the full one is gone: its beginning is all there is
    whole = (files / "tile/entries/000").read_bytes()
    (files / "tile/entries/000").write_bytes(whole[:-1])  # the full one is cut short
    (files / "tile/entries/001.p/44").write_bytes(b"\x00\x01x" * 44)  # not the beginning of its full one
    objects.create("tile/0/000.p/077", b"")  # spelt otherwise: not a path in a log
    before = {name: (files / name).read_bytes() for name in objects.names("")}
    seen = collect(objects, apply=False)
    assert {name: (files / name).read_bytes() for name in objects.names("")} == before
    found = collect(objects, apply=True)
    assert found == seen
    gone = set(before) - set(objects.names(""))
    assert gone == {"tile/0/000.p/100"}
    assert found.odd == ("tile/entries/001.p/44",)
    assert found.freed_bytes == 3200


def test_gc_with_a_forged_or_missing_checkpoint_loses_nothing(log, tmp_path):
    files = tmp_path / "files"
    site = LogSite.at(log)
    site.export(files)
    objects = FolderObjects(files)
    note = (files / "checkpoint").read_bytes()
    (files / "checkpoint").write_bytes(note.replace(b"\n600\n", b"\n9999\n"))
    collect(objects, apply=True)
    (files / "checkpoint").write_bytes(note)
    report = fsck_files(objects, origin=ORIGIN, require=site.place.require, policy=NONE)
    assert report.problems == ()
    for forged in (None, b"nonsense"):
        (files / "checkpoint").unlink() if forged is None else (files / "checkpoint").write_bytes(forged)
        with pytest.raises(VerificationError):
            collect(objects, apply=True)


def test_nothing_is_pruned_without_a_policy_or_before_it_was_published(log):
    site = LogSite.at(log)
    with pytest.raises(UsageError) as caught:
        prune(*site.stores, keep_newest=None, policy=NONE, apply=True)
    assert caught.value.code == "no-retention"
    asked = WitnessPolicy.parse(WITNESSED)
    assert prune(*site.stores, keep_newest=1, policy=asked, apply=True).entries == 0  # no witness saw anything
    assert prune(*site.stores, keep_newest=1, policy=NONE, apply=False).entries == 512
    assert site.stores[0].state().minimum == 0


def test_a_damaged_bundle_is_not_pruned_away(log):
    change(log, "ledger.db", "UPDATE bundle SET data = ? WHERE idx = 1", encode_bundle([b"x"] * 256))
    site = LogSite.at(log)
    with pytest.raises(VerificationError) as caught:
        prune(*site.stores, keep_newest=1, policy=NONE, apply=True)
    assert caught.value.code == "ledger-corrupt"
    assert site.stores[0].state().minimum == 0


@pytest.mark.parametrize("minimum", [256, 100, -256, 10**9, 512])
def test_a_minimum_that_was_edited_is_found(log, minimum):
    change(log, "ledger.db", "UPDATE state SET minimum = ?", minimum)
    site = LogSite.at(log)
    assert not fsck(*site.stores, [VerifierKey.decode(key) for key in site.place.require]).ok


def test_evidence_can_be_written_as_json(served, tmp_path):
    files, require = served
    fetched(files, tmp_path / "copy", require)
    append(tmp_path / "log", b"x")
    (files / "checkpoint").write_bytes(b"x")
    with pytest.raises(VerificationError) as caught:
        fetched(files, tmp_path / "copy", ())
    json.dumps(dict(caught.value.evidence), default=str)
