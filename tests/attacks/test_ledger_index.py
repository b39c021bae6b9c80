# SPDX-License-Identifier: Apache-2.0
"""Attacks on the index: by who makes it, by who hands an answer over, by who can write its files, and by a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from chopmark.adapters.sql.index import SqliteIndex
from chopmark.canonical import encode
from chopmark.errors import ChopmarkError, Refused, UndecidedError, VerificationError
from chopmark.ledger import Checkpoint, TlogProof, decode_note, sign_checkpoint
from chopmark.ledger.index import Answer, IndexRoot, TrustedLog, key_hash, update, verify_index_answer
from chopmark.ledger.index.lists import list_root
from chopmark.ledger.index.wire import AnswerLeaf
from chopmark.ledger.sequencer import Ledger
from chopmark.statements import PredicateType
from unit.ledger.index_kit import HONEST, World, omitting, revocation, statement
from unit.ledger.kit import LOG_SIGNERS, make_ledger

KEY = "model:digits"
REVOKED = f"predicate:{PredicateType.REVOCATION}"


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.append(*(statement(name, n) for n in range(3) for name in ("digits", "faces")))
    world.update()
    return world


# By who makes it


def test_an_index_that_omits_a_revocation_is_caught_by_a_mirror(world):
    """Every proof of it verifies; only who reads the whole log sees it, and says which entry is missing from which key."""
    world.mirror()
    entry = revocation("digits")
    (index,) = world.append(entry)
    world.update(about=omitting(entry, KEY))
    assert index not in world.indices(KEY)
    for _ in range(2):  # again at each run
        with pytest.raises(VerificationError) as caught:
            world.mirror()
        assert caught.value.code == "index-differs"
        assert caught.value.evidence["missing"] == [{"key": KEY, "index": index}]
        assert f"index {index} is missing from {KEY}" in caught.value.message
        assert caught.value.exit_code == 1


def test_an_omission_is_no_better_hidden_by_honest_roots_after_it(world):
    entry = revocation("digits")
    (index,) = world.append(entry, statement("digits", 9))[:1]
    world.update(about=omitting(entry, KEY))
    world.append(statement("faces", 9))
    world.update()
    with pytest.raises(VerificationError, match=f"index {index} is missing from {KEY}"):
        world.mirror()


def test_an_entry_that_is_omitted_under_all_its_keys_is_named(world):
    entry = revocation("digits")
    (index,) = world.append(entry)
    world.update(about=omitting(entry))
    with pytest.raises(VerificationError) as caught:
        world.mirror()
    missing = caught.value.evidence["missing"]
    assert {"key": KEY, "index": index} in missing
    assert {"key": REVOKED, "index": index} in missing


def test_an_answer_names_what_trials_do_not_find(world):
    entry = revocation("digits")
    (index,) = world.append(entry)
    world.update(about=omitting(entry, KEY, REVOKED))  # two places of three: neither one nor all
    answers = [world.look(KEY), world.look(REVOKED)]
    with pytest.raises(VerificationError) as caught:
        world.mirror()
    assert caught.value.evidence["missing"] == []
    assert KEY in caught.value.evidence["keys"]
    with pytest.raises(VerificationError) as caught:
        world.mirror(answers)
    assert caught.value.evidence["missing"] == [{"key": KEY, "index": index}, {"key": REVOKED, "index": index}]


def test_an_index_that_adds_what_is_not_there_is_caught(world):
    invented = replace(HONEST, keys=lambda leaf: (*HONEST.keys(leaf), "model:other"))
    world.append(statement("digits", 9))
    world.update(about=invented)
    with pytest.raises(VerificationError, match="not the map") as caught:
        world.mirror()
    assert caught.value.code == "index-differs"


def test_two_roots_of_one_size_are_an_alarm(world):
    world.own.append(
        [IndexRoot(about=HONEST.version, checkpoint_note=world.read(world.source)[0], root=bytes(32)).encode()]
    )
    world.feed(world.own)
    with pytest.raises(VerificationError, match="root 1 of the index"):
        world.mirror()


def test_a_root_that_goes_back_is_an_alarm(world):
    first = IndexRoot.decode(world.own.entry(0))
    world.append(statement("digits", 9))
    world.update()
    note = decode_note(first.checkpoint_note)
    signed = sign_checkpoint(Checkpoint.decode(note.text), LOG_SIGNERS, timestamp=7)  # other bytes: entries stand once
    again = replace(signed, signatures=signed.signatures + note.signatures[-1:]).encode()
    world.own.append([replace(first, checkpoint_note=again).encode()])
    world.feed(world.own)
    with pytest.raises(VerificationError, match="root 2 of the index: covers 6 entries, fewer") as caught:
        world.mirror()
    assert caught.value.code == "index-differs"


def test_an_entry_that_is_no_root_is_an_alarm(world):
    world.own.append([b"hello"])
    world.feed(world.own)
    with pytest.raises(VerificationError, match=r"entry 1 of log\.acme/m/index") as caught:
        world.mirror()
    assert caught.value.evidence["entry"] == b"hello"


def test_an_index_whose_own_log_is_rewritten_is_caught_by_who_mirrored_it(world, tmp_path):
    world.mirror()
    world.own = make_ledger(_folder(tmp_path, "second"), origin=world.own.origin)
    world.policies[world.own.origin] = world.policies[world.own.origin].parse("quorum none\n")
    shutil.rmtree(tmp_path / "served")
    world.append(statement("digits", 9))
    world.update()
    with pytest.raises(Refused) as caught:
        world.mirror()
    assert caught.value.code == "log-fork"
    world.own = make_ledger(_folder(tmp_path, "third"), origin=world.own.origin)
    world.feed(world.own)
    shutil.rmtree(tmp_path / "served")
    with pytest.raises(Refused) as caught:
        world.mirror()
    assert caught.value.code == "log-rollback"


def test_an_answer_of_an_index_that_is_shown_to_one_reader_is_caught(world, tmp_path):
    """The index's keys sign a second log of roots for a victim; the mirror sees that the two do not fit."""
    world.policies[world.own.origin] = world.policies[world.own.origin].parse("quorum none\n")
    honest, world.own = world.own, make_ledger(_folder(tmp_path, "victim"), origin=world.own.origin)
    entry = revocation("digits")
    world.append(entry)
    world.store = world.open_store("lie.db")
    world.update(about=omitting(entry, KEY))
    lie = world.look(KEY)
    assert world.verify(lie, KEY).source.size == 7
    world.own, world.store = honest, world.open_store()
    world.update()
    with pytest.raises(Refused) as caught:
        world.mirror([lie])
    assert caught.value.code == "log-fork"


