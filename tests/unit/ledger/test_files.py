# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.keys import Algorithm
from chopmark.ledger.files import LedgerFiles
from chopmark.ledger.sequencer import Ledger
from simulators import StandingClock
from unit.ledger.kit import ORIGIN


@pytest.fixture
def log(tmp_path):
    store, heads = sql_ledger.create(tmp_path / "ledger.db", ORIGIN), sql_head.create(tmp_path / "head.db", ORIGIN)
    signers = [kms.generate(Algorithm.ED25519), kms.generate(Algorithm.ML_DSA_44)]
    ledger = Ledger.open(store=store, heads=heads, origin=ORIGIN, signers=signers, clock=StandingClock())
    yield ledger, LedgerFiles(store=store, heads=heads)
    store.close()
    heads.close()


def test_what_is_served_is_what_is_exported(log, tmp_path):
    ledger, files = log
    ledger.append([b"entry %d" % i for i in range(600)])
    ledger.export(tmp_path / "out")
    exported = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert len(exported) > 5
    for path in exported:
        assert files.find(path.relative_to(tmp_path / "out").as_posix()) == path.read_bytes(), path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "witnessed-checkpoint",
        "tile/0/003",
        "tile/0/002",
        "tile/0/002.p/89",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/x000/000",
        "tile/8/000",
        "tile/entries/002.p/89",
        "tile/entries/999",
        "tile/0/../0/000",
    ],
)
def test_what_the_head_does_not_promise_is_not_there(log, path):
    ledger, files = log
    ledger.append([b"entry %d" % i for i in range(600)])
    assert files.find(path) is None


def test_the_root_at_any_size(log):
    ledger, files = log
    roots = {}
    for i in range(5):
        ledger.append([b"entry %d" % i])
        roots[i + 1] = ledger.checkpoint.root
    assert {size: files.root_at(ORIGIN, size) for size in roots} == roots
    assert files.root_at(ORIGIN, 6) is None
    assert files.root_at(ORIGIN, -1) is None
    assert files.root_at("other", 1) is None
