# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import socket
import threading
from contextlib import closing

import pytest
from litestar.testing import TestClient

from chopmark.adapters.http.ledger import HttpAppender
from chopmark.adapters.kms.file import load_all
from chopmark.adapters.sql.embedded import open_ledger
from chopmark.apps.cli.ledger.wiring import LogSite
from chopmark.apps.cli.main import run
from chopmark.apps.service import wiring
from chopmark.apps.service.append_routes import Appends, append_routes, say_why
from chopmark.apps.service.serve import Address, _listen
from chopmark.apps.service.web import application
from chopmark.artifacts import write_file
from chopmark.clock import SystemClock
from chopmark.errors import DecodeError, UndecidedError, VerificationError
from chopmark.ledger import log_key, witness_key
from chopmark.ledger.feed import feed
from chopmark.ledger.intake import Intake
from chopmark.ledger.place import LOG_CONFIG, PostgresSettings, SqliteSettings, read_log_place, write_log_config
from chopmark.ledger.submit import KnownLog, judged
from chopmark.ledger.tokens import TOKENS, Rates, TokenFile
from unit.http import test_client as fake
from unit.http.test_client import answer
from unit.ledger.kit import ORIGIN, AwayClient, DirectClient, close, make_ledger, make_witness, policy_of
from unit.service.kit import found_workspace, running
from unit.service.logkit import Log, make_log, serving

IMMUTABLE = "public, max-age=31536000, immutable"


@pytest.fixture
def log(tmp_path):
    return make_log(tmp_path / "l")


def headers(log, **more):
    return {"Authorization": f"Bearer {log.tokens['ci']}", "Content-Type": "application/octet-stream", **more}


def serve(log, **settings):
    return TestClient(wiring.log_server(log.place.folder, wiring.LogSettings(**settings)))


def test_files_and_how_long_they_may_be_kept(log):
    with serve(log, public_entries=True) as client:
        assert client.post("/append", content=b"first", headers=headers(log)).status_code == 200
        others = open_ledger(
            log.place.path("ledger.db"),
            log.place.path("head.db"),
            origin=log.place.origin,
            signers=load_all(log.place.keys),
            clock=SystemClock(),
        )
        others.append([b"%d" % n for n in range(256)])
        close(others)
        wanted = {
            "checkpoint": ("text/plain; charset=utf-8", "no-cache"),
            "tile/0/000": ("application/octet-stream", IMMUTABLE),
            "tile/0/001.p/1": ("application/octet-stream", IMMUTABLE),
            "tile/1/000.p/1": ("application/octet-stream", IMMUTABLE),
            "tile/entries/000": ("application/octet-stream", IMMUTABLE),
            "tile/entries/001.p/1": ("application/octet-stream", IMMUTABLE),
        }
        for path, (kind, cache) in wanted.items():
            got, head = client.get(f"/{path}"), client.head(f"/{path}")
            assert (got.status_code, got.headers["content-type"], got.headers["cache-control"]) == (200, kind, cache)
            assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(got.content)), b"")
        for path in (
            "tile/0/001",
            "tile/0/001.p/2",
            "tile/0/000.p/256",
            "tile/0/0",
            "witnessed-checkpoint",
            "tile/9/000",
        ):
            assert client.get(f"/{path}").status_code == 404, path
        tag = client.get("/checkpoint").headers["etag"]
        assert client.get("/checkpoint", headers={"If-None-Match": tag}).status_code == 304


def test_an_answer_in_json_says_the_same(log):
    with serve(log) as client:
        proof = client.post("/append", content=b"one", headers=headers(log))
        assert proof.headers["content-type"] == "text/plain; charset=utf-8"
        assert proof.headers["cache-control"] == "no-store"
        accept = "text/html, application/json;q=0.9"
        told = client.post("/append", content=b"one", headers=headers(log, Accept=accept)).json()
        assert told == {"index": 0, "size": 1, "proof": proof.text}