def test_a_log_that_rewrites_history_under_its_index(world, tmp_path):
    """Neither the index nor its mirror goes on, and both show the two histories."""
    world.mirror()
    world.source = make_ledger(_folder(tmp_path, "second"), origin=world.source.origin)
    world.policies[world.source.origin] = world.policies[world.source.origin].parse("quorum none\n")
    world.source.append([revocation("digits"), *(statement("faces", n) for n in range(9))])
    world.feed(world.source)
    with pytest.raises(Refused) as caught:
        world.update()
    assert caught.value.code == "log-fork"
    assert {"seen", "served"} <= set(caught.value.evidence)
    shutil.rmtree(tmp_path / "served")
    with pytest.raises(Refused) as caught:
        world.mirror()
    assert caught.value.code == "log-fork"


def test_a_mirror_that_is_shown_an_old_log_does_not_say_that_all_is_well(world, tmp_path):
    world.append(statement("digits", 9))
    world.source.export(tmp_path / "old")
    world.append(statement("digits", 10))
    world.update()
    old = world.source
    try:
        world.source = _Exported(tmp_path / "old", old)
        with pytest.raises(UndecidedError) as caught:
            world.mirror()
    finally:
        world.source = old
    assert caught.value.code == "log-behind"


# By who hands an answer over


def refused(world, answer, key=KEY, **asked):
    with pytest.raises(VerificationError) as caught:
        world.verify(answer.encode(), key, **asked)
    return caught.value.code


@pytest.fixture
def answer(world):
    return Answer.decode(world.look(KEY))


def test_a_list_that_is_cut_short_or_altered(world, answer):
    assert answer.indices == (0, 2, 4)
    for indices in ((0, 2), (0, 2, 4, 5), (0, 2, 5), (0, 4, 2), (0, 2, 2), (0, 2, 6), ()):
        assert refused(world, replace(answer, indices=indices)) == "index-list-wrong"


def test_a_list_that_is_cut_short_with_a_leaf_to_fit(world, answer):
    leaf = replace(answer.leaf, count=2, root=list_root((0, 2)))
    assert refused(world, replace(answer, indices=(0, 2), leaf=leaf)) == "index-unproven"


def test_a_key_that_is_hidden(world, answer):
    hidden = replace(answer, indices=())
    assert refused(world, replace(hidden, leaf=None)) == "index-unproven"
    assert refused(world, hidden) == "index-list-wrong"
    # another key's leaf, and another key's whole way
    other = Answer.decode(world.look("model:faces"))
    assert refused(world, replace(hidden, leaf=other.leaf)) == "index-unproven"
    assert refused(world, replace(other, key=KEY, indices=())) == "index-unproven"
    # the way is cut where it passes an inner node, or led on below the leaf
    for path in (answer.path[1:], (bytes(32), *answer.path), ()):
        for leaf in (None, AnswerLeaf(key=key_hash(KEY), count=1, root=bytes(32))):
            assert refused(world, replace(hidden, leaf=leaf, path=path)) == "index-unproven"


