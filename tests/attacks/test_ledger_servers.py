# SPDX-License-Identifier: Apache-2.0
"""A log at scale on a real PostgreSQL and a real S3 server: killed with SIGKILL, cut off, restored, misconfigured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from chopmark.adapters.blobs.objects import open_objects
from chopmark.adapters.sql import link
from chopmark.adapters.sql import postgres as pg
from chopmark.apps.cli.ledger.wiring import LogSite, create_log
from chopmark.apps.cli.main import run
from chopmark.artifacts import Digest
from chopmark.errors import Refused, UndecidedError, UsageError
from chopmark.ledger import Checkpoint, decode_note, leaf_hash, root_of
from chopmark.ledger.place import read_log_place
from chopmark.ledger.static import StaticLog, newest_note
from chopmark.ledger.verify import verify_checkpoint
from chopmark.statements import publication_leaf
from simulators import servers
from unit.ledger.kit import NONE, ORIGIN
from unit.ledger.scaled import KEYS, some
from unit.ledger.scaled_process import die_at, open_ledger

pytestmark = pytest.mark.slow
ENV = {**os.environ, "PYTHONPATH": ":".join(sys.path)}


@pytest.fixture(scope="module")
def database():
    with servers.postgres() as found:
        yield found


@pytest.fixture
def fresh(database):
    """The database without a log."""
    with psycopg.connect(database) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {pg.schema_of(ORIGIN)} CASCADE")
    return database


@pytest.fixture(scope="module")
def s3():
    with servers.s3() as found, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            patch.setenv(name, found[name])
            patch.setitem(ENV, name, found[name])
        yield {"endpoint": found["endpoint"]}


@pytest.fixture
def folder(fresh, tmp_path):
    """A log of 250 entries on PostgreSQL and a folder: what it is opened with."""
    pg.create(fresh, ORIGIN)
    where = (fresh, f"file://{tmp_path}/objects", {})
    close(open_with(where, some(0, 250)))
    return where


def open_with(where, entries=()):
    ledger = open_ledger(*where)
    ledger.append(list(entries))
    return ledger


def close(ledger):
    ledger._store.close()


def published(where):
    """The entries as a reader without the database finds and verifies them."""
    files = open_objects(*where[1:])
    require = [key.encode() for key in KEYS]
    seen = verify_checkpoint(newest_note(files), origin=ORIGIN, require=require, policy=NONE).checkpoint
    return list(StaticLog(files, seen).entries(0, seen.size))


def in_a_child(action):
    """Run *action* in a process of its own; return how it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(where, point, *, after):
    ledger = open_ledger(*where)
    die_at(point, after=after)
    return ledger


def process(where, *arguments):
    database, url, options = where
    command = [sys.executable, "-m", "unit.ledger.scaled_process", database, url, json.dumps(options), *arguments]
    return subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("after", ["before", "after"])
def test_a_writer_killed_with_sigkill_at_any_call(fresh, tmp_path, after):
    point = 0
    while True:
        point += 1
        where = (fresh, f"file://{tmp_path}/{point}", {})
        with psycopg.connect(fresh) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {pg.schema_of(ORIGIN)} CASCADE")
        pg.create(fresh, ORIGIN)
        close(open_with(where, some(0, 250)))
        code = in_a_child(lambda w=where, n=point: dying(w, n, after=after == "after").append(some(240, 530)))
        ledger = open_with(where)
        assert ledger.fsck(NONE).ok
        assert ledger.checkpoint.size in ({250, 530} if code else {530})
        assert ledger.append(some(240, 530)) == tuple(range(240, 530))
        assert published(where) == some(0, 530)
        assert not list(open_objects(*where[1:]).names("staging/"))
        close(ledger)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert point > 30


