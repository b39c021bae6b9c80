# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from chopmark.adapters.blobs import logfiles
from chopmark.adapters.blobs.logfiles import FolderObjects
from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.errors import DecodeError, MovedError, UsageError, VerificationError
from chopmark.ledger import WitnessPolicy, leaf_hash, verify_inclusion
from chopmark.ledger.collect import collect
from chopmark.ledger.files import LedgerFiles, files
from chopmark.ledger.fsck_files import verify_log
from chopmark.ledger.migrate import copy_log, mirror
from chopmark.ledger.place import Retention, SqliteSettings, read_log_place, write_log_config, write_policy
from chopmark.ledger.ports import LogStore
from chopmark.ledger.prune import prune
from chopmark.ledger.static import StaticLog, newest_note
from chopmark.ledger.tiles import bundle_path, tile_path, tile_shape
from unit.ledger.kit import NONE, ORIGIN, close, make_ledger, make_witness, open_ledger, policy_of

SIZE = 1000


@pytest.fixture
def ledger(tmp_path):
    ledger = make_ledger(tmp_path)
    ledger.append([b"%d" % n for n in range(SIZE)])
    ledger.signed_checkpoint()
    yield ledger
    close(ledger)


def stores(ledger):
    return ledger._store, ledger._heads


def pruned(ledger, keep):
    return prune(*stores(ledger), keep_newest=keep, policy=NONE, apply=True)


def test_pruned_entries_are_gone_and_all_proofs_stay(ledger, tmp_path):
    path = ledger.prove_consistency(10, SIZE)
    done = pruned(ledger, 300)
    assert (done.minimum, done.entries) == (512, 512)
    assert done.freed_bytes == sum(2 + len(b"%d" % n) for n in range(512))
    assert pruned(ledger, 300).entries == pruned(ledger, 900).entries == 0  # it only grows
    with pytest.raises(UsageError) as caught:
        ledger.entries(511, 513)
    assert caught.value.code == "entry-pruned"
    assert ledger.entries(512, 514) == (b"512", b"513")
    assert ledger.prove_consistency(10, SIZE) == path
    assert ledger.append([b"3"]) == (3,)  # logged once is logged once
    served = LedgerFiles(store=ledger._store, heads=ledger._heads)
    assert served.find(bundle_path(0)) is served.find(bundle_path(1)) is served.find(bundle_path(1, 9)) is None
    assert served.find(bundle_path(2)) is not None
    assert served.find(tile_path(0, 0)) is not None
    assert {path for path, _, _ in files(ledger._store, SIZE) if "entries" in path} == {
        bundle_path(2),
        bundle_path(3, SIZE % 256),
    }
    report = ledger.fsck(NONE)
    assert (report.ok, report.minimum) == (True, 512)
    close(ledger)
    again = open_ledger(tmp_path)
    again.append([b"more %d" % n for n in range(300)])
    assert again.fsck(NONE).ok
    again.export(tmp_path / "files")
    log = StaticLog(FolderObjects(tmp_path / "files"), again.checkpoint)
    for index in (5, 600):  # whoever kept a pruned entry proves it as before
        verify_inclusion(leaf_hash(b"%d" % index), index, SIZE + 300, log.prove_inclusion(index), again.checkpoint.root)
    assert list(log.entries(512, 513)) == [b"512"]
    with pytest.raises(VerificationError):
        list(log.entries(0, 1))
    close(again)


def test_nothing_is_pruned_beyond_what_was_published(ledger):
    ledger.append([b"%d" % n for n in range(SIZE, 5000)])
    assert pruned(ledger, 1).entries == 0  # this head is not signed yet
    ledger.signed_checkpoint()
    assert pruned(ledger, 5000).entries == 0
    assert pruned(ledger, 1).minimum == 4864


def copies(tmp_path, name, *, once=True):
    folder = tmp_path / name
    return sql_ledger.create(folder / "ledger.db", ORIGIN, once=once), sql_head.create(folder / "head.db", ORIGIN)


def test_a_copy_of_a_pruned_log(ledger, tmp_path):
    pruned(ledger, 300)
    ledger.freeze(moved_to="there")
    target = copies(tmp_path, "copy")
    told = []
    state = copy_log(stores(ledger), target, progress=lambda *numbers: told.append(numbers))
    assert told == [(512, SIZE), (SIZE, SIZE)]
    assert (state.size, state.minimum, state.frozen) == (SIZE, 512, False)
    assert copy_log(stores(ledger), target) == state
    assert target[1].head().note == ledger.signed_checkpoint()
    for store in target:
        store.close()
    copy = open_ledger(tmp_path / "copy")
    assert copy.fsck(NONE).ok
    assert copy.append([b"4", b"new"]) == (4, SIZE)
    close(copy)


def test_only_a_frozen_log_is_copied(ledger, tmp_path):
    with pytest.raises(VerificationError) as caught:
        copy_log(stores(ledger), copies(tmp_path, "copy"))
    assert caught.value.code == "not-frozen"


def test_a_mirror_of_a_log_with_entries_twice(tmp_path):
    folder = tmp_path / "log"
    store, heads = copies(tmp_path, "log", once=False)
    store.close()
    heads.close()
    ledger = open_ledger(folder)
    ledger.append([b"same"] * 700)
    assert ledger.fsck(NONE).ok
    ledger.export(tmp_path / "files")
    objects = FolderObjects(tmp_path / "files")
    note = newest_note(objects)
    require = [key.encode() for key in ledger.verifier_keys]
    seen = verify_log(note, origin=ORIGIN, require=require, policy=NONE)
    target = copies(tmp_path, "copy", once=False)
    assert mirror(StaticLog(objects, seen.checkpoint), target, note=note, witnessed=None).size == 700
    assert target[1].head().note == note
    close(ledger)
    for each in target:
        each.close()