def test_a_key_that_is_not_there_cannot_be_invented(world):
    absent = Answer.decode(world.look("model:none"))
    assert world.verify(absent.encode(), "model:none").indices == ()
    assert refused(world, replace(absent, indices=(0,)), "model:none") == "index-list-wrong"
    leaf = AnswerLeaf(key=key_hash("model:none"), count=1, root=list_root((0,)))
    assert refused(world, replace(absent, indices=(0,), leaf=leaf), "model:none") == "index-unproven"


def test_a_proof_of_another_key(world, answer):
    assert refused(world, answer, "model:faces") == "index-other-key"
    assert refused(world, replace(answer, key="model:faces"), "model:faces") in {"index-unproven", "index-list-wrong"}


def test_an_older_root_under_a_new_checkpoint(world, answer):
    """The witnesses' time is that of the newest root, so an older one may not borrow it."""
    world.append(revocation("digits"))
    world.update()
    note, own = world.read(world.own)
    proof = TlogProof(index=0, path=own.prove_inclusion(0), checkpoint_note=note).encode()
    assert refused(world, replace(answer, proof=proof)) == "index-outdated"


def test_an_index_of_a_smaller_log(world, answer):
    assert world.verify(answer.encode(), KEY, at_least=6).source.size == 6
    assert refused(world, answer, at_least=7) == "index-behind"


def test_another_version_of_the_map_or_its_function(world, answer):
    other = replace(world.trusted, about="chopmark/about/v2")
    with pytest.raises(VerificationError) as caught:
        verified(answer, other)
    assert caught.value.code == "index-other-version"
    wire = json.loads(world.own.entry(0))
    with pytest.raises(VerificationError, match="is known here"):
        IndexRoot.decode(encode({**wire, "map": "chopmark/map/v2"}))


def verified(answer, trusted):
    return verify_index_answer(answer.encode(), KEY, trusted=trusted)


def test_another_index_and_another_log(world, answer):
    source, own = world.trusted.source, world.trusted.own
    for trusted in (
        replace(world.trusted, own=source),
        replace(world.trusted, source=own),
        replace(
            world.trusted, own=TrustedLog(origin=own.origin, require=[*own.require, *source.require], policy=own.policy)
        ),
    ):
        with pytest.raises(Refused) as caught:
            verified(answer, trusted)
        assert caught.value.code == "log-unproven"


def test_an_index_or_a_log_that_no_witness_saw(world, answer):
    other = World(_folder(world.folder, "other"))
    for side in ("own", "source"):
        policy = other.trusted.own.policy
        trusted = replace(world.trusted, **{side: replace(getattr(world.trusted, side), policy=policy)})
        with pytest.raises(Refused) as caught:
            verified(answer, trusted)
        assert caught.value.code == "log-unwitnessed"


def test_a_root_that_was_never_published(world, answer):
    wire = json.loads(answer.entry)
    forged = replace(answer, entry=encode({**wire, "root": json.loads(answer.encode())["leaf"]["root"]}))
    assert refused(world, forged) == "log-unproven"


def test_every_byte_of_an_answer_counts(world, answer):
    """Flipped anywhere, an answer is refused, or says the same (a witness's line of no known key may be altered)."""
    data = answer.encode()
    for at in range(0, len(data), 7):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            found = world.verify(changed, KEY)
        except ChopmarkError:
            continue
        assert found.indices == answer.indices, at


# By who can write its files


def test_whatever_is_changed_in_the_map_is_noticed_or_harmless(world, tmp_path):
    """A changed row gives no answer and publishes no root that the log does not say."""
    world.append(*(statement("digits", n) for n in range(100, 400)))
    world.update()
    truth = world.indices(KEY)
    world.append(statement("digits", 1000))
    world.store.close()
    shutil.copy(tmp_path / "map.db", tmp_path / "good.db")
    noticed = dict.fromkeys(("page", "list", "chunk"), 0)
    for table, number in [
        *(("page", n) for n in range(0, 40, 4)),
        *(("list", n) for n in range(0, 40, 4)),
        ("chunk", 0),
    ]:
        shutil.copy(tmp_path / "good.db", tmp_path / "map.db")
        _flip(tmp_path / "map.db", table, number, KEY if table == "chunk" else None)
        world.store = world.open_store()
        found = _indices_or_code(world)
        world.store.close()
        assert found in {truth, "index-damaged"}
        noticed[table] += found != truth
    shutil.copy(tmp_path / "good.db", tmp_path / "map.db")
    _flip(tmp_path / "map.db", "list", 0, KEY)
    world.store = world.open_store()
    with pytest.raises(VerificationError) as caught:
        world.update()
    assert caught.value.code == "index-damaged"
    assert noticed["page"] > 0
    assert noticed["chunk"] == 1