def test_a_log_that_is_read_only_or_exported_needs_no_key(log, tmp_path):
    with serve(log) as client:
        client.post("/append", content=b"one", headers=headers(log))
        checkpoint = client.get("/checkpoint").content
    for key in log.place.keys.iterdir():
        key.unlink()
    with pytest.raises(UndecidedError):
        serve(log)
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "checkpoint").write_bytes(checkpoint)
    for settings in ({"read_only": True}, {"folder": exported}):
        with serve(log, **settings) as client:
            assert client.get("/checkpoint").content == checkpoint
            assert client.post("/append", content=b"two", headers=headers(log)).status_code == 405


def test_a_log_at_scale_is_read_without_its_database(log, tmp_path):
    with serve(log) as client:
        client.post("/append", content=b"one", headers=headers(log))
    ledger = open_ledger(
        log.place.path("ledger.db"),
        log.place.path("head.db"),
        origin=log.place.origin,
        signers=load_all(log.place.keys),
        clock=SystemClock(),
    )
    ledger.export(tmp_path / "objects")
    close(ledger)
    settings = PostgresSettings(database="host=/nowhere dbname=x", objects=f"file://{tmp_path}/objects")
    (log.place.folder / LOG_CONFIG).write_bytes(write_log_config(log.place.origin, log.place.require, settings))
    with serve(log, read_only=True, public_entries=True) as client:
        for path in ("checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1"):
            assert client.get(f"/{path}").content == (tmp_path / "objects" / path).read_bytes()
        assert client.get("/staging/x").status_code == client.get("/tile/0/001").status_code == 404
    with pytest.raises(UndecidedError):
        serve(log)


@pytest.fixture
def ledger(tmp_path):
    made = make_ledger(tmp_path)
    yield made
    close(made)


def test_with_a_quorum_200_and_without_it_202(ledger, log, capsys):
    witness = make_witness("w0", list(ledger.verifier_keys))
    policy = policy_of([witness], 1)
    clients = {"w0": AwayClient()}
    appends = Appends(
        tokens=TokenFile(log.place.path(TOKENS)),
        rates=Rates(lambda: 0.0),
        intake=Intake(ledger, feed=say_why(lambda: feed(ledger, policy, clients))),
    )
    known = KnownLog(origin=ORIGIN, require=[key.encode() for key in ledger.verifier_keys], policy=policy)
    with TestClient(application(append_routes(appends), close=[appends.close])) as client:
        for _ in range(2):
            away = client.post("/append", content=b"one", headers=headers(log))
            assert away.status_code == 202
            assert not judged(away.content, b"one", known).witnessed
        clients["w0"] = DirectClient(witness)
        back = client.post("/append", content=b"one", headers=headers(log))
        assert back.status_code == 200
        assert judged(back.content, b"one", known).included.cosigned_by == ("w0",)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in said] == ["log-unwitnessed", "enough of them cosign again"]


def test_a_witness_that_hangs_keeps_no_client_and_no_shutdown(ledger, log):
    hang = threading.Event()
    appends = Appends(
        tokens=TokenFile(log.place.path(TOKENS)),
        rates=Rates(lambda: 0.0),
        intake=Intake(ledger, feed=hang.wait),
        patience_s=0.05,
    )
    with TestClient(application(append_routes(appends), close=[appends.close])) as client:
        assert [client.post("/append", content=b"one", headers=headers(log)).status_code for _ in range(2)] == [202] * 2
    hang.set()


@pytest.mark.slow
def test_with_a_witness_of_its_own_process(tmp_path):
    founded = found_workspace(tmp_path / "acme")
    close(founded.ledger)
    state = founded.workspace.state
    vkey = witness_key("witness-1", founded.keys["witness-1"][0].public).encode()
    require = [log_key(ORIGIN, signer.public).encode() for signer in founded.keys["log"]]
    config = write_log_config(ORIGIN, require, SqliteSettings())
    write_file(state / LOG_CONFIG, config.replace(b'keys = "keys"', b'keys = "keys/log"'))
    argv = ("witness", "--workspace", str(founded.workspace.folder), "--name", "witness-1", "--create")
    with running(*argv) as (witness, url):
        write_file(state / "policy.txt", f"witness w {vkey} {url}\nquorum w\n".encode())
        log = Log(read_log_place(state))
        log.give("ci")
        with serving(log) as served:
            got = served.append(b"four")
            assert (got.status, judged(got.body, b"four", log.known).included.cosigned_by) == (200, ("w",))
            assert served.ask("GET", "/checkpoint").body == served.ask("GET", "/witnessed-checkpoint").body
            witness.kill()
            witness.wait()
            got = served.append(b"five")
            assert (got.status, judged(got.body, b"five", log.known).witnessed) == (202, False)
            assert served.append(b"four").status == 200  # a quorum saw it before


