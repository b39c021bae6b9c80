# SPDX-License-Identifier: Apache-2.0
"""Attacks on adopting: by who serves a model, by who may sign something else, and by who would go on after the date."""

from __future__ import annotations

import http.server
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from chopmark.adapters.http.download import download
from chopmark.apps.cli.adopt import _find
from chopmark.errors import ChopmarkError, DecodeError, UndecidedError, UsageError, VerificationError
from chopmark.policy import NOBODY, Allowed, Phase, adoption_policy_file, decide, lineage
from chopmark.release import Gate, propose
from chopmark.release.adopt import adoption_statement
from chopmark.statements import sign, verify_any
from simulators import NOW, StandingClock
from unit.release.kit import Shop, inspection, people
from unit.release.test_adopt import (
    CANDIDATE,
    MODEL,
    PACKAGE,
    POLICY,
    UNTIL,
    adoption,
    decided,
    facts,
    failed,
    packaged,
    tiny_model,
)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers by path; remembers what it was told."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        match self.path.split("?")[0]:
            case "/model.onnx":
                self._answer(200, tiny_model())
            case "/loop":
                self._move("/loop")
            case "/once":
                self._move("/model.onnx")
            case "/file":
                self._move("file:///etc/passwd")
            case "/short":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"x" * 10)
            case "/long":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(bytes(200_000))
            case "/said":
                self.send_response(200)
                self.send_header("Content-Length", str(10**12))
                self.end_headers()
            case "/zipped":
                self._answer(200, b"\x1f\x8b\x08" + bytes(20), encoding="gzip")
            case other:
                self._drip(other) if other.startswith("/drip") else self._answer(404, b"")

    def _drip(self, path: str) -> None:
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Slow: " if "head" in path else b"\r\n"))
            for _ in range(100):
                self.wfile.write(b"a")
                time.sleep(0.1)

    def _answer(self, status: int, body: bytes, *, encoding: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def _move(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Server,), {"seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}", handler.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as (address, _):
        yield address


# Who serves it.


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/loop", UndecidedError),
        ("/file", UsageError),
        ("/short", ChopmarkError),
        ("/long", DecodeError),
        ("/said", DecodeError),
        ("/missing", UndecidedError),
    ],
)
def test_a_server_that_lies_leaves_no_file(url, path, error, tmp_path: Path):
    with pytest.raises(error):
        download(f"{url}{path}", tmp_path / "model", max_bytes=100_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/drip-head", "/drip-body"])
def test_a_byte_now_and_then_does_not_keep_a_download_for_ever(url, path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("chopmark.adapters.http.download.PATIENCE_S", 0.5)
    start = time.monotonic()
    with pytest.raises(UndecidedError):
        download(f"{url}{path}", tmp_path / "model", max_bytes=100_000)
    assert time.monotonic() - start < 5
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_a_path_downloads_nothing(url, tmp_path: Path):
    site = SimpleNamespace(workspace=SimpleNamespace(packages=tmp_path / "a" / "packages"))
    with pytest.raises(UsageError, match="is not a name"):
        list(_find(site, f"{url}/model.onnx", "../../../out", 100_000))
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_is_followed_and_nothing_is_unpacked(url, tmp_path: Path):
    download(f"{url}/once", tmp_path / "model", max_bytes=100_000)
    assert (tmp_path / "model").read_bytes() == tiny_model()
    download(f"{url}/zipped", tmp_path / "zipped", max_bytes=100_000)
    assert (tmp_path / "zipped").read_bytes()[:2] == b"\x1f\x8b"


def test_a_file_that_stands_there_is_not_overwritten(url, tmp_path: Path):
    (tmp_path / "model").write_bytes(b"mine")
    with pytest.raises(ChopmarkError):
        download(f"{url}/model.onnx", tmp_path / "model", max_bytes=100_000)
    assert (tmp_path / "model").read_bytes() == b"mine"


def test_a_password_goes_to_its_host_and_into_no_error(tmp_path: Path):
    with serving() as (address, seen):
        secret = address.replace("http://", "http://user:hunter2@")
        download(f"{secret}/once", tmp_path / "model", max_bytes=100_000)
        assert [bool(line) for line in seen] == [True, False]  # a redirect may lead to anybody
        with pytest.raises(UndecidedError) as caught:
            download(f"{secret}/missing", tmp_path / "other", max_bytes=100_000)
    with pytest.raises(UndecidedError) as gone:
        download(f"{secret}/model.onnx", tmp_path / "other", max_bytes=100_000)
    for error in (caught.value, gone.value):
        assert "hunter2" not in error.message + error.hint + str(error.evidence)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path):
    import subprocess

    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with serving(tls) as (address, seen):
        with pytest.raises(UndecidedError):
            download(f"{address}/model.onnx", tmp_path / "model", max_bytes=100_000)
        assert seen == []
    assert not (tmp_path / "model").exists()


# What lies in the folder.


def test_links_and_pipes_in_a_folder_are_passed_over(tmp_path: Path, capsys):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(tiny_model())
    (folder / "passwd.onnx").symlink_to("/etc/passwd")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.onnx")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s.onnx"))
        found = list(_find(None, str(folder), None, 0))  # type: ignore[arg-type]
    assert [f.path.name for f in found] == ["model.onnx"]
    assert "passed over" in capsys.readouterr().err