def test_a_damaged_map_publishes_nothing(world, tmp_path):
    entry = statement("digits", 9)
    world.append(entry)
    with closing(sqlite3.connect(tmp_path / "map.db")) as connection:
        _change(connection, ("page", "data", "path"), b"", at=-1)
    with pytest.raises(VerificationError) as caught:
        world.update()
    assert caught.value.code == "index-damaged"
    assert world.own.checkpoint.size == 1
    world.store.close()
    (tmp_path / "map.db").unlink()  # what the hint says
    world.store = world.open_store()
    assert world.update().published == 1
    assert world.indices(KEY) == (0, 2, 4, 6)
    world.mirror()


def test_a_map_that_was_restored_or_removed_is_made_again(world, tmp_path):
    world.store.close()
    shutil.copy(tmp_path / "map.db", tmp_path / "old.db")
    world.store = world.open_store()
    world.append(statement("digits", 9))
    done = world.update()
    world.store.close()
    shutil.copy(tmp_path / "old.db", tmp_path / "map.db")
    world.store = world.open_store()
    with pytest.raises(UndecidedError) as caught:
        world.look(KEY)
    assert caught.value.code == "index-moving"
    again = world.update()
    assert (again.state.root, again.published) == (done.state.root, None)


def test_a_map_that_was_exchanged_publishes_nothing(world, tmp_path):
    lie = world.open_store("lie.db")
    note, source = world.read(world.source)
    scratch = make_ledger(_folder(tmp_path, "scratch"), origin=world.own.origin)
    update(lie, source, note, scratch, about=omitting(statement("digits", 0), KEY))
    world.append(statement("digits", 9))
    with pytest.raises(VerificationError) as caught:
        world.update(store=lie)
    assert caught.value.code == "index-differs"
    assert world.own.checkpoint.size == 1


# By a kill


@pytest.mark.parametrize("moment", ["before a batch", "inside a batch", "before the root", "after the root"])
def test_killed_anywhere_an_update_goes_on(world, moment, monkeypatch):
    """What the map claims to cover it has read, and the root is the one that one run would have made."""
    world.append(*(statement("digits", n) for n in range(100, 160)))
    monkeypatch.setattr("chopmark.ledger.index.build.MAX_PAIRS", 50)
    child = os.fork()
    if child == 0:
        try:
            _die(moment)
            world.update()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    world.store.close()
    world.store = world.open_store()
    done = world.update()
    assert done.state.size == 66
    assert world.own.checkpoint.size == 2
    assert world.indices(KEY) == (0, 2, 4, *range(6, 66))
    world.mirror()


def _die(moment):
    def die(*_args, **_kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    def then_die(function, after):
        def wrapped(*args, **kwargs):
            wrapped.calls += 1
            value = function(*args, **kwargs)
            return value if wrapped.calls < after else die()

        wrapped.calls = 0
        return wrapped

    match moment:
        case "before a batch":
            SqliteIndex.write = die
        case "inside a batch":
            SqliteIndex.write = then_die(SqliteIndex.write, 3)
        case "before the root":
            Ledger.append = die
        case _:
            Ledger.append = then_die(Ledger.append, 1)


class _Exported:
    """A log of which somebody serves an old copy."""

    def __init__(self, folder, ledger):
        self.folder = folder
        self.origin, self.verifier_keys = ledger.origin, ledger.verifier_keys

    def export(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)


def _indices_or_code(world):
    try:
        return world.indices(KEY)
    except VerificationError as error:
        return error.code


def _flip(path, table, number, key=None):
    column, name = {"page": ("data", "path"), "list": ("edge", "key"), "chunk": ("data", "key")}[table]
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute(f"SELECT {name} FROM {table} LIMIT 1 OFFSET {number}").fetchone()  # noqa: S608 - names of ours
        _change(connection, (table, column, name), row[0] if key is None else key_hash(key))


def _change(connection, place, value, *, at=None):
    table, column, name = place
    (data,) = connection.execute(f"SELECT {column} FROM {table} WHERE {name} = ?", (value,)).fetchone()  # noqa: S608 - names of ours
    changed = bytearray(data)
    changed[len(data) // 2 if at is None else at] ^= 1
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {name} = ?", (bytes(changed), value))  # noqa: S608 - names of ours
    connection.commit()


def _folder(parent, name):
    (parent / name).mkdir()
    return parent / name
