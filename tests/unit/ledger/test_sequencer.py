# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.errors import DecodeError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.ledger import (
    MAX_ENTRY_BYTES,
    Checkpoint,
    VerifierKey,
    decode_note,
    leaf_hash,
    root_of,
    verify_checkpoint,
    verify_consistency,
    verify_proof,
)
from chopmark.ledger.feed import feed
from chopmark.ledger.sequencer import Ledger
from simulators import NOW
from unit.ledger.kit import (
    LOG_SIGNERS,
    NONE,
    ORIGIN,
    AwayClient,
    DirectClient,
    close,
    make_ledger,
    make_witness,
    open_ledger,
    policy_of,
)


@pytest.fixture
def ledger(tmp_path):
    ledger = make_ledger(tmp_path)
    yield ledger
    close(ledger)


def require(ledger):
    return [key.encode() for key in ledger.verifier_keys]


def test_entries_once_each(ledger):
    assert ledger.append([b"a", b"b", b"a"]) == (0, 1, 0)
    assert ledger.append([]) == ()
    assert ledger.append([b"c", b"b", b""]) == (2, 1, 3)
    assert ledger.entries(0, 4) == (b"a", b"b", b"c", b"")
    assert (ledger.entry(3), ledger.find(b"c"), ledger.find(b"d")) == (b"", 2, None)
    expected = root_of([leaf_hash(entry) for entry in (b"a", b"b", b"c", b"")])
    assert ledger.checkpoint == Checkpoint(origin=ORIGIN, size=4, root=expected)
    assert ledger.fsck(NONE).ok


def test_what_is_refused(ledger):
    with pytest.raises(UsageError):
        ledger.append([b"fine", bytes(MAX_ENTRY_BYTES + 1)])
    assert ledger.checkpoint.size == 0
    assert ledger.append([bytes(MAX_ENTRY_BYTES)]) == (0,)
    for wrong in (
        lambda: ledger.entry(1),
        lambda: ledger.entries(1, 0),
        lambda: ledger.prove(1),
        lambda: ledger.prove_consistency(1, 2),
    ):
        with pytest.raises(UsageError):
            wrong()
    with pytest.raises(UndecidedError, match="covers"):
        ledger.prove(0)


def test_many_sizes_and_reopening(tmp_path):
    ledger, count = make_ledger(tmp_path), 0
    for step in (255, 1, 1, 255, 300, 700):
        ledger.append([b"%d" % n for n in range(count, count + step)])
        count += step
        close(ledger)
        ledger = open_ledger(tmp_path)
        assert ledger.checkpoint.size == count
    assert ledger.checkpoint.root == root_of([leaf_hash(b"%d" % n) for n in range(count)])
    assert ledger.entries(250, 1030) == tuple(b"%d" % n for n in range(250, 1030))
    assert ledger.append([b"3"]) == (3,)
    assert ledger.fsck(NONE).problems == ()
    close(ledger)


def test_one_signed_checkpoint_per_size(tmp_path, ledger):
    first = ledger.signed_checkpoint()
    assert ledger.signed_checkpoint() == first
    ledger.append([b"a"])
    note = ledger.signed_checkpoint()
    assert note != first
    other = open_ledger(tmp_path)  # another process: ML-DSA signatures are random, the kept one is served
    assert other.signed_checkpoint() == note
    lines = decode_note(note).signatures
    assert [len(line.signature) for line in lines] == [64, 8 + 2420]
    verify_checkpoint(note, origin=ORIGIN, require=require(ledger), policy=NONE)
    close(other)


def test_signing_the_same_head_at_once_keeps_one(ledger):
    ledger.append([b"a"])
    head = ledger._heads.head()
    assert ledger._heads.keep_note(head, b"first") == b"first"
    assert ledger._heads.keep_note(head, b"second") == b"first"
    ledger.append([b"b"])
    assert ledger._heads.keep_note(head, b"third") is None


def test_two_handles_on_one_file(tmp_path):
    one = make_ledger(tmp_path)
    two = open_ledger(tmp_path)
    assert one.append([b"a"]) == (0,)
    assert two.append([b"b", b"a"]) == (1, 0)
    assert one.append([b"c", b"b"]) == (2, 1)
    assert one.checkpoint == two.checkpoint
    assert two.fsck(NONE).ok
    close(one)
    close(two)