def test_no_path_of_this_machine_and_no_escape_stands_in_a_statement(tmp_path: Path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "evil\x1b[31m.onnx").write_bytes(tiny_model())
    (folder / os.fsdecode(b"\xff\xfe.onnx")).write_bytes(tiny_model() + b"\x0a\x00")
    for found in _find(None, str(folder), None, 0):  # type: ignore[arg-type]
        made = adoption_statement(adoption(model=found.model, file=found.file, source=found.source))
        text = str(made)
        assert str(tmp_path) not in text
        assert "\x1b" not in text
        assert found.source.name.startswith("models/")


def test_a_reason_that_is_none_or_ends_in_a_terminal_is_refused():
    for reason in ("", "  ", "x" * 501, "\x1b[31mred"):
        with pytest.raises(UsageError):
            adoption_statement(adoption(reason=reason))


# Who signs, and for what.


def test_nobody_else_may_adopt():
    for owner in ("builder", "tester", "inspector", "gate", "maintainer", "operator"):
        with pytest.raises(VerificationError):
            verify_any(sign(adoption_statement(adoption()), people().keys(owner)), people().policy)
    data = adoption_statement(adoption())
    named = replace(data, subjects=(replace(data.subject, name="data/digits"),))
    with pytest.raises(VerificationError):
        verify_any(sign(named, people().keys("data-owner")), people().policy)


def test_another_model_in_the_package_is_not_the_adopted_one():
    other = replace(MODEL, sha256=PACKAGE)
    assert "adopted" in failed(decided(facts(model=adoption(file=other)), NOW))


def test_an_adopted_file_that_is_not_the_packages_model_opens_nothing():
    """The adopted file lies in the package beside a model that nobody adopted."""
    some = [f for f in facts() if f.type != "provenance"]
    trust, keys = people().policy, people().keys
    envelope = sign(packaged(name="labels.json"), keys("builder"))
    beside = type(some[0])(verified=verify_any(envelope, trust), index=20)
    assert failed(decided((*some, beside), NOW)) == {"adopted"}


def test_adopting_approves_nothing():
    """A pickle is adopted like anything else; the inspection and the approvers are asked all the same."""
    finding = ("inspector", inspection(PACKAGE, "foreign-format"))
    assert failed(decided(facts(finding), NOW)) == {"inspected"}
    approval = decide(POLICY, Phase.APPROVAL, facts=facts(), candidate=CANDIDATE, approvals=NOBODY, now=NOW)
    assert not isinstance(approval, Allowed)


# Who would go on after the date.


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A workspace whose only policy is that for adopted models."""
    shop = Shop.found(tmp_path, policy=adoption_policy_file(UNTIL).replace(b"name: adoption", b"name: default"))
    for fact in facts():
        shop.ledger.log(fact.verified.envelope)
    return shop


def test_after_the_date_a_proposal_is_denied_and_the_message_names_it(shop):
    late = replace(shop.gate, clock=StandingClock(UNTIL))
    draft = replace(shop.draft("1"), manifest=PACKAGE)
    done = propose(draft, host=shop.git, gate=late, by=shop.by("maintainer"))
    assert done.release is None
    assert any("2027-06-30" in verdict.message for verdict in done.decision.verdicts)


def test_a_gate_that_sets_its_clock_back_is_caught_by_every_approver(shop, monkeypatch):
    """The gate's decision is replayed with the gate's time, and holds; then each decides again by a clock of their own."""
    back = replace(shop.gate, clock=StandingClock(UNTIL - timedelta(days=1)))
    done = propose(replace(shop.draft("1"), manifest=PACKAGE), host=shop.git, gate=back, by=shop.by("maintainer"))
    assert done.release is not None
    monkeypatch.setattr("unit.release.kit.NOW", UNTIL + timedelta(days=1))
    with pytest.raises(VerificationError) as caught:
        shop.approve(done.branch, "owner-a")
    assert caught.value.code == "evidence-denied"
    assert "2027-06-30" in caught.value.message


def test_a_release_that_was_approved_in_time_is_not_merged_after_the_date(shop):
    done = propose(replace(shop.draft("1"), manifest=PACKAGE), host=shop.git, gate=shop.gate, by=shop.by("maintainer"))
    for owner in ("owner-a", "owner-b"):
        shop.approve(done.branch, owner)
    late: Gate = replace(shop.gate, clock=StandingClock(UNTIL))
    from chopmark.release import merge

    assert merge(done.branch, host=shop.git, gate=late, by=shop.by("maintainer")).commit is None
    assert shop.merge(done.branch).commit is not None


def test_a_statement_that_says_less_than_unknown_does_not_count():
    model = adoption_statement(adoption())
    for origin in ("known", "", None):
        claimed = replace(model, predicate={**model.predicate, "origin": origin})
        some = [f for f in facts() if f.type != "adoption"]
        envelope = sign(claimed, people().keys("data-owner"))
        said = type(some[0])(verified=verify_any(envelope, people().policy), index=0)
        assert "adopted" in failed(decided(lineage((said, *some), PACKAGE), NOW))
