# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chopmark.adapters.http.witness import HttpWitness
from chopmark.adapters.kms.file import generate
from chopmark.adapters.sql import witness as sql_witness
from chopmark.errors import UndecidedError, UsageError
from chopmark.keys import Algorithm
from chopmark.ledger import (
    EMPTY_ROOT,
    Checkpoint,
    SignedNote,
    consistency_path,
    decode_lines,
    decode_note,
    leaf_hash,
    log_key,
    root_of,
    sign_checkpoint,
    verify_lines,
)
from chopmark.ledger.feed import feed
from chopmark.ledger.ports import Observed
from chopmark.ledger.witness import encode_request
from simulators import NOW
from unit.ledger.kit import LOG_SIGNERS, ORIGIN, MemoryWitnessStore, close, make_ledger, make_witness, policy_of

KEYS = [log_key(ORIGIN, signer.public) for signer in LOG_SIGNERS]
LEAVES = [leaf_hash(b"%d" % n) for n in range(20)]


def node(level, index):
    return root_of(LEAVES[index << level : (index + 1) << level])


def signed(size, *, root=None, origin=ORIGIN, signers=LOG_SIGNERS):
    checkpoint = Checkpoint(origin=origin, size=size, root=root_of(LEAVES[:size]) if root is None else root)
    return sign_checkpoint(checkpoint, signers, timestamp=5).encode()


def ask(witness, old, size, *, proof=None, note=None):
    path = proof if proof is not None else consistency_path(old, size, node) if 0 < old <= size else ()
    return witness.add_checkpoint(encode_request(old, path, note or signed(size)))


@pytest.fixture
def witness():
    return make_witness("wit", KEYS, algorithms=(Algorithm.ED25519, Algorithm.ML_DSA_44))


def test_cosigns_growth(witness):
    for old, size in ((0, 3), (3, 3), (3, 4), (4, 20), (20, 20)):
        answer = ask(witness, old, size)
        assert answer.status == 200, answer
        text = decode_note(signed(size)).text
        lines = verify_lines(text, decode_lines(answer.body.decode()), witness.verifier_keys)
        assert {line.key for line in lines} == set(witness.verifier_keys)
        assert all(line.timestamp == NOW.timestamp() for line in lines)


def test_empty_trees(witness):
    assert ask(witness, 0, 0, note=signed(0, root=bytes(32))).status == 422
    assert ask(witness, 0, 0).status == 200
    assert ask(witness, 0, 0).status == 200
    assert ask(witness, 0, 5, proof=[bytes(32)]).status == 422
    assert ask(witness, 0, 5).status == 200


def test_every_refusal(witness):
    assert ask(witness, 0, 5).status == 200
    body = encode_request(5, (), signed(5))
    malformed = [
        b"",
        b"old 5\n",
        body.replace(b"old 5", b"old 05"),
        body.replace(b"old 5", b"old -5"),
        body.replace(b"old 5", b"new 5"),
        body.replace(b"old 5", b"old\t5"),
        body.replace(b"old 5\n", b"old 5\n" + b"AAAA\n"),
        encode_request(5, [bytes(32)] * 64, signed(5)),
        encode_request(5, (), signed(5)[:-1]),
        encode_request(6, (), signed(5)),
        body + b"x" * 2**21,
    ]
    for data in malformed:
        assert witness.add_checkpoint(data).status == 400, data[:60]
    assert ask(witness, 5, 7, note=signed(7, origin="unknown.log")).status == 404
    stranger = [generate(Algorithm.ED25519)]
    assert ask(witness, 5, 7, note=signed(7, signers=stranger)).status == 403
    bad = SignedNote(text=decode_note(signed(7)).text, signatures=decode_note(signed(6)).signatures)
    assert ask(witness, 5, 7, note=bad.encode()).status == 403
    conflict = ask(witness, 4, 7)
    assert (conflict.status, conflict.body, conflict.content_type) == (409, b"5\n", "text/x.tlog.size")
    assert ask(witness, 0, 4).status == 409
    assert ask(witness, 5, 7, proof=[bytes(32)] * 3).status == 422
    assert ask(witness, 5, 7, proof=()).status == 422
    assert ask(witness, 5, 5, note=signed(5, root=bytes(32))).status == 422
    assert ask(witness, 5, 5, proof=[bytes(32)]).status == 422
    assert ask(witness, 5, 5).status == 200  # nothing of this changed what it remembers