def test_threads_share_a_ledger(ledger):
    results = {}

    def work(thread):
        results[thread] = [ledger.append([b"%d-%d" % (thread, n), b"shared-%d" % n]) for n in range(10)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.checkpoint.size == 50
    assert len({indices[0] for done in results.values() for indices in done}) == 40
    assert all(len({done[n][1] for done in results.values()}) == 1 for n in range(10))
    assert ledger.fsck(NONE).ok


WRITER = """
import sys
from pathlib import Path
from unit.ledger.kit import open_ledger, ed25519_signer
ledger = open_ledger(Path(sys.argv[1]), signers=[ed25519_signer(bytes(32))])
for n in range(40):
    print(*ledger.append([f"{sys.argv[2]}-{n}".encode(), f"shared-{n}".encode()]))
"""


def test_two_processes_append_at_once(tmp_path):
    close(make_ledger(tmp_path, signers=LOG_SIGNERS[:1]))
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    env = {"PYTHONPATH": ":".join(sys.path)}
    writers = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True, env=env) for name in ("one", "two")
    ]
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    indices = [[tuple(map(int, line.split())) for line in output.splitlines()] for output in outputs]
    assert [pair[1] for pair in indices[0]] == [pair[1] for pair in indices[1]]
    ledger = open_ledger(tmp_path, signers=LOG_SIGNERS[:1])
    assert ledger.checkpoint.size == 120
    assert ledger.fsck(NONE).ok
    for name, done in zip(("one", "two"), indices, strict=True):
        assert all(ledger.entry(pair[0]) == f"{name}-{n}".encode() for n, pair in enumerate(done))
    close(ledger)


def test_a_held_ledger_is_undecided(tmp_path, monkeypatch):
    monkeypatch.setattr("chopmark.adapters.sql.database.BUSY_SECONDS", 0.05)
    one = make_ledger(tmp_path)
    two = open_ledger(tmp_path)
    with one._store.exclusive(), pytest.raises(UndecidedError):
        two.append([b"a"])
    assert two.append([b"a"]) == (0,)
    close(one)
    close(two)