@pytest.mark.parametrize("store", ["folder", "s3"])
def test_many_writers_some_of_them_killed(fresh, tmp_path, store, request):
    """Each says what was acknowledged; whatever happens to the others, it is there, where it was said to be."""
    url, options = f"file://{tmp_path}/objects", {}
    if store == "s3":
        url, options = f"s3://log/{tmp_path.name}", request.getfixturevalue("s3")
    where = (fresh, url, options)
    pg.create(fresh, ORIGIN)
    close(open_with(where, some(0, 250)))
    acknowledged = {}
    checkpoints = {}
    for turn in range(3):
        writers = {name: process(where, name) for name in (f"a{turn}", f"b{turn}", f"c{turn}")}
        first = {name: writer.stdout.readline() for name, writer in writers.items()}  # all of them run
        assert all(first.values())
        until = time.monotonic() + 2
        while time.monotonic() < until:
            note = decode_note(newest_note(open_objects(url, options)))
            point = Checkpoint.decode(note.text)
            assert checkpoints.setdefault(point.size, point.root) == point.root
            time.sleep(0.05)
        for name, writer in writers.items():
            writer.kill()
            said = (first[name] + writer.stdout.read()).splitlines(keepends=True)
            lines = [line.split() for line in said if line.endswith("\n")]
            acknowledged |= {b"%s %d" % (name.encode(), int(n)): int(own) for n, own, _ in lines}
            writer.wait()
            writer.stdout.close()
    ledger = open_with(where)
    assert ledger.fsck(NONE).ok
    entries = published(where)
    assert len(acknowledged) > 10
    assert all(entries[index] == entry for entry, index in acknowledged.items())
    assert len(set(entries)) == len(entries)
    leaves = list(map(leaf_hash, entries))
    assert all(root_of(leaves[:size]) == root for size, root in checkpoints.items())
    close(ledger)


def test_a_connection_cut_in_the_middle_of_an_append_keeps_nothing(folder):
    ledger = open_with(folder)
    write = ledger._store.write

    def cut(integration):
        write(integration)
        with psycopg.connect(folder[0], autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )

    ledger._store.write = cut
    with pytest.raises(UndecidedError):
        ledger.append(some(250, 300))
    ledger._store.write = write
    other = open_with(folder, [b"other"])
    assert other.checkpoint.size == 251
    with pytest.raises(UndecidedError):  # the connection for reading was cut too, which shows when it is used
        ledger.append(some(250, 300))
    assert ledger.append(some(250, 300)) == tuple(range(251, 301))
    assert published(folder) == [*some(0, 250), b"other", *some(250, 300)]
    close(ledger)
    close(other)


def test_a_writer_that_has_the_turn_too_long_is_not_waited_for(folder, monkeypatch):
    monkeypatch.setattr(link, "WAIT_SECONDS", 1)
    ledger, other = open_with(folder), open_with(folder)
    with ledger._store.turn(), pytest.raises(UndecidedError) as caught:
        other.append([b"x"])
    assert caught.value.code == "store-busy"
    assert other.append([b"x"]) == (250,)
    close(ledger)
    close(other)


def test_a_database_restored_from_yesterday_is_refused(folder):
    """Yesterday's is a copy of the whole database, as a backup is."""
    yesterday = make_conninfo(folder[0], dbname="yesterday")
    admin = psycopg.connect(make_conninfo(folder[0], dbname="template1"), autocommit=True)
    name = conninfo_to_dict(folder[0])["dbname"]
    admin.execute(f"CREATE DATABASE yesterday TEMPLATE {name}")
    ledger = open_with(folder, some(250, 300))
    note = ledger.signed_checkpoint()
    with pytest.raises(Refused) as caught:
        open_ledger(yesterday, *folder[1:])
    assert caught.value.code == "log-rollback"
    assert Checkpoint.decode(caught.value.evidence["database"]).size == 250
    assert Checkpoint.decode(caught.value.evidence["objects"]).size == 300
    assert caught.value.evidence["signed"] == note
    close(ledger)
    admin.execute("DROP DATABASE yesterday WITH (FORCE)")
    admin.close()