def test_two_imports_at_once(ledger, tmp_path):
    ledger.export(tmp_path / "files")
    objects = FolderObjects(tmp_path / "files")
    target = copies(tmp_path, "copy", once=False)
    log = StaticLog(objects, ledger.checkpoint)

    def other(done, total):
        raise AssertionError

    class Racing(StaticLog):
        def entries(self, start, end):
            if start == 0 and target[0].state().size == 0:
                mirror(log, target, note=newest_note(objects), witnessed=None)
            return super().entries(start, end)

    with pytest.raises(MovedError):
        mirror(Racing(objects, ledger.checkpoint), target, note=newest_note(objects), witnessed=None, progress=other)
    assert target[1].head().size == SIZE
    for each in target:
        each.close()


def test_partial_files_of_many_publications_are_collected(ledger, tmp_path):
    objects = FolderObjects(tmp_path / "files")
    ledger.export(tmp_path / "files")
    entries = ledger.entries(0, SIZE)
    for size in range(10, SIZE, 90):
        for path, data in partial_files(entries, size):
            objects.create(path, data)
    found = collect(objects, apply=True)
    assert found.files > 10
    assert found.odd == ()
    left = [name for name in objects.names("tile/") if ".p/" in name]
    assert {name.rpartition("/")[0] for name in left} == {"tile/0/003.p", "tile/1/000.p", "tile/entries/003.p"}
    assert collect(objects, apply=True).files == 0
    assert not (tmp_path / "files" / "tile" / "0" / "000.p").exists()


def partial_files(entries, size):
    """The partial files of a checkpoint of *size* entries, on the lowest level."""
    from chopmark.ledger import encode_bundle

    start = size // 256 * 256
    for level, full, width in tile_shape(size)[:1]:
        if width:
            yield tile_path(level, full, width), b"".join(map(leaf_hash, entries[start:size]))
            yield bundle_path(full, width), encode_bundle(entries[start:size])


def test_a_folder_of_objects(tmp_path):
    objects = FolderObjects(tmp_path / "files")
    assert objects.create("tile/0/000.p/1", b"one")
    assert not objects.create("tile/0/000.p/1", b"other")
    assert objects.find("tile/0/000.p/1", max_bytes=3) == b"one"
    assert objects.find("tile/0/001", max_bytes=3) is None
    objects.replace("checkpoint", b"a")
    objects.replace("checkpoint", b"b")
    assert sorted(objects.names("")) == ["checkpoint", "tile/0/000.p/1"]
    assert list(objects.names("tile/0")) == ["tile/0/000.p/1"]
    assert list(objects.names("tile/1")) == []
    objects.remove("tile/0/000.p/1")
    objects.remove("tile/0/000.p/1")
    assert list((tmp_path / "files" / "tile" / "0").iterdir()) == []
    for path in ("../outside", "/etc/passwd", "a//b", "a/./b", ""):
        with pytest.raises(UsageError):
            objects.remove(path)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "files" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError):
        objects.find("link", max_bytes=100)


def test_a_folder_that_is_collected_under_a_writer_is_made_again(tmp_path, monkeypatch):
    objects = FolderObjects(tmp_path / "files")
    made = logfiles.make_folder
    calls = []

    def collected(folder):
        made(folder)
        if len(calls) < 3:
            folder.rmdir()
        calls.append(folder)

    monkeypatch.setattr(logfiles, "make_folder", collected)
    assert objects.create("tile/0/000.p/1", b"one")
    assert objects.find("tile/0/000.p/1", max_bytes=3) == b"one"
    assert len(calls) == 4


def test_what_a_store_need_not_have(ledger):
    assert LogStore.bundle(ledger._store, 1) == ledger._store.bundle(1)
    assert LogStore.reader(ledger._store) is None


def test_a_configuration_with_a_retention_policy(ledger, tmp_path):
    require = [key.encode() for key in ledger.verifier_keys]
    witness = make_witness("wit", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    (tmp_path / "policy.txt").write_bytes(write_policy(require, policy))
    config = write_log_config(ORIGIN, require, SqliteSettings(), retention=Retention(keep_newest=7))
    (tmp_path / "ledger.toml").write_bytes(config)
    place = read_log_place(tmp_path)
    assert place.retention == Retention(keep_newest=7)
    assert (place.policy.witnesses, place.policy.groups) == (policy.witnesses, policy.groups)
    assert [log.key.encode() for log in place.policy.logs] == require
    for wrong in (b"keep_newest = 0", b"keep_newest = -1", b"keep_days = 3", b"keep_newest = 7.5"):
        (tmp_path / "ledger.toml").write_bytes(config.replace(b"keep_newest = 7", wrong))
        with pytest.raises(DecodeError):
            read_log_place(tmp_path)


def test_opaque_names_of_a_policy_are_written_back():
    text = b"witness w\xff VKEY https://w.example\ngroup g\xfe 1 w\xff\nquorum g\xfe\n"
    key = make_witness("wit", []).verifier_keys[0].encode().encode()
    policy = WitnessPolicy.parse(text.replace(b"VKEY", key))
    assert write_policy([], policy) == text.replace(b"VKEY", key)