def test_no_key_no_witness():
    with pytest.raises(UsageError):
        make_witness("wit", KEYS, algorithms=())


class RacingStore(MemoryWitnessStore):
    """Somebody else's larger tree gets in between the comparison and the change."""

    def replace(self, origin, old, new):
        if old is None:
            self.seen[origin] = Observed(size=9, root=root_of(LEAVES[:9]), note=b"")
            return False
        return super().replace(origin, old, new)


def test_check_and_persist_are_one():
    witness = make_witness("wit", KEYS, store=RacingStore())
    answer = ask(witness, 0, 3)
    assert (answer.status, answer.body) == (409, b"9\n")


def test_sqlite_memory(tmp_path):
    store = sql_witness.create(tmp_path / "witness.db")
    witness = make_witness("wit", KEYS, store=store)
    origin_hash = sha256(ORIGIN.encode()).hexdigest()
    assert witness.checkpoint(origin_hash).status == 404
    assert ask(witness, 0, 3).status == 200
    store.close()
    store = sql_witness.load(tmp_path / "witness.db")
    seen = store.newest(ORIGIN)
    assert seen.size == 3
    again = make_witness("wit", KEYS, store=store)
    assert ask(again, 0, 4).status == 409
    assert ask(again, 3, 4).status == 200
    served = decode_note(again.checkpoint(origin_hash).body)
    assert len(verify_lines(served.text, served.signatures, [*KEYS, *again.verifier_keys])) == 3
    assert again.checkpoint("no hash").status == 404
    larger = Observed(size=9, root=bytes(32), note=b"")
    assert not store.replace(ORIGIN, seen, larger)  # no longer the newest
    assert not store.replace(ORIGIN, None, larger)
    assert not store.replace(ORIGIN, store.newest(ORIGIN), seen)  # never back
    store.close()


def test_two_processes_of_one_witness(tmp_path):
    one, two = sql_witness.create(tmp_path / "witness.db"), sql_witness.load(tmp_path / "witness.db")
    answers = []
    witnesses = [make_witness("wit", KEYS, store=store) for store in (one, two)]
    threads = [
        threading.Thread(target=lambda w=w, size=size: answers.append((size, ask(w, 0, size).status)))
        for w, size in zip(witnesses * 3, (3, 5, 7, 9, 11, 13), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cosigned = [size for size, status in answers if status == 200]
    assert len(cosigned) == 1
    assert one.newest(ORIGIN).size == cosigned[0]
    one.close()
    two.close()


@pytest.fixture
def server(witness):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/w/add-checkpoint":
                answer = witness.add_checkpoint(body)
                self.respond(answer.status, answer.body)
            elif self.path.startswith("/long"):
                self.respond(200, b"x" * 200_000)
            else:
                self.send_response(302)
                self.send_header("Location", "/w/add-checkpoint")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def respond(self, status, data):
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_over_http(tmp_path, witness, server):
    ledger = make_ledger(tmp_path)
    ledger.append([b"a", b"b"])
    fed = feed(ledger, policy_of([witness], 1), {"w0": HttpWitness(f"{server}/w/")})
    assert fed.witnessed.cosigned_by == ("w0",)
    assert HttpWitness(f"{server}/moved").add_checkpoint(b"x")[0] == 302  # not followed
    with pytest.raises(Exception, match="too long"):
        HttpWitness(f"{server}/long").add_checkpoint(b"x")
    close(ledger)


def test_nobody_there():
    with pytest.raises(UndecidedError) as caught:
        HttpWitness("http://127.0.0.1:1").add_checkpoint(b"x")
    assert caught.value.code == "witness-unreachable"
    with pytest.raises(UsageError):
        HttpWitness("file:///etc/passwd")


def test_an_empty_root_is_what_the_specification_says():
    assert Checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT).encode().splitlines()[1] == "0"
