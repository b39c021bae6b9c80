# SPDX-License-Identifier: Apache-2.0
"""What whoever reaches a log's server can do to it, with a token and without: a real process, real sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chopmark.adapters.http.ledger import HttpAppender
from chopmark.apps.service import wiring
from chopmark.artifacts import Digest
from chopmark.errors import ChopmarkError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.ledger import Checkpoint, TlogProof, decode_note, verify_proof
from chopmark.ledger.ports import LogServer
from chopmark.ledger.submit import judged, submit
from chopmark.ledger.tokens import TOKENS, revoke_token
from chopmark.statements import Envelope, PredicateType, Statement, Subject, sign, statement_leaf
from unit.ledger.kit import LOG_SIGNERS, NONE, close, make_ledger
from unit.service.kit import Founded, found_workspace
from unit.service.logkit import Answer, Log, Served, make_log, serving

WAITING = 4
HEAD = "POST /append HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/octet-stream\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = make_log(tmp_path_factory.mktemp("log") / "l")
    options = ("--read-timeout-s", "1", "--waiting", str(WAITING), "--behind-proxy")
    with serving(log, *options) as made:
        yield made


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Founded]:
    made = found_workspace(tmp_path_factory.mktemp("acme"))
    yield made
    close(made.ledger)


def size(served: Served) -> int:
    return Checkpoint.decode(decode_note(served.ask("GET", "/checkpoint").body).text).size


def raw(served: Served, request: bytes) -> bytes:
    """Send bytes; return all that comes until the server ends it."""
    with socket.create_connection(served.address) as client:
        client.settimeout(10)
        client.sendall(request)
        data = b""
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65_536):
                data += part
        return data


def head(served: Served) -> str:
    return HEAD.format(token=served.log.tokens["ci"])


# Who may


def test_without_a_right_token_nothing_is_logged_and_nothing_is_told(served: Served) -> None:
    token = served.log.tokens["ci"]
    gone = served.log.give("gone")
    assert served.append(b"before", token=gone).status == 200
    revoke_token(served.log.place.path(TOKENS), "gone")
    hashed = next(iter(served.log.place.path(TOKENS).read_text().split('"sha256":"')[1:]))[:64]
    before = size(served)
    answers = {
        name: served.ask(
            "POST",
            "/append",
            b"x",
            Content_Type="application/octet-stream",
            **({"Authorization": value} if value else {}),
        )
        for name, value in {
            "none": "",
            "guessed": "Bearer chopmark-append-" + "A" * 43,
            "revoked": f"Bearer {gone}",
            "a name": "Bearer ci",
            "what is kept": f"Bearer {hashed}",
            "another scheme": f"Basic {token}",
            "no scheme": token,
            "cut short": f"Bearer {token[:-1]}",
            "longer": f"Bearer {token}x",
            "two": f"Bearer {gone}, Bearer {token}",
        }.items()
    }
    assert {name: a.status for name, a in answers.items()} == dict.fromkeys(answers, 401)
    assert len({a.body for a in answers.values()}) == 1
    assert len({tuple(sorted(set(a.headers) - {"date"})) for a in answers.values()}) == 1
    assert size(served) == before


def test_a_header_that_comes_twice_is_read_as_none(served: Served) -> None:
    twice = head(served) + f"Authorization: Bearer {served.log.tokens['ci']}\r\nConnection: close\r\n"
    assert raw(served, f"{twice}Content-Length: 1\r\n\r\nx".encode()).startswith(b"HTTP/1.1 401 ")
    types = head(served) + "Content-Type: application/octet-stream\r\nConnection: close\r\n"
    assert raw(served, f"{types}Content-Length: 1\r\n\r\nx".encode()).startswith(b"HTTP/1.1 415 ")


def test_a_token_file_that_others_may_read_lets_nobody_in(served: Served) -> None:
    path = served.log.place.path(TOKENS)
    path.chmod(0o644)
    try:
        got = served.append(b"open")
        assert (got.status, got.headers["retry-after"]) == (503, "30")
        assert str(path).encode() not in got.body
        assert served.ask("GET", "/checkpoint").status == 200
    finally:
        path.chmod(0o600)
    assert served.append(b"closed again").status == 200


# What they send


def test_an_entry_that_is_too_long_is_refused_however_it_comes(served: Served) -> None:
    longest = bytes(65_535)
    assert served.append(longest).status == 200
    assert served.append(longest + b"x").status == 413
    token = f"Bearer {served.log.tokens['ci']}"
    typed = {"Authorization": token, "Content_Type": "application/octet-stream", "Transfer_Encoding": "chunked"}
    parts = (bytes(4096) for _ in range(17))
    before = size(served)
    with contextlib.suppress(ConnectionError):  # it may be ended before all of it is sent
        assert served.ask("POST", "/append", parts, chunked=True, **typed).status == 413
    assert served.ask("POST", "/append", iter([b"in", b" parts"]), chunked=True, **typed).status == 200
    assert served.append(b"in parts").status == 200
    assert size(served) == before + 1
    assert served.append(b"").status == 400


def test_a_body_that_says_it_is_something_else_is_refused(served: Served) -> None:
    for kind in (
        "",
        "text/plain",
        "application/json",
        "application/octet-stream; charset=utf-8",
        "multipart/form-data",
    ):
        assert served.append(b"typed", **{"Content-Type": kind}).status == 415, kind
    assert served.append(b"typed", Content_Encoding="gzip").status == 415


def test_a_body_that_never_ends_is_ended(served: Served) -> None:
    start = time.monotonic()
    assert raw(served, f"{head(served)}Content-Length: 9\r\n\r\nab".encode()) == b""
    assert raw(served, f"{head(served)}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n".encode()) == b""
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    "lengths", ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 5\r\nContent-Length: 6"]
)
def test_an_entry_of_two_lengths_is_refused_and_what_follows_is_not_read(served: Served, lengths: str) -> None:
    smuggled = f"0\r\n\r\n{head(served)}Content-Length: 8\r\n\r\nsmuggled"
    got = raw(served, f"{head(served)}{lengths}\r\n\r\n{smuggled}".encode())
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 1


def test_other_methods_and_paths_reach_nothing(served: Served) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        assert served.ask(method, "/append").status == 405, method
    assert served.ask("POST", "/checkpoint", b"x").status == 405
    assert raw(served, b"FROBNICATE /append HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(
        b"HTTP/1.1 405 "
    )
    paths = ("append-tokens.json", "ledger.toml", "head.db", "keys/ed25519.pem", "tile/../append-tokens.json", "tile")
    odd = (
        "..%2fappend-tokens.json",
        "%2e%2e/keys/ed25519.pem",
        "tile/0/%2e%2e/%2e%2e/ledger.toml",
        "//ledger.toml",
        "%00",
    )
    for path in (*paths, *odd):
        assert served.ask("GET", f"/{path}").status in (404, 400), path


def test_entries_are_not_for_everybody(served: Served) -> None:
    assert served.append(b"not for everybody").status == 200
    have = size(served)
    assert served.ask("GET", f"/tile/0/000.p/{have}").status == 200
    for path in (f"tile/entries/000.p/{have}", f"tile/%65ntries/000.p/{have}", f"tile//entries/000.p/{have}"):
        assert served.ask("GET", f"/{path}").status == 404


# How much


def test_a_token_that_is_used_too_fast_is_told_so_and_others_are_not(served: Served) -> None:
    slow = served.log.give("slow", per_minute=3)
    answers = [served.append(b"flood", token=slow) for _ in range(6)]
    assert [a.status for a in answers] == [200] * 3 + [429] * 3
    assert {a.headers["retry-after"] for a in answers[3:]} <= {str(s) for s in range(15, 21)}
    assert served.append(b"flood").status == 200


def test_what_waits_is_bounded_and_whoever_comes_later_is_told_when(served: Served) -> None:
    """Somebody else holds the log for a while; one batch is at work and the rest of what may wait waits."""
    held = sqlite3.connect(served.log.place.path("ledger.db"), isolation_level=None)
    with contextlib.closing(held), ThreadPoolExecutor(24) as pool:
        held.execute("BEGIN IMMEDIATE")
        asked = [pool.submit(served.append, b"waiting %d" % n) for n in range(24)]
        until = time.monotonic() + 10
        while sum(future.done() for future in asked) < 24 - WAITING and time.monotonic() < until:
            time.sleep(0.01)
        assert served.ask("GET", "/tile/0/000.p/1").status == 200  # who reads does not wait
        refused = [future.result() for future in asked if future.done()]
        held.execute("ROLLBACK")
        answers = [future.result() for future in asked]
    assert {a.status for a in refused} == {503}
    assert {a.headers["retry-after"] for a in refused} == {"1"}
    assert sum(a.status == 200 for a in answers) == WAITING


def test_half_sent_entries_take_no_place(served: Served) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(WAITING * 5):
            client = held.enter_context(socket.create_connection(served.address))
            client.sendall(f"{head(served)}Content-Length: 9\r\n\r\nhalf".encode())
        assert served.append(b"whole").status == 200


def test_a_flood_is_not_remembered(served: Served) -> None:
    """Three hundred clients send as much as they can; what the process holds stays small."""
    big = f"{head(served)}Content-Length: 10000000\r\n\r\n".encode() + bytes(1_000_000)
    endless = f"{head(served)}Transfer-Encoding: chunked\r\n\r\nffffff\r\n".encode() + bytes(1_000_000)
    nobody = b"POST /append HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + bytes(1_000_000)
    before = memory_kib(served, "VmRSS")

    def send(data: bytes) -> None:
        with contextlib.suppress(OSError), socket.create_connection(served.address, timeout=2) as client:
            client.sendall(data)
            client.recv(1024)

    with ThreadPoolExecutor(60) as pool:
        list(pool.map(send, [big, endless, nobody] * 100))
    assert memory_kib(served, "VmHWM") - before < 100 * 1024
    until = time.monotonic() + 10
    while served.append(b"after the flood").status != 200:
        assert time.monotonic() < until


def memory_kib(served: Served, what: str) -> int:
    lines = Path(f"/proc/{served.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1])


# What is kept


def test_a_token_is_nowhere_but_with_its_holder(tmp_path: Path) -> None:
    log = make_log(tmp_path / "l")
    token = log.tokens["ci"]
    with serving(log) as served:
        answers = [
            served.append(b"one"),
            served.append(b"one", Accept="application/json"),
            served.append(b"one", token=token + "x"),
            served.append(b"", **{"Content-Type": "text/plain"}),
            served.ask("POST", f"/append/{token}", b"x"),
        ]
        assert all(token.encode() not in a.body + repr(a.headers).encode() for a in answers)
        assert token not in Path(f"/proc/{served.process.pid}/cmdline").read_text()
        served.process.send_signal(signal.SIGTERM)
        said = served.process.communicate(timeout=20)[1]
    assert "chopmark-append-" not in said
    held = b"".join(path.read_bytes() for path in log.place.folder.rglob("*") if path.is_file())
    assert token.encode() not in held
    assert token.removeprefix("chopmark-append-").encode() not in held


@pytest.mark.parametrize("kills", [(40,), pytest.param((40, 100, 200, 400, 800), marks=pytest.mark.slow)])
def test_every_acknowledged_entry_survives_kill_9_and_none_is_there_twice(
    tmp_path: Path, kills: tuple[int, ...]
) -> None:
    log = make_log(tmp_path / "l")
    acknowledged: dict[bytes, int] = {}
    tried: set[bytes] = set()
    stop = threading.Event()

    def client(number: int, served: Served) -> None:
        way = HttpAppender(served.url, log.tokens["ci"])
        for count in range(10_000):
            entry = b"%d of client %d" % (count, number)
            tried.add(entry)
            try:
                proof = way.append(entry)
            except ChopmarkError:
                return
            acknowledged[entry] = judged(proof, entry, log.known).included.index
            if stop.is_set():
                return

    for turn, kill_after in enumerate(kills):
        with serving(log) as served:
            assert_kept(served, acknowledged)
            with ThreadPoolExecutor(8) as pool:
                for number in range(8):
                    pool.submit(client, number + 8 * turn, served)
                until = time.monotonic() + 20
                while len(acknowledged) < kill_after and time.monotonic() < until:
                    time.sleep(0.005)
                os.kill(served.process.pid, signal.SIGKILL)
                served.process.wait()
    with serving(log) as served:
        assert_kept(served, acknowledged)
        every = {entry: index_of(served.append(entry), entry, log) for entry in tried}
        assert len(set(every.values())) == len(every) == size(served)
        assert acknowledged.items() <= every.items()
    assert len(acknowledged) >= kills[-1]


def assert_kept(served: Served, acknowledged: dict[bytes, int]) -> None:
    assert size(served) >= len(acknowledged)
    for entry, index in list(acknowledged.items())[-3:]:
        assert index_of(served.append(entry), entry, served.log) == index


def index_of(answer: Answer, entry: bytes, log: Log) -> int:
    assert answer.status == 200, answer
    return judged(answer.body, entry, log.known).included.index


def test_a_client_that_goes_away_has_logged_its_entry(served: Served) -> None:
    entry = b"and gone"
    before = size(served)
    with socket.create_connection(served.address) as client:
        client.sendall(f"{head(served)}Content-Length: {len(entry)}\r\n\r\n".encode() + entry)
    until = time.monotonic() + 10
    while size(served) == before:
        assert time.monotonic() < until
    index = index_of(served.append(entry), entry, served.log)
    assert index == before


def test_a_log_that_keeps_entries_twice_takes_none_over_http(tmp_path: Path) -> None:
    from chopmark.apps.cli.ledger.wiring import create_log

    place = create_log(tmp_path / "l", origin="log.example/twice", once=False)
    with pytest.raises(UsageError, match="twice"):
        wiring.log_server(place.folder, wiring.LogSettings())
    wiring.log_server(place.folder, wiring.LogSettings(read_only=True))


# A server that lies


class Liar(LogServer):
    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer

    def _append(self, entry: bytes) -> bytes:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_client_believes_a_proof_of_its_own_entry_alone(served: Served, tmp_path: Path) -> None:
    log = served.log.known
    good = served.append(b"mine").body
    other = served.append(b"another's").body
    forged = make_ledger(tmp_path, origin=log.origin, signers=LOG_SIGNERS)
    index = forged.append([b"mine"])[0]
    foreign = forged.proofs([index], witnessed=False)[0]
    close(forged)
    moved = TlogProof.decode(good)
    wrong = TlogProof(index=moved.index + 1, path=moved.path, checkpoint_note=moved.checkpoint_note).encode()
    assert submit(Liar(good), b"mine", log, sleep=pytest.fail).witnessed
    for answer in (
        other,
        foreign,
        wrong,
        b"",
        b"200 OK",
        good[:-2],
        good + b"\n",
        served.ask("GET", "/checkpoint").body,
    ):
        with pytest.raises(Refused) as refused:
            submit(Liar(answer), b"mine", log, sleep=pytest.fail)
        assert refused.value.code == "log-unproven"


def test_a_server_that_never_answers_is_given_up(served: Served) -> None:
    pauses: list[float] = []
    with pytest.raises(UndecidedError):
        submit(Liar(OSError("no route")), b"mine", served.log.known, sleep=pauses.append)
    assert len(pauses) == 1
    with pytest.raises(UndecidedError):
        submit(Liar(UndecidedError("busy", code="log-busy")), b"mine", served.log.known, sleep=pauses.append)
    assert sum(pauses) < 60


def test_a_token_does_not_cross_the_network_in_the_clear() -> None:
    for url in ("http://log.example/models", "http://10.0.0.1", "http://localhost.example", "http://127.0.0.1.example"):
        with pytest.raises(UsageError, match="token"):
            HttpAppender(url, "chopmark-append-" + "A" * 43)


# Statements alone


def statement(kind: PredicateType, name: str = "model/digits") -> Statement:
    subject = Subject(name, Digest.of(b"model"))
    return Statement(subjects=(subject,), predicate_type=kind, predicate={"result": "PASSED"})


def test_what_nobody_may_say_is_not_logged(founded: Founded) -> None:
    folder, keys = founded.workspace.folder, founded.keys
    log = Log(founded.workspace.log_place(founded.trust))
    log.give("ci")
    result = sign(statement(PredicateType.TEST_RESULT), keys["tester"])
    forged = Envelope(payload=result.payload.replace(b"PASSED", b"FAILED"), signatures=result.signatures)
    half = sign(statement(PredicateType.RELEASE), keys["owner-a"])
    wrong = sign(statement(PredicateType.RELEASE), keys["tester"])
    elsewhere = sign(statement(PredicateType.TEST_RESULT, "device/x"), keys["tester"])
    large = Statement(
        subjects=(Subject("model/digits", Digest.of(b"model")),),
        predicate_type=PredicateType.TEST_RESULT,
        predicate={"notes": "x" * 70_000},
    )
    entries = {
        "no statement": (b"anything", 400, "undecodable"),
        "not canonical": (statement_leaf(result) + b" ", 400, "undecodable"),
        "changed": (statement_leaf(forged), 403, "statement-unsigned"),
        "one of two owners": (statement_leaf(half), 403, "statement-unsigned"),
        "the wrong role": (statement_leaf(wrong), 403, "statement-forbidden"),
        "the wrong subject": (statement_leaf(elsewhere), 403, "statement-forbidden"),
        "a digest alone": (statement_leaf(sign(large, keys["tester"])), 403, "statement-elsewhere"),
    }
    with serving(log, "--require-signature", "--waiting", "16") as served:
        before = size(served)
        for name, (entry, status, code) in entries.items():
            got = served.append(entry)
            assert (got.status, code.encode() in got.body) == (status, True), (name, got)
        assert size(served) == before
        both = sign(statement(PredicateType.RELEASE), keys["owner-a"] + keys["owner-b"])
        for envelope in (result, both):
            entry = statement_leaf(envelope)
            got = served.append(entry)
            assert got.status == 200
            verify_proof(got.body, entry, origin=log.place.origin, require=log.place.require, policy=NONE)
    with pytest.raises((UsageError, VerificationError)):
        wiring.log_server(make_log(folder.parent / "alone").place.folder, wiring.LogSettings(require_signature=True))


def test_what_would_stop_a_reader_of_the_workspace_is_not_logged(founded: Founded) -> None:
    log = Log(founded.workspace.log_place(founded.trust))
    log.give("poisoner")
    result = sign(statement(PredicateType.TEST_RESULT), founded.keys["tester"])
    with serving(log) as served:
        for entry in (b"anything", b'{"kind":"statement","v":1}', statement_leaf(result)[:-1]):
            got = served.append(entry, token=log.tokens["poisoner"])
            assert (got.status, b"not-a-leaf" in got.body) == (400, True), got
        entry = statement_leaf(result)
        assert served.append(entry, token=log.tokens["poisoner"]).status == 200