def test_the_command_says_what_is_proven(log, tmp_path, capsys):
    token, lines = tmp_path / "ci.token", tmp_path / "lines"
    write_file(token, log.tokens["ci"].encode(), mode=0o600)
    lines.write_text("one\ntwo\none\n")
    with serving(log) as served:
        to = ["--to", served.url, "--token-file", str(token), "--proofs", str(tmp_path / "proofs")]
        call = ["-w", str(log.place.folder), "ledger", "append", *to]
        assert run([*call, "--lines", str(lines), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["size"], told["unwitnessed"], sorted(told["indices"])) in [(2, 0, [0, 0, 1]), (2, 0, [0, 1, 1])]
        assert sorted(path.name for path in (tmp_path / "proofs").iterdir()) == ["0.tlog-proof", "1.tlog-proof"]
        assert run([*call, str(lines)]) == 0
        assert "entry 2 of log.example/served, which has 3; proof verified" in capsys.readouterr().out
        write_file(token, b"chopmark-append-" + b"A" * 43, mode=0o600)
        assert run([*call, str(lines)]) == 1
        assert "token-refused" in capsys.readouterr().err
    verify = ["ledger", "verify", str(tmp_path / "proofs/2.tlog-proof"), "--entry", str(lines)]
    assert run(["-w", str(log.place.folder), *verify]) == 0


def test_an_answer_of_two_parts_does_not_wait_for_an_acknowledgement():
    with closing(_listen(Address())) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (b"503 Service Unavailable", UndecidedError, "log-busy"),
        (b"429 Too Many Requests", UndecidedError, "log-busy"),
        (b"500 Internal Server Error", UndecidedError, "unreachable"),
        (b"302 Found", UndecidedError, "unreachable"),
        (b"401 Unauthorized", VerificationError, "token-refused"),
    ],
)
def test_what_a_client_makes_of_an_answer(status, error, code):
    told = json.dumps({"code": "token-refused", "message": "no", "hint": ""}).encode()
    with fake.serving(answer(told, status, b"Location: https://elsewhere.example/\r\n")) as server:
        with pytest.raises(error) as caught:
            HttpAppender(server.url, "a-token").append(b"one")
        assert caught.value.code == code
        assert "a-token" not in repr(vars(caught.value))
        ((line, sent, body),) = server.asked
    assert (line, body) == (b"POST /append HTTP/1.1", b"one")
    assert sent[b"authorization"] == b"bearer a-token"


def test_an_answer_without_end_is_cut():
    with fake.serving(answer(bytes(2 * 1024 * 1024))) as server, pytest.raises(DecodeError):
        HttpAppender(server.url, "a-token").append(b"one")


def test_a_log_that_has_ended_says_so_and_still_proves(log):
    with serve(log) as client:
        assert client.post("/append", content=b"first", headers=headers(log)).status_code == 200
        site = LogSite.at(log.place.folder)
        site.ledger.freeze(moved_to="/srv/secret/place")
        site.close()
        gone = client.post("/append", content=b"second", headers=headers(log))
        assert (gone.status_code, gone.json()["code"]) == (410, "log-frozen")
        assert "/srv" not in gone.text
        again = client.post("/append", content=b"first", headers=headers(log, Accept="application/json"))
        assert (again.status_code, again.json()["index"]) == (200, 0)
    with serve(log) as client:  # started after the end
        assert client.post("/append", content=b"third", headers=headers(log)).status_code == 410
        assert client.get("/checkpoint").status_code == 200
