# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from chopmark.apps.cli.main import run
from chopmark.artifacts import Digest
from chopmark.errors import MovedError, UndecidedError, UsageError
from chopmark.ledger.index import About, Answer, IndexRoot, update
from chopmark.ledger.index.build import derive
from chopmark.statements import Envelope, Signature, encode_envelope, publication_leaf, statement_leaf
from unit.ledger.index_kit import HONEST, World, revocation, statement

KEY = "model:digits"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_presence_and_absence(world):
    world.append(statement("digits"), statement("faces"), publication_leaf(Digest.of(b"s")), b"no leaf of ours")
    done = world.update()
    assert (done.new, done.published, done.state.size) == (4, 0, 4)
    assert world.indices(KEY) == (0,)
    assert world.indices("signer:aa") == (0, 1)
    assert world.indices("predicate:channel") == (2,)
    assert world.indices("model:none") == ()
    found = world.verify(world.look(KEY), KEY)
    assert (found.source, found.published.index) == (world.source.checkpoint, 0)
    assert found.published.cosigned_by == ("w0",)
    assert found.published.cosigned_at is not None


def test_an_empty_log_is_about_nothing(world):
    world.feed(world.source)
    world.update()
    assert world.indices(KEY) == ()
    world.mirror()


def test_one_key_alone(world):
    only = About(version=HONEST.version, keys=lambda leaf: (KEY,))
    world.append(b"a", b"b")
    world.update(about=only)
    assert world.indices(KEY) == (0, 1)
    assert world.indices("model:other") == ()


def test_growth_and_nothing_new(world):
    for n in range(4):
        world.append(statement("digits", n), statement("faces", n))
        assert world.update().published == n
        assert world.indices(KEY) == tuple(range(0, 2 * n + 2, 2))
    assert world.update().published is None
    found = world.mirror([world.look(KEY)])
    assert (found.roots, found.answers, found.state.size) == (4, 1, 8)
    world.append(revocation("digits"))
    world.update()
    assert world.mirror().roots == 5


def test_a_list_of_many_chunks(world, monkeypatch):
    monkeypatch.setattr("chopmark.ledger.index.build.MAX_PAIRS", 1000)
    world.append(*(statement("digits", n) for n in range(1500)))
    world.update()
    assert world.indices(KEY) == tuple(range(1500))
    again = world.open_store("again.db")
    world.mirror(name="again.db")
    assert again.state().root == world.store.state().root


def test_a_statement_that_stands_elsewhere_is_found_by_its_envelope_alone(world):
    large = Envelope(payload=b"x" * 70_000, signatures=(Signature("aa", b"1"),))
    world.append(statement_leaf(large))
    world.update()
    assert world.indices(f"digest:{Digest.of(encode_envelope(large))}") == (0,)
    assert world.indices("signer:aa") == ()


def test_only_what_witnesses_saw_is_covered(world):
    world.source.append([statement("digits")])
    world.source.signed_checkpoint()
    with pytest.raises(UndecidedError) as caught:
        world.update()
    assert caught.value.code == "not-witnessed-yet"
    world.feed(world.source)
    world.source.append([statement("digits", 1)])
    world.source.signed_checkpoint()
    assert world.update().state.size == 1


def test_an_answer_waits_for_the_witnesses_of_the_root(world):
    world.append(statement("digits"))
    world.update()
    world.append(statement("digits", 1))
    note, source = world.read(world.source)
    update(world.store, source, note, world.own, about=HONEST)
    with pytest.raises(UndecidedError) as caught:
        world.look(KEY)
    assert caught.value.code == "index-moving"
    world.feed(world.own)
    assert world.indices(KEY) == (0, 1)


def test_an_update_that_was_overtaken_publishes_nothing(world, monkeypatch):
    """Its root would be that of more entries than its checkpoint has."""
    monkeypatch.setattr("chopmark.ledger.index.build.MAX_PAIRS", 4)
    world.append(*(statement("digits", n) for n in range(4)))
    note, source = world.read(world.source)

    def overtake(_done, _size):
        if world.source.checkpoint.size == 4:
            world.append(*(statement("digits", n) for n in range(4, 8)))
            assert world.update().published == 0

    done = update(world.store, source, note, world.own, about=HONEST, progress=overtake)
    assert done.published is None
    assert world.own.checkpoint.size == 1
    world.mirror()


def test_an_update_whose_map_moved_on_says_so(world, monkeypatch):
    world.append(statement("digits"))
    note, source = world.read(world.source)
    world.append(statement("digits", 1))
    larger = world.read(world.source)[1]

    def overtake(_done, _size):
        with world.store.exclusive():
            world.store.write(derive(world.store, larger, 2, {KEY: [1]}))

    with pytest.raises(MovedError):
        update(world.store, source, note, world.own, about=HONEST, progress=overtake)
    assert world.own.checkpoint.size == 0


