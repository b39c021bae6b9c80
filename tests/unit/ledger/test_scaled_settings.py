# SPDX-License-Identifier: Apache-2.0
"""What may be said of a database and an object store, and what must not: secrets, unknown options, other places."""

from __future__ import annotations

import pytest

from chopmark.adapters.blobs.logfiles import FolderObjects
from chopmark.adapters.blobs.objects import StoredObjects, open_objects
from chopmark.adapters.sql import link
from chopmark.adapters.sql import postgres as pg
from chopmark.apps.cli.ledger.stores import store_settings
from chopmark.apps.cli.main import run
from chopmark.errors import DecodeError, UndecidedError, UsageError
from chopmark.ledger.place import PostgresSettings, read_log_place, write_log_config
from chopmark.ledger.ports import ObjectStore
from unit.ledger.scaled import KEYS, ORIGIN


@pytest.mark.parametrize(
    "text",
    [
        "host=db password=hunter2",
        "postgresql://log:hunter2@db/log",
        "dbname=log sslpassword=hunter2",
        "postgresql://log:hunter2@db:notaport/log%",
        "host='hunter2",
    ],
)
def test_a_password_is_refused_and_not_repeated(text):
    with pytest.raises(UsageError) as caught:
        link.check_database(text)
    for said in (caught.value.message, caught.value.hint, str(caught.value.evidence), str(caught.value.__cause__)):
        assert "hunter2" not in said


def test_a_password_of_the_command_ends_in_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["ledger", "create", "acme", "--origin", ORIGIN, "--postgres", "host=/nowhere password=hunter2"]
    assert run([*command, "--objects", f"file://{tmp_path}/objects"]) == 2
    assert run(["init", "acme", *command[5:], "--objects", f"file://{tmp_path}/objects"]) == 2
    assert list(tmp_path.iterdir()) == []
    assert "hunter2" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://log", {"secret_access_key": "x"}),
        ("s3://log", {"access_key_id": "x"}),
        ("s3://log", {"session_token": "x"}),
        ("s3://log", {"allow_invalid_certificates": "true"}),
        ("s3://log", {"skip_signature": "true"}),
        ("s3://key:secret@log/x", {}),
        ("s3://log/x?versionId=1", {}),
        ("s3://log/../x", {}),
        ("s3:///x", {}),
        ("gs://log", {"service_account_key": "{}"}),
        ("file://host/folder", {}),
        ("file:///", {}),
        ("file:///folder", {"endpoint": "http://x"}),
        ("http://log", {}),
        ("log", {}),
        ("", {}),
    ],
)
def test_other_places_and_secrets_are_refused(url, options):
    with pytest.raises(UsageError):
        open_objects(url, options)


def test_the_places_that_there_are(tmp_path):
    assert isinstance(open_objects(f"file://{tmp_path}"), FolderObjects)
    for url, options in (
        ("memory:///", {}),
        ("s3://log/some/prefix", {"endpoint": "http://127.0.0.1:1", "region": "eu-central-1"}),
        ("s3://log", {}),
    ):
        assert isinstance(open_objects(url, options), StoredObjects)


def test_settings_are_written_and_read_back(tmp_path):
    settings = store_settings("host=db dbname=log", "s3://acme/log", ["endpoint=https://s3.acme", "region=a=b"])
    assert settings == PostgresSettings(
        database="host=db dbname=log", objects="s3://acme/log", options={"endpoint": "https://s3.acme", "region": "a=b"}
    )
    (tmp_path / "policy.txt").write_text("quorum none\n")
    (tmp_path / "ledger.toml").write_bytes(write_log_config(ORIGIN, [key.encode() for key in KEYS], settings))
    assert read_log_place(tmp_path).store == settings
    assert store_settings(None, None, []) is None
    for wrong in (("x", None, []), (None, "x", []), (None, None, ["a=b"]), ("x", "y", ["a"]), ("x", "y", ["=b"])):
        with pytest.raises(UsageError):
            store_settings(*wrong)


def test_each_log_has_a_schema_of_its_own():
    names = {
        pg.schema_of(origin) for origin in ("log.acme/m", "log.acme/M", "log-acme/m", "log.acme/" + "x" * 300, "木")
    }
    assert len(names) == 5
    assert all(len(name) <= 63 and name.startswith("chopmark_") for name in names)


@pytest.fixture(params=["folder", "memory"])
def objects(request, tmp_path) -> ObjectStore:
    return open_objects("memory:///" if request.param == "memory" else f"file://{tmp_path}/objects")


def test_an_object_is_created_once(objects):
    assert objects.create("tile/0/000", b"first")
    assert not objects.create("tile/0/000", b"second")
    assert objects.find("tile/0/000", max_bytes=5) == b"first"
    with pytest.raises(DecodeError):
        objects.find("tile/0/000", max_bytes=4)
    assert objects.find("tile/0/001", max_bytes=9) is None


def test_an_object_is_replaced_and_removed(objects):
    for data in (b"one", b"two", b""):
        objects.replace("checkpoint", data)
        assert objects.find("checkpoint", max_bytes=9) == data
    objects.remove("checkpoint")
    objects.remove("checkpoint")
    assert objects.find("checkpoint", max_bytes=9) is None


def test_names_begin_with_a_prefix(objects):
    for path in ("checkpoint", "tile/0/000", "tile/0/000.p/5", "tile/entries/000", "staging/1-2-x", "stagingx"):
        objects.create(path, b"x")
    assert sorted(objects.names("tile/0/")) == ["tile/0/000", "tile/0/000.p/5"]
    assert sorted(objects.names("tile/0/000")) == ["tile/0/000", "tile/0/000.p/5"]
    assert sorted(objects.names("staging")) == ["staging/1-2-x", "stagingx"]
    assert len(list(objects.names(""))) == 6
    assert list(objects.names("nothing/")) == []


def test_a_folder_store_stays_in_its_folder(tmp_path):
    store = open_objects(f"file://{tmp_path}/objects")
    for path in ("../x", "a/../../x", "/etc/x", ".hidden", "a//b"):
        with pytest.raises(UsageError):
            store.create(path, b"x")
    (tmp_path / "objects").mkdir(exist_ok=True)
    (tmp_path / "objects" / "link").symlink_to(tmp_path / "elsewhere")
    assert store.find("link", max_bytes=9) is None


def test_a_store_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "objects").write_bytes(b"")
    with pytest.raises(UndecidedError) as caught:
        open_objects(f"file://{tmp_path}/objects").create("a/b", b"x")
    assert caught.value.code == "not-written"