def test_a_server_that_may_forget_is_refused(folder):
    with psycopg.connect(folder[0], autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET fsync = off")
        admin.execute("SELECT pg_reload_conf()")
        try:
            time.sleep(0.5)
            with pytest.raises(UndecidedError) as caught:
                open_ledger(*folder)
            assert caught.value.code == "store-unsafe"
        finally:
            admin.execute("ALTER SYSTEM RESET fsync")
            admin.execute("ALTER SYSTEM SET synchronous_commit = off")
            admin.execute("SELECT pg_reload_conf()")
        time.sleep(0.5)
        ledger = open_with(folder)
        assert ledger._store._sequence._writer.one("SHOW synchronous_commit") == ("on",)
        close(ledger)
        admin.execute("ALTER SYSTEM RESET synchronous_commit")
        admin.execute("SELECT pg_reload_conf()")


def test_a_log_that_is_not_in_the_database_is_said(fresh, tmp_path):
    with pytest.raises(UndecidedError) as caught:
        open_ledger(fresh, f"file://{tmp_path}", {})
    assert caught.value.code == "store-missing"
    with pytest.raises(UndecidedError) as caught:
        open_ledger(make_conninfo(fresh, dbname="nowhere"), f"file://{tmp_path}", {})
    assert caught.value.code == "store-busy"
    pg.create(fresh, ORIGIN)
    with pytest.raises(UsageError):
        pg.create(fresh, ORIGIN)


def test_the_commands_on_postgresql_and_s3(fresh, s3, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "entry").write_bytes(b"an entry")
    url = f"s3://log/{tmp_path.name}"
    create = ["ledger", "create", "acme", "--origin", ORIGIN, "--postgres", fresh, "--objects", url]
    create += ["--option", f"endpoint={s3['endpoint']}"]
    assert run([*create[:-1], "secret_access_key=x"]) == 2
    assert not (tmp_path / "acme").exists()
    assert run(create) == 0
    text = (tmp_path / "acme" / "ledger.toml").read_text()
    assert 'kind = "postgresql"' in text
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in text
    assert run([*create[:2], "again", *create[3:]]) == 2, "the prefix and the tables are taken"
    capsys.readouterr()
    monkeypatch.chdir(tmp_path / "acme")
    assert run(["ledger", "append", "../entry", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["indices"] == [0]
    assert run(["ledger", "append", "../entry"]) == 0
    assert run(["ledger", "checkpoint"]) == 0
    assert run(["ledger", "fsck"]) == 0
    place = read_log_place(tmp_path / "acme")
    note = newest_note(open_objects(url, s3))
    seen = verify_checkpoint(note, origin=ORIGIN, require=place.require, policy=NONE).checkpoint
    assert list(StaticLog(open_objects(url, s3), seen).entries(0, 1)) == [b"an entry"]


def test_a_life_on_postgresql_and_s3(fresh, s3, tmp_path, monkeypatch, capsys):
    url, option = f"s3://log/{tmp_path.name}", f"endpoint={s3['endpoint']}"
    create_log(tmp_path / "small", origin=ORIGIN, once=True)
    monkeypatch.chdir(tmp_path / "small")
    options = ["--to", "postgresql", "--database", fresh, "--objects", url, "--option", option]
    assert run(["ledger", "migrate", "../large", *options]) == 0
    monkeypatch.chdir(tmp_path / "large")
    site = LogSite.at(tmp_path / "large")
    for at in range(0, 700, 100):
        site.ledger.append(some(at, at + 100))
    objects = open_objects(url, s3)
    objects.create("staging/of-somebody", b"x")
    capsys.readouterr()
    assert run(["ledger", "gc", url, "--option", option, "--apply", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] > 5
    assert "staging/of-somebody" in set(objects.names(""))
    config = tmp_path / "large" / "ledger.toml"
    config.write_text(config.read_text() + "\n[retention]\nkeep_newest = 100\n")
    for command in (["fsck"], ["prune", "--apply"], ["fsck"]):
        assert run(["ledger", *command]) == 0
    assert not [path for path in objects.names("tile/entries/") if not path.startswith("tile/entries/002")]
    assert run(["ledger", "migrate", "../back"]) == 0
    close(site.ledger)
    assert run(["ledger", "append", "ledger.toml"]) == 2, "it ended here"
    monkeypatch.chdir(tmp_path / "back")
    for command in (["fsck"], ["append", "ledger.toml"], ["freeze"], ["fsck"]):
        assert run(["ledger", *command]) == 0


def test_a_workspace_on_postgresql_and_s3(fresh, s3, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    url = f"s3://log/{tmp_path.name}"
    with psycopg.connect(fresh) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {pg.schema_of('log.acme/m')} CASCADE")
    options = ["--postgres", fresh, "--objects", url, "--option", f"endpoint={s3['endpoint']}"]
    assert run(["init", "acme", *options]) == 0
    monkeypatch.chdir(tmp_path / "acme")
    assert "[ledger.options]" in (tmp_path / "acme" / "chopmark.toml").read_text()
    assert not (tmp_path / "acme" / ".chopmark" / "ledger.db").exists()
    (tmp_path / "entry").write_bytes(publication_leaf(Digest.of(b"a snapshot")))
    assert run(["ledger", "append", "../entry"]) == 0
    assert run(["ledger", "fsck"]) == 0
    assert run(["ledger", "entries"]) == 0
    assert newest_note(open_objects(url, s3)).startswith(b"log.acme/m\n1\n")
    capsys.readouterr()