def test_a_list_that_does_not_fit_into_an_answer(world, monkeypatch):
    world.append(*(statement("digits", n) for n in range(200)))
    world.update()
    monkeypatch.setattr("chopmark.ledger.index.build.MAX_ANSWER_BYTES", len(world.look(KEY)) - 1)
    with pytest.raises(UsageError, match="200 entries are more"):
        world.look(KEY)


def test_another_function_begins_another_index(world):
    world.append(statement("digits"))
    world.update()
    other = About(version="chopmark/about/v2", keys=HONEST.keys)
    with pytest.raises(UsageError):
        world.update(about=other)


def test_what_is_written_is_read(world):
    world.append(statement("digits"))
    world.update()
    for key in (KEY, "model:none"):
        data = world.look(key)
        assert Answer.decode(data).encode() == data
    entry = world.own.entry(0)
    assert IndexRoot.decode(entry).encode() == entry


# The commands


def call(capsys, *words):
    code = run([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_commands_on_a_log_of_its_own(tmp_path, monkeypatch, capsys):
    assert run(["ledger", "create", str(tmp_path / "log"), "--origin", "log.example/m"]) == 0
    monkeypatch.chdir(tmp_path / "log")
    for number, leaf in enumerate([statement("digits"), statement("faces"), revocation("digits")]):
        (tmp_path / f"{number}.json").write_bytes(leaf)
    capsys.readouterr()
    index = ("ledger", "index")
    assert call(capsys, *index, "look", KEY)[0] == 2
    assert call(capsys, "ledger", "append", *(str(tmp_path / f"{n}.json") for n in range(3)))[0] == 0
    code, said = call(capsys, *index, "update")
    assert (code, said["size"], said["new"], said["published"]) == (0, 3, 3, 0)
    answer = str(tmp_path / "digits.json")
    assert call(capsys, *index, "look", KEY, "--out", answer)[1]["indices"] == [0, 2]
    assert call(capsys, *index, "verify", answer, "--key", KEY, "--at-least", "3")[1]["indices"] == [0, 2]
    assert call(capsys, *index, "verify", answer, "--key", KEY, "--at-least", "4")[1]["error"] == "index-behind"
    code, said = call(capsys, *index, "verify", answer, "--key", "model:faces")
    assert (code, said["error"]) == (1, "index-other-key")
    served = str(tmp_path / "served")
    assert run(["ledger", "export", served]) == run(["-w", "index", "ledger", "export", f"{served}/index"]) == 0
    capsys.readouterr()
    code, said = call(capsys, *index, "mirror", served, "--answer", answer)
    assert (code, said["roots"], said["behind"], said["answers"]) == (0, 1, 0, 1)
    elsewhere = tmp_path / "elsewhere"  # somebody who has the configuration, and no key and no store
    (elsewhere / "other").mkdir(parents=True)
    for name in ("ledger.toml", "policy.txt"):
        (elsewhere / "other" / name).write_bytes((tmp_path / "log" / name).read_bytes())
    for name in ("ledger.toml", "policy.txt", "index/ledger.toml", "index/policy.txt"):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_bytes((tmp_path / "log" / name).read_bytes())
    monkeypatch.chdir(elsewhere)
    assert call(capsys, *index, "verify", answer, "--key", KEY)[1]["indices"] == [0, 2]
    assert call(capsys, *index, "mirror", f"file://{served}")[1]["roots"] == 1
    monkeypatch.chdir(elsewhere / "other")  # and somebody who makes an index of their own of it
    assert call(capsys, *index, "update", "--from", served)[1]["published"] == 0
    assert call(capsys, *index, "look", KEY)[1]["indices"] == [0, 2]


def test_the_commands_in_a_workspace(tmp_path, monkeypatch, capsys):
    from chopmark.apps.cli.wiring import WITNESS, Site
    from chopmark.ledger import WitnessPolicy
    from chopmark.ledger.feed import feed

    assert run(["init", str(tmp_path / "acme"), "--port", "18520"]) == 0
    monkeypatch.chdir(tmp_path / "acme")
    capsys.readouterr()
    site = Site.at(tmp_path / "acme")
    site.ledger.append([statement("digits")])
    code, said = call(capsys, "ledger", "index", "update")
    assert (code, said["error"]) == (3, "not-witnessed-yet")
    feed(site.ledger, WitnessPolicy.parse(site.trust.witness_policy), {WITNESS: site.own_witness()})
    assert call(capsys, "ledger", "index", "update")[1]["size"] == 1
    assert call(capsys, "ledger", "index", "look", KEY)[1]["indices"] == [0]
    assert (tmp_path / "acme/.chopmark/index/ledger.toml").is_file()
