# SPDX-License-Identifier: Apache-2.0
"""What the ledger's tests share: logs in a folder, witnesses in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from chopmark.adapters.kms.file import FileSigner, generate
from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.keys import Algorithm
from chopmark.ledger import WitnessPolicy
from chopmark.ledger.ports import Observed, WitnessClient, WitnessStore
from chopmark.ledger.sequencer import Ledger
from chopmark.ledger.witness import Witness
from simulators import NOW, StandingClock

ORIGIN = "log.acme/m"
NONE = WitnessPolicy.parse("quorum none\n")


def ed25519_signer(seed):
    return FileSigner(ed25519.Ed25519PrivateKey.from_private_bytes(seed))


LOG_SIGNERS = (ed25519_signer(bytes(32)), generate(Algorithm.ML_DSA_44))


def make_ledger(folder: Path, *, signers=LOG_SIGNERS, origin=ORIGIN):
    store, heads = sql_ledger.create(folder / "ledger.db", origin), sql_head.create(folder / "head.db", origin)
    return Ledger.open(store=store, heads=heads, origin=origin, signers=signers, clock=StandingClock())


def open_ledger(folder: Path, *, signers=LOG_SIGNERS, origin=ORIGIN):
    store, heads = sql_ledger.load(folder / "ledger.db"), sql_head.load(folder / "head.db")
    return Ledger.open(store=store, heads=heads, origin=origin, signers=signers, clock=StandingClock())


def close(ledger):
    ledger._store.close()
    ledger._heads.close()


class MemoryWitnessStore(WitnessStore):
    def __init__(self):
        self.seen: dict[str, Observed] = {}

    def newest(self, origin):
        return self.seen.get(origin)

    def replace(self, origin, old, new):
        if self.seen.get(origin) != old:
            return False
        self.seen[origin] = new
        return True

    def by_origin_hash(self, origin_hash):
        raise NotImplementedError


class DirectClient(WitnessClient):
    """A witness in the same process."""

    def __init__(self, witness):
        self.witness = witness
        self.asked = 0

    def _add_checkpoint(self, body):
        self.asked += 1
        answer = self.witness.add_checkpoint(body)
        return answer.status, answer.body


class AwayClient(WitnessClient):
    def _add_checkpoint(self, body):
        raise TimeoutError


def make_witness(name, log_keys, *, origin=ORIGIN, at=NOW, algorithms=(Algorithm.ED25519,), store=None):
    return Witness(
        name=name,
        signers=[generate(algorithm) for algorithm in algorithms],
        logs={origin: log_keys},
        store=store or MemoryWitnessStore(),
        clock=StandingClock(at),
    )


def policy_of(witnesses, k):
    """A policy in which k of *witnesses* are the quorum; their names are w0, w1, …"""
    lines = [f"witness w{n} {witness.verifier_keys[0].encode()}" for n, witness in enumerate(witnesses)]
    lines += [f"group all-of-them {k} " + " ".join(f"w{n}" for n in range(len(witnesses))), "quorum all-of-them"]
    return WitnessPolicy.parse("\n".join(lines) + "\n")


def load_vectors(name):
    path = Path(__file__).resolve().parents[3].parent / "shared" / "vectors" / "ledger" / name
    if not path.exists():
        pytest.skip(f"the published test vectors are not here: {name}")
    return json.loads(path.read_text(encoding="utf-8"))