def test_a_failed_write_leaves_nothing(ledger, monkeypatch):
    ledger.append([b"a"])
    before = ledger.checkpoint
    monkeypatch.setattr(ledger._store, "_write_bundles", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ledger.append([b"b"])
    monkeypatch.undo()
    assert ledger.checkpoint == before
    assert ledger.append([b"b"]) == (1,)
    assert ledger.fsck(NONE).ok


def test_stores_are_made_once_and_belong_to_one_log(tmp_path, ledger):
    with pytest.raises(UsageError):
        sql_ledger.create(tmp_path / "ledger.db", ORIGIN)
    with pytest.raises(UndecidedError):
        sql_head.load(tmp_path / "nowhere.db")
    with pytest.raises(VerificationError):
        sql_head.load(tmp_path / "ledger.db")
    with pytest.raises(UsageError):
        open_ledger(tmp_path, origin="another.log")
    with pytest.raises(UsageError):
        open_ledger(tmp_path, signers=LOG_SIGNERS[1:])
    with pytest.raises(DecodeError):
        make_ledger(tmp_path / "new", origin="no key name")
    (tmp_path / "noise.db").write_bytes(b"noise" * 1000)
    with pytest.raises(VerificationError):
        sql_ledger.load(tmp_path / "noise.db")


def test_feeding_witnesses(ledger):
    ledger.append([b"%d" % n for n in range(5)])
    witnesses = [make_witness(f"wit{n}", ledger.verifier_keys, at=NOW + timedelta(seconds=n)) for n in range(3)]
    policy = policy_of(witnesses, 2)
    clients = {f"w{n}": DirectClient(witness) for n, witness in enumerate(witnesses)}
    fed = feed(ledger, policy, clients)
    assert fed.failed == {}
    assert fed.witnessed.cosigned_by == ("w0", "w1", "w2")
    assert fed.witnessed.cosigned_at == NOW + timedelta(seconds=1)
    assert ledger.witnessed_checkpoint() == fed.note
    for index in range(5):
        found = verify_proof(ledger.prove(index), b"%d" % index, origin=ORIGIN, require=require(ledger), policy=policy)
        assert (found.index, found.checkpoint.size) == (index, 5)

    ledger.append([b"more"])
    assert ledger.prove(4)  # still over the older one
    with pytest.raises(UndecidedError):
        ledger.prove(5)
    asked = clients["w1"].asked
    fed = feed(ledger, policy, {**clients, "w0": AwayClient()})  # consistency from 5 to 6
    assert list(fed.failed) == ["w0"]
    assert "no answer" in fed.failed["w0"]
    assert clients["w1"].asked == asked + 1  # the kept cosignature told how far it was
    assert fed.witnessed.checkpoint.size == 6
    again = feed(ledger, policy, {"w0": clients["w0"]})  # the cosignatures that are kept still count
    assert again.witnessed.cosigned_by == ("w0", "w1", "w2")
    assert ledger.fsck(policy).ok


def test_too_few_witnesses(ledger):
    ledger.append([b"a"])
    witnesses = [make_witness(f"wit{n}", ledger.verifier_keys) for n in range(2)]
    policy = policy_of(witnesses, 2)
    with pytest.raises(Refused) as caught:
        feed(ledger, policy, {"w0": DirectClient(witnesses[0]), "w1": AwayClient()})
    assert caught.value.code == "log-unwitnessed"
    assert list(caught.value.evidence["failed"]) == ["w1"]
    assert ledger.witnessed_checkpoint() is None
    assert ledger.append([b"b"]) == (1,)  # appending goes on


def test_a_witness_that_answers_nonsense(ledger):
    class Odd(AwayClient):
        def __init__(self, status, body):
            self.answer = (status, body)

        def _add_checkpoint(self, body):
            return self.answer

    ledger.append([b"a"])
    witness = make_witness("wit", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    for status, body, word in (
        (200, b"", "signature"),
        (200, b"\xff", "signature lines"),
        (200, decode_note(ledger.signed_checkpoint()).signatures[0].encode().encode(), "policy lists"),
        (409, b"99\n", "99 entries"),
        (409, b"zero", "not a size"),
        (409, b"\xff", "409"),
        (500, b"oops", "500"),
    ):
        with pytest.raises(Refused) as caught:
            feed(ledger, policy, {"w0": Odd(status, body)})
        assert word in caught.value.evidence["failed"]["w0"]


def test_no_witness_is_asked_where_the_policy_asks_none(ledger):
    ledger.append([b"a"])
    assert feed(ledger, NONE, {}).note == ledger.signed_checkpoint()
    assert verify_proof(ledger.prove(0), b"a", origin=ORIGIN, require=require(ledger), policy=NONE)


def test_only_this_logs_checkpoints_are_kept(tmp_path, ledger):
    ledger.append([b"a"])
    other = make_ledger(tmp_path / "other")
    other.append([b"b"])
    with pytest.raises(VerificationError):
        ledger.keep_witnessed(other.signed_checkpoint())
    with pytest.raises(VerificationError):
        ledger.keep_witnessed(b"nonsense")
    ledger.append([b"c"])
    newest = ledger.signed_checkpoint()
    ledger.keep_witnessed(newest)
    close(other)


def test_consistency_proofs(ledger):
    roots = [ledger.checkpoint.root]
    for n in range(20):
        ledger.append([b"%d" % n])
        roots.append(ledger.checkpoint.root)
    for old in range(1, 21):
        verify_consistency(old, roots[old], 20, roots[20], ledger.prove_consistency(old, 20))


def test_export_grows_and_refuses_other_bytes(tmp_path, ledger):
    folder = tmp_path / "public"
    ledger.append([b"%d" % n for n in range(200)])
    ledger.export(folder)
    assert (folder / "tile/0/000.p/200").exists()
    ledger.append([b"%d" % n for n in range(200, 70_000)])
    feed(ledger, NONE, {})
    checkpoint = ledger.export(folder)
    assert checkpoint.size == 70_000
    assert not (folder / "tile/0/000.p").exists()
    assert not (folder / "tile/entries/000.p").exists()
    assert (folder / "tile/0/273.p/112").stat().st_size == 112 * 32
    assert (folder / "tile/1/000").stat().st_size == 8192
    assert (folder / "tile/1/001.p/17").exists()
    assert (folder / "tile/2/000.p/1").exists()
    assert (folder / "checkpoint").read_bytes() == ledger.signed_checkpoint()
    assert (folder / "witnessed-checkpoint").exists()
    (folder / "tile/0/000").write_bytes(bytes(8192))
    with pytest.raises(VerificationError):
        ledger.export(folder)


def test_a_verifier_key_travels_as_text(ledger):
    assert [VerifierKey.decode(text) for text in require(ledger)] == list(ledger.verifier_keys)
    assert {key.kind.algorithm for key in ledger.verifier_keys} == {Algorithm.ED25519, Algorithm.ML_DSA_44}
    assert isinstance(ledger, Ledger)


def test_an_export_keeps_the_partial_tiles_that_the_witnessed_checkpoint_names(tmp_path, ledger):
    ledger.append([b"%d" % n for n in range(300)])
    ledger.keep_witnessed(ledger.signed_checkpoint())
    ledger.append([b"%d" % n for n in range(300, 600)])
    ledger.export(tmp_path / "files")
    names = {str(path.relative_to(tmp_path / "files")) for path in (tmp_path / "files").rglob("*") if path.is_file()}
    assert {"tile/0/001.p/44", "tile/entries/001.p/44", "tile/0/001", "tile/0/002.p/88"} <= names
    ledger.keep_witnessed(ledger.signed_checkpoint())
    ledger.export(tmp_path / "files")
    assert not (tmp_path / "files" / "tile/0/001.p").exists()
